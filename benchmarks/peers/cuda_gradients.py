"""Gradients on a GPU."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from eigenfeatures.kernels import gradient, gradient_magnitude, slice_statistics, standardized_gradient
from peers import cuda, images, torch_gradients
from peers.checks import CloseTo
from peers.gradients import check_of_magnitude
from peers.table import EVERY_PEER, Check, Library, Operation, Target, Work

SIZES = {"smallest": (3, 19, 23), "quick": (64, 266, 266), "full": (1064, 266, 266)}

# Slices of a stack that are checked, at least: on the CPU all of them take longer than all that is measured.
_CHECKED = 64


def _components(given: Any) -> tuple[Any, ...]:
    """Return (gy, gx) as `cupyx.scipy.ndimage.sobel` does, but for a whole stack at once."""
    import cupy
    from cupyx.scipy.ndimage import correlate1d

    difference, weights = cupy.array([-1.0, 0.0, 1.0]), cupy.array([1.0, 2.0, 1.0])
    return tuple(
        correlate1d(
            correlate1d(given, difference, axis=axis, mode="nearest", output=np.float32),
            weights,
            axis=3 - axis,
            mode="nearest",
            output=np.float32,
        )
        for axis in (1, 2)
    )


def _magnitude(given: Any) -> Any:
    import cupy

    gy, gx = _components(given)
    return cupy.sqrt(gy * gy + gx * gx)


def _standardized(given: Any) -> Any:
    size = _magnitude(given)
    return (size - size.mean(axis=(1, 2), keepdims=True)) / size.std(axis=(1, 2), keepdims=True)


def _statistics(given: Any) -> tuple[Any, ...]:
    size = _magnitude(given)
    axes, wide = (1, 2), np.float64  # in float32 a mean of squares is off by more than is allowed
    mean_gradient = size.mean(axis=axes, dtype=wide)
    return (
        given.mean(axis=axes, dtype=wide),
        given.std(axis=axes, dtype=wide),
        mean_gradient,
        mean_gradient * size[0].size,
        size.std(axis=axes, dtype=wide),
    )


def every_so_many(slices: Any) -> Any:
    """Return slices spread over the stack, the last among them.

    Their step is odd: slices of 266 × 266 bytes begin in turn at every fourth byte of sixteen, and stacks
    repeat a few slices.
    """
    step = max(1, (len(slices) // _CHECKED - 1) | 1)
    return slices[(len(slices) - 1) % step :: step]


class OfSome:
    """The check of some slices by the check of a whole answer."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def __call__(self, answer: Any) -> None:
        """Raise `WrongAnswer` unless those slices are right."""
        several = isinstance(answer, tuple | list)
        self._check([every_so_many(part) for part in answer] if several else every_so_many(answer))

    def wrong(self, answer: Any) -> Iterator[tuple[str, Any]]:
        """Yield answers of which those slices are wrong."""
        return self._check.wrong(answer)


