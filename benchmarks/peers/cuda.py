"""Arrays on a GPU and calls that end when its work does."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers.table import Library

Array = NDArray[Any]

# What ours on a GPU depends on, beside Numba.
COMPILERS = ("numba_cuda", "cupy")


def missing() -> str | None:
    """Return why there is nothing to measure on, or None where there is a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy isn't installed: install eigenfeatures[gpu]"
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no GPU: {error}"
    return None


def name() -> str:
    """Return the GPU's name."""
    import cupy

    return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


def driver() -> str:
    """Return which CUDA the driver and the runtime are of."""
    from cupy.cuda import runtime

    given, used = (
        f"{version // 1000}.{version % 1000 // 10}"
        for version in (runtime.driverGetVersion(), runtime.runtimeGetVersion())
    )
    return f"driver of CUDA {given}, runtime {used}"


def to_device(host: Array) -> tuple[Any, float]:
    """Return the array on the GPU, and the seconds of the transfer."""
    import cupy

    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    array = cupy.asarray(host)
    cupy.cuda.Device().synchronize()
    return array, time.perf_counter() - start


class Queued:
    """A call that waits until the GPU has done its work, whichever library's stream that is on."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __call__(self, times: int = 1) -> Any:
        """Make the call some times, one queued after the other, wait once, and return the last answer."""
        import cupy

        for _ in range(times):
            answer = self._call()
        cupy.cuda.Device().synchronize()
        return answer


def by_torch(function: Callable[[Any], Any], *, compiled: bool = False) -> Callable[[Any], Callable[[], Any]]:
    """Return the set-up of a function of torch tensors, for CuPy's arrays; eager or compiled."""

    def prepare(given: Any) -> Callable[[], Any]:
        import torch

        tensor = torch.from_dlpack(given)
        run = torch.compile(function) if compiled else function

        def call() -> Any:
            with torch.inference_mode():
                return run(tensor)

        return Queued(call)

    return prepare


def by_cupy(function: Callable[[Any], Any]) -> Callable[[Any], Callable[[], Any]]:
    """Return the set-up of a function of CuPy's arrays."""
    return lambda given: Queued(lambda: function(given))


def our_library(prepare: Callable[[Any], Callable[[], Any]]) -> Library:
    """Return ours with the kernels of numba-cuda, which CuPy launches."""
    return Library("eigenfeatures", "", "numba", prepare, "ours", also=COMPILERS)


def ours(
    function: Callable[..., Any], *arguments: Any, fill: bool = False
) -> Callable[[Any], Callable[[], Any]]:
    """Return the set-up of one of our functions, which follows the array's device."""

    def prepare(given: Any) -> Callable[[], Any]:
        import cupy

        out = {"out": cupy.empty(given.shape, np.float32)} if fill else {}
        return Queued(lambda: function(given, *arguments, backend="cuda", **out))

    return prepare
