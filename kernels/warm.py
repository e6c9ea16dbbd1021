"""Compile all kernels ahead: inputs just large enough for several threads go through every function."""

import importlib
import math
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from eigenfeatures.kernels import cpu
from eigenfeatures.kernels.call import Backend
from eigenfeatures.kernels.channels import strongest_channel
from eigenfeatures.kernels.cpu.compile import SMALL, Kernel
from eigenfeatures.kernels.cpu.separate import Separate
from eigenfeatures.kernels.cpu.statistics import SLICE
from eigenfeatures.kernels.gradient import gradient, gradient_magnitude, standardized_gradient
from eigenfeatures.kernels.gram import gram
from eigenfeatures.kernels.statistics import slice_statistics
from eigenfeatures.kernels.streaming import StreamingSVD
from eigenfeatures.kernels.svd import truncated_svd

# What the loops take as it is; all other types widen to one of these.
DTYPES = ("uint8", "uint16", "float32", "float64")


# Sides of an image, and of nine response maps, that are large enough for several threads.
_SIDE, _CHANNELS = math.isqrt(SMALL) + 1, 9
_MAP_SIDE = math.isqrt(SMALL // _CHANNELS) + 1

# Of responses: as they are, and so large that sums of products would leave the range of numbers.
_SCALES: MappingProxyType[str, tuple[float, ...]] = MappingProxyType(
    {"float32": (1.0, 1e30), "float64": (1.0, 1e100)}
)


class Compiled(NamedTuple):
    """How a function's kernels came to be."""

    name: str
    compiled: int
    from_cache: int
    seconds: float


def warm(dtypes: Iterable[str] = DTYPES, backend: Backend = "cpu") -> Iterator[Compiled]:
    """Call each public function on small inputs of each type, and yield what that compiled.

    On the CPU with one of Numba's threads, which runs the serial builds, and with all of them. What
    one function has compiled is there for those that follow.

    Parameters
    ----------
    dtypes
        Of `DTYPES`.
    backend
        ``"cpu"`` or ``"cuda"``; a kernel for a GPU is compiled for the device at hand.

    Yields
    ------
    Compiled

    Raises
    ------
    TypeError
        Where `dtypes` is one name and no sequence of them.
    ValueError
        Where a type is none of `DTYPES`.
    OSError
        Where a GPU is asked for and its packages or the device are missing.
    """
    if isinstance(dtypes, str):
        raise TypeError(f"dtypes is {dtypes!r}; give a sequence, such as {DTYPES[:1]}")
    dtypes = tuple(dtypes)
    unknown = [dtype for dtype in dtypes if dtype not in DTYPES]
    if unknown:
        raise ValueError(f"no type {unknown[0]!r} in dtypes; choose from {', '.join(DTYPES)}")
    threads = numba.get_num_threads()
    try:
        for name, function in _FUNCTIONS.items():
            before, start = _counts(backend), time.perf_counter()
            for count in sorted({1, threads}) if backend == "cpu" else (threads,):
                numba.set_num_threads(count)
                for dtype in dtypes:
                    function(np.dtype(dtype), backend)
            after = _counts(backend)
            yield Compiled(name, after[0] - before[0], after[1] - before[1], time.perf_counter() - start)
    finally:
        numba.set_num_threads(threads)


def cache_folder() -> str:
    """Return where the compiled kernels for the CPU lie.

    Raises
    ------
    OSError
        Where no folder for them can be written.
    """
    folder = next(_dispatchers("cpu")).stats.cache_path
    if folder is None:
        raise OSError("no folder for compiled kernels can be written; let NUMBA_CACHE_DIR name one that can")
    return str(folder)


def _counts(backend: Backend) -> tuple[int, int]:
    """Return how many signatures this process has compiled and how many it has loaded."""
    stats = [dispatcher.stats for dispatcher in _dispatchers(backend)]
    return (
        sum(sum(item.cache_misses.values()) for item in stats),
        sum(sum(item.cache_hits.values()) for item in stats),
    )


def _dispatchers(backend: Backend) -> Iterator[Any]:
    """Yield all that Numba compiles for a backend."""
    if backend == "cuda":
        registry = importlib.import_module("eigenfeatures.kernels.cuda.compile").REGISTRY
        yield from (kernel.dispatcher for kernel in registry)
        return
    for module in pkgutil.iter_modules(cpu.__path__):
        name = f"{cpu.__name__}.{module.name}"
        for value in vars(importlib.import_module(name)).values():
            for candidate in vars(value).values() if isinstance(value, Kernel | Separate) else (value,):
                # Helpers are imported by other modules, and count in their own.
                if isinstance(candidate, Dispatcher) and candidate.py_func.__module__ == name:
                    yield candidate


def _values(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def _responses(dtype: np.dtype[Any]) -> NDArray[Any]:
    return _values((1, _CHANNELS, _MAP_SIDE, _MAP_SIDE), dtype)


def _gradient(dtype: np.dtype[Any], backend: Backend) -> None:
    gradient(_values((1, _SIDE, _SIDE), dtype), backend=backend)


def _gradient_magnitude(dtype: np.dtype[Any], backend: Backend) -> None:
    gradient_magnitude(_values((1, _SIDE, _SIDE), dtype), backend=backend)


def _standardized_gradient(dtype: np.dtype[Any], backend: Backend) -> None:
    # Beside a small slice the smallest that has kernels of its own.
    large = SLICE // np.dtype(np.float32).itemsize + 1
    for height, width in ((_SIDE, _SIDE), (1, large)):
        standardized_gradient(_values((1, height, width), dtype), backend=backend)


def _slice_statistics(dtype: np.dtype[Any], backend: Backend) -> None:
    for slices in (_values((1, _SIDE, _SIDE), dtype), np.ones((1, _SIDE, _SIDE), dtype)):  # the latter blank
        slice_statistics(slices, backend=backend)


def _strongest_channel(dtype: np.dtype[Any], backend: Backend) -> None:
    strongest_channel(_responses(dtype), backend=backend)


def _gram(dtype: np.dtype[Any], backend: Backend) -> None:
    responses = _responses(dtype)
    gram(responses, backend=backend)
    gram(_values((SMALL, 1, 2, 1), dtype), backend=backend)  # slices of few pixels
    if dtype == np.float32:
        gram(responses * np.float32(1e30), backend=backend)  # in float64


def _truncated_svd(dtype: np.dtype[Any], backend: Backend) -> None:
    responses = _responses(dtype)
    # Copies that the search makes, to centre or to scale, are other arrays to the compiler.
    for scale in _SCALES.get(dtype.name, (1.0,)):
        for center in (False, True):
            for max_passes, rank in ((20, 1), (0, 1), (0, _CHANNELS)):
                truncated_svd(
                    responses * dtype.type(scale), rank, center=center, max_passes=max_passes, backend=backend
                )


def _streamed(dtype: np.dtype[Any], backend: Backend) -> None:
    responses: Any = _responses(dtype)[0]
    if backend == "cuda":  # the class computes where its parts lie
        responses = importlib.import_module("eigenfeatures.kernels.cuda.memory").to_device(responses)
    for rank, center in ((1, False), (2, False), (2, True)):
        stream = StreamingSVD(rank, center=center)
        stream.add(responses)
        stream.left(responses)


_FUNCTIONS: MappingProxyType[str, Callable[[np.dtype[Any], Backend], None]] = MappingProxyType(
    {
        "gradient": _gradient,
        "gradient_magnitude": _gradient_magnitude,
        "standardized_gradient": _standardized_gradient,
        "slice_statistics": _slice_statistics,
        "strongest_channel": _strongest_channel,
        "gram": _gram,
        "truncated_svd": _truncated_svd,
        "StreamingSVD": _streamed,
    }
)