class _Copy:
    """A copy of as many bytes in all as an operation that writes so many float32 images reads and writes."""

    def __init__(self, written: int) -> None:
        self._written = written

    def source(self, given: Any) -> Any:
        """Return the bytes to copy: those of the input, repeated."""
        import cupy

        size = (given.nbytes + 4 * self._written * given.size) // 2
        data = given.reshape(-1).view(np.uint8)
        return cupy.tile(data, -(-size // data.size))[:size]

    def __call__(self, given: Any) -> Callable[[], Any]:
        """Return what copies once."""
        import cupy

        source = self.source(given)
        out = cupy.empty_like(source)

        def call() -> Any:
            cupy.copyto(out, source)
            return out

        return cuda.Queued(call)

    def check(self, given: Any) -> Check:
        """Return the check of the copy."""
        return CloseTo(self.source(given).get(), bound=0.0)


def _device_copy(written: int) -> Library:
    copy = _Copy(written)
    return Library("device copy", "", "cupy", copy, "roof", check=copy.check)


def _summing(given: Any) -> Callable[[], Any]:
    return cuda.Queued(lambda: given.sum(dtype=np.float32 if given.dtype == np.float32 else np.int64))


def _summed(given: Any) -> Check:
    return CloseTo(np.array(given.sum(dtype=np.float64).get()), bound=1e-4)


COPY, COPY_TO_TWO = _device_copy(1), _device_copy(2)
READ = Library("one read", "cupy.sum", "cupy", _summing, "roof", check=_summed)


def _work(
    dtype: type[np.generic], check: Callable[[Any], Check], written: int
) -> Callable[[tuple[int, ...]], Work]:
    """Return what makes the input; `written` images of float32 are the least to write a slice."""

    def prepare(shape: tuple[int, ...]) -> Work:
        host = images.noise(shape).astype(dtype)
        given, transfer = cuda.to_device(host)
        size = host.nbytes + 4 * written * host.size
        judge = OfSome(check(every_so_many(host)))
        return Work(given, judge, images.size_of(shape), bytes=size, transfer=transfer)

    return prepare


def _check_of_components(host: Any) -> Check:
    components = zip(*(images.sobel(image) for image in host), strict=True)
    return CloseTo(*(np.stack(component).astype(np.float32) for component in components))


def _check_of_standardized(host: Any) -> Check:
    return CloseTo(np.stack([images.standardized(image).astype(np.float32) for image in host]))


def _check_of_statistics(host: Any) -> Check:
    return CloseTo(*np.array([images.statistics(image) for image in host]).T)


def _torch(by_shifts: Callable[[Any], Any]) -> tuple[Library, ...]:
    return (
        Library("torch", "shifts, eager", "torch", cuda.by_torch(by_shifts)),
        Library("torch", "shifts, compiled", "torch", cuda.by_torch(by_shifts, compiled=True)),
    )


_MAGNITUDES = (
    cuda.our_library(cuda.ours(gradient_magnitude, fill=True)),
    Library("torch", "conv2d, eager", "torch", cuda.by_torch(torch_gradients.magnitude_by_conv2d)),
    Library(
        "torch",
        "conv2d, compiled",
        "torch",
        cuda.by_torch(torch_gradients.magnitude_by_conv2d, compiled=True),
    ),
    *_torch(torch_gradients.magnitude_by_shifts),
    Library("kornia", "sobel", "kornia", cuda.by_torch(torch_gradients.magnitude_by_kornia)),
    Library("CuPy", "ndimage.correlate1d", "cupy", cuda.by_cupy(_magnitude)),
    COPY,
)
_NOT_SLOWER = Target(EVERY_PEER, 1.0, "not slower than any peer")
_NEAR_COPY = Target(COPY.name, 0.85, "≥ 0.85 × the speed of a device copy")

OPERATIONS = (
    *(
        Operation(
            f"CUDA gradient_magnitude, {dtype.__name__}",
            SIZES,
            _work(dtype, check_of_magnitude, written=1),
            _MAGNITUDES,
            (_NEAR_COPY, _NOT_SLOWER),
            "cuda",
        )
        for dtype in (np.float32, np.uint8)
    ),
    Operation(
        "CUDA standardized_gradient, uint8",
        SIZES,
        _work(np.uint8, _check_of_standardized, written=1),
        (
            cuda.our_library(cuda.ours(standardized_gradient, fill=True)),
            *_torch(torch_gradients.standardized_by_shifts),
            Library("CuPy", "ndimage.correlate1d", "cupy", cuda.by_cupy(_standardized)),
            COPY,
        ),
        (_NOT_SLOWER,),
        "cuda",
    ),
    Operation(
        "CUDA slice_statistics, uint8",
        SIZES,
        _work(np.uint8, _check_of_statistics, written=0),
        (
            cuda.our_library(cuda.ours(slice_statistics)),
            *_torch(torch_gradients.statistics_by_shifts),
            Library("CuPy", "ndimage.correlate1d", "cupy", cuda.by_cupy(_statistics)),
            READ,
        ),
        (_NOT_SLOWER,),
        "cuda",
    ),
    Operation(
        "CUDA gradient, float32",
        SIZES,
        _work(np.float32, _check_of_components, written=2),
        (
            cuda.our_library(cuda.ours(gradient)),
            *_torch(torch_gradients.components_by_shifts),
            Library("CuPy", "ndimage.correlate1d", "cupy", cuda.by_cupy(_components)),
            COPY_TO_TWO,
        ),
        (_NOT_SLOWER,),
        "cuda",
    ),
)
