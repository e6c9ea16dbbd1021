"""What other libraries do with one slice, and how a stack is given to them.

Buffers are allocated beforehand. Each function takes the slice, the image to fill and
two more to work in, all float32 but the slice.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import threads
from peers.table import Library

Array = NDArray[Any]
OneSlice = Callable[[Array, Array, Array, Array], None]


def opencv_separable(image: Array, out: Array, gy: Array, gx: Array) -> None:
    """Fill `out` with |∇Y| by `cv2.sepFilter2D`, slower than `cv2.Sobel` in most runs of the ledger."""
    import cv2

    across, along = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
    cv2.sepFilter2D(image, cv2.CV_32F, along, across, dst=gy, borderType=cv2.BORDER_REPLICATE)
    cv2.sepFilter2D(image, cv2.CV_32F, across, along, dst=gx, borderType=cv2.BORDER_REPLICATE)
    cv2.magnitude(gx, gy, magnitude=out)


def opencv_sobel(image: Array, out: Array, gy: Array, gx: Array) -> None:
    """Fill `out` with |∇Y| by `cv2.Sobel`."""
    opencv_components(image, gy, gx)
    import cv2

    cv2.magnitude(gx, gy, magnitude=out)


def opencv_components(image: Array, gy: Array, gx: Array) -> None:
    """Fill `gy` and `gx` by `cv2.Sobel`."""
    import cv2

    cv2.Sobel(image, cv2.CV_32F, 0, 1, dst=gy, borderType=cv2.BORDER_REPLICATE)
    cv2.Sobel(image, cv2.CV_32F, 1, 0, dst=gx, borderType=cv2.BORDER_REPLICATE)


def opencv_standardized(image: Array, out: Array, gy: Array, gx: Array) -> None:
    """Fill `out` with |∇Y| less its mean, over its deviation."""
    import cv2

    opencv_sobel(image, out, gy, gx)
    mean, deviation = cv2.meanStdDev(out)
    np.subtract(out, np.float32(mean[0, 0]), out=out)
    np.multiply(out, np.float32(1 / deviation[0, 0]), out=out)


def scipy_components(image: Array, gy: Array, gx: Array) -> None:
    """Fill `gy` and `gx`."""
    import scipy.ndimage

    scipy.ndimage.sobel(image, 0, output=gy, mode="nearest")
    scipy.ndimage.sobel(image, 1, output=gx, mode="nearest")


def scipy_magnitude(image: Array, out: Array, gy: Array, gx: Array) -> None:
    """Fill `out` with |∇Y|; the root of a sum of squares is faster than `numpy.hypot`."""
    scipy_components(image, gy, gx)
    np.multiply(gy, gy, out=gy)
    np.multiply(gx, gx, out=gx)
    np.add(gy, gx, out=out)
    np.sqrt(out, out=out)


def scipy_standardized(image: Array, out: Array, gy: Array, gx: Array) -> None:
    """Fill `out` with |∇Y| less its mean, over its deviation."""
    scipy_magnitude(image, out, gy, gx)
    np.subtract(out, out.mean(), out=out)
    np.multiply(out, np.float32(1 / out.std()), out=out)


def skimage_magnitude(image: Array, out: Array, _gy: Array, _gx: Array) -> None:
    """Fill `out` with |∇Y|: scikit-image divides by 4√2, and scales integers."""
    import skimage.filters

    divided = skimage.filters.sobel(image.astype(np.float32, copy=False), mode="nearest")
    np.multiply(divided, np.float32(4 * np.sqrt(2)), out=out)


def opencv_threads(number: Callable[[], int]) -> Callable[[], None]:
    """Return what sets the number of OpenCV's own threads."""

    def set_threads() -> None:
        import cv2

        cv2.setNumThreads(number())

    return set_threads


ONE_OPENCV_THREAD = opencv_threads(lambda: 1)


def by_slices(
    name: str, setting: str, module: str, one: OneSlice, *, number: int | None = None, **options: Any
) -> Library:
    """Return a library that fills a stack by a call a slice, by default on all threads."""

    def prepare(given: Array) -> Callable[[], Array]:
        out = np.empty(given.shape, np.float32)
        buffers = np.empty((number or threads.count(), 2, *given.shape[1:]), np.float32)
        fill = threads.in_shares(len(given), lambda k, i: one(given[i], out[i], *buffers[k]), number)

        def call() -> Array:
            fill()
            return out

        return call

    return Library(name, setting, module, prepare, **options)


def opencv(one: OneSlice, function: str, name: str = "OpenCV") -> Library:
    """Return OpenCV as it is fastest on small slices: on one thread each."""
    return by_slices(name, f"{function}, a slice a thread", "cv2", one, before=ONE_OPENCV_THREAD)


def opencv_own_threads(one: OneSlice, function: str, name: str = "OpenCV") -> Library:
    """Return OpenCV with threads of its own inside each slice."""
    before = opencv_threads(threads.count)
    return by_slices(name, f"{function}, its own threads", "cv2", one, number=1, before=before)
