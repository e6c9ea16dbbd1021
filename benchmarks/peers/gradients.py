"""Sobel gradients of a stack, and the network's input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels import gradient, gradient_magnitude, standardized_gradient
from peers import images, roofs, slices, threads, torch_gradients
from peers.checks import CloseTo
from peers.table import Library, Operation, Target, Work

Array = NDArray[Any]

SIZES = {"smallest": (3, 19, 23), "quick": (48, 266, 266), "full": (266, 266, 266)}


def filling(function: Callable[..., Any]) -> Callable[[Array], Callable[[], Any]]:
    """Return the set-up of one of our functions that fills `out`."""
    return lambda given: partial(function, given, out=np.empty(given.shape, np.float32))


def check_of_magnitude(given: Array) -> CloseTo:
    """Return the check of |∇Y|."""
    return CloseTo(np.stack([images.magnitude(image).astype(np.float32) for image in given]))


def _magnitude(dtype: type[np.generic]) -> Callable[[tuple[int, ...]], Work]:
    def prepare(shape: tuple[int, ...]) -> Work:
        given = images.noise(shape).astype(dtype)
        return _filled(given, check_of_magnitude(given))

    return prepare


def _standardized(shape: tuple[int, ...]) -> Work:
    given = images.noise(shape)
    return _filled(
        given, CloseTo(np.stack([images.standardized(image).astype(np.float32) for image in given]))
    )


def _filled(given: Array, check: CloseTo) -> Work:
    """Return work that reads a stack and writes one of float32."""
    return Work(given, check, images.size_of(given.shape), bytes=given.nbytes + 4 * given.size)


def _components(shape: tuple[int, ...]) -> Work:
    given = images.noise(shape).astype(np.float32)
    components = zip(*(images.sobel(image) for image in given), strict=True)
    check = CloseTo(*(np.stack(component).astype(np.float32) for component in components))
    return Work(
        given, check, images.size_of(shape), bytes=3 * given.nbytes, about="new arrays for the results"
    )


def _into_new_arrays(one: Callable[..., None]) -> Callable[[Array], Callable[[], tuple[Array, Array]]]:
    """Return the set-up of a library's (gy, gx), which makes new arrays as ours does."""

    def prepare(given: Array) -> Callable[[], tuple[Array, Array]]:
        fill = threads.in_shares(len(given), lambda _, i, gy, gx: one(given[i], gy[i], gx[i]))

        def call() -> tuple[Array, Array]:
            gy, gx = np.empty_like(given), np.empty_like(given)
            fill(gy, gx)
            return gy, gx

        return call

    return prepare


OUR_MAGNITUDE = Library(
    "gradient_magnitude", "ours", "numba", filling(gradient_magnitude), "other", check=check_of_magnitude
)

_MAGNITUDES = (
    Library("eigenfeatures", "", "numba", filling(gradient_magnitude), "ours"),
    slices.opencv(slices.opencv_separable, "sepFilter2D"),
    slices.opencv(slices.opencv_sobel, "Sobel"),
    slices.opencv_own_threads(slices.opencv_sobel, "Sobel"),
    slices.by_slices("SciPy", "a slice a thread", "scipy", slices.scipy_magnitude),
    slices.by_slices("SciPy", "one thread", "scipy", slices.scipy_magnitude, number=1),
    slices.by_slices("scikit-image", "a slice a thread", "skimage", slices.skimage_magnitude),
    slices.by_slices("scikit-image", "one thread", "skimage", slices.skimage_magnitude, number=1),
    Library("torch", "conv2d", "torch", torch_gradients.filling_batches(torch_gradients.magnitude_by_conv2d)),
    Library("torch", "shifts", "torch", torch_gradients.filling_batches(torch_gradients.magnitude_by_shifts)),
    Library(
        "kornia", "sobel", "kornia", torch_gradients.filling_batches(torch_gradients.magnitude_by_kornia)
    ),
)

OPERATIONS = (
    Operation(
        "gradient_magnitude, float32",
        SIZES,
        _magnitude(np.float32),
        (*_MAGNITUDES, roofs.COPY),
        (
            Target(roofs.COPY.name, 0.9, "≥ 0.9 × the speed of a copy of the same bytes"),
            Target("OpenCV", 3, "≥ 3 × OpenCV"),
            Target("SciPy", 30, "≥ 30 × SciPy"),
            Target("scikit-image", 30, "≥ 30 × scikit-image"),
        ),
    ),
    Operation(
        "gradient_magnitude, uint8",
        SIZES,
        _magnitude(np.uint8),
        (*_MAGNITUDES, roofs.CONVERSION),
        (
            Target(
                roofs.CONVERSION.name,
                0.7,
                "≥ 0.7 × the speed of a uint8→float32 conversion that does nothing else",
            ),
        ),
    ),
    Operation(
        "standardized_gradient, uint8",
        SIZES,
        _standardized,
        (
            Library("eigenfeatures", "", "numba", filling(standardized_gradient), "ours"),
            slices.opencv(slices.opencv_standardized, "Sobel", "OpenCV and NumPy"),
            slices.opencv_own_threads(slices.opencv_standardized, "Sobel", "OpenCV and NumPy"),
            slices.by_slices("SciPy", "a slice a thread", "scipy", slices.scipy_standardized),
            Library(
                "torch",
                "shifts",
                "torch",
                torch_gradients.filling_batches(torch_gradients.standardized_by_shifts),
            ),
            OUR_MAGNITUDE,
            roofs.CONVERSION,
        ),
        (
            Target("OpenCV and NumPy", 4, "≥ 4 × OpenCV and NumPy"),
            Target(OUR_MAGNITUDE.name, 1 / 1.3, "at most 1.3 × the time of gradient_magnitude"),
        ),
    ),
    Operation(
        "gradient, float32",
        SIZES,
        _components,
        (
            Library("eigenfeatures", "", "numba", lambda given: partial(gradient, given), "ours"),
            Library(
                "OpenCV",
                "Sobel, a slice a thread",
                "cv2",
                _into_new_arrays(slices.opencv_components),
                before=slices.ONE_OPENCV_THREAD,
            ),
            Library("SciPy", "a slice a thread", "scipy", _into_new_arrays(slices.scipy_components)),
            Library(
                "torch", "shifts", "torch", torch_gradients.in_batches(torch_gradients.components_by_shifts)
            ),
            roofs.COPY_TWICE,
        ),
    ),
)
