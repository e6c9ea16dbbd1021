"""Statistics of slices and of their |∇Y|."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels import slice_statistics
from peers import images, roofs, slices, threads, torch_gradients
from peers.checks import CloseTo
from peers.gradients import OUR_MAGNITUDE, SIZES
from peers.table import Library, Operation, Target, Work

Array = NDArray[Any]


def _work(shape: tuple[int, ...]) -> Work:
    given = images.noise(shape)
    expected = np.array([images.statistics(image) for image in given]).T
    return Work(given, CloseTo(*expected), images.size_of(shape), bytes=given.nbytes)


def _by_slices(one: Callable[..., tuple[float, ...]]) -> Callable[[Array], Callable[[], tuple[Array, ...]]]:
    """Return the set-up of a function that measures one slice, with three images to work in."""

    def prepare(given: Array) -> Callable[[], tuple[Array, ...]]:
        measured = np.empty((len(given), 5))
        buffers = np.empty((threads.count(), 3, *given.shape[1:]), np.float32)

        def measure(k: int, i: int) -> None:
            measured[i] = one(given[i], *buffers[k])

        fill = threads.in_shares(len(given), measure)

        def call() -> tuple[Array, ...]:
            fill()
            return tuple(measured.T)

        return call

    return prepare


def _opencv(image: Array, size: Array, gy: Array, gx: Array) -> tuple[float, ...]:
    import cv2

    slices.opencv_sobel(image, size, gy, gx)
    (mean, deviation), (mean_gradient, deviation_gradient) = (
        (values[0, 0] for values in cv2.meanStdDev(array)) for array in (image, size)
    )
    return mean, deviation, mean_gradient, mean_gradient * image.size, deviation_gradient


def _scipy(image: Array, size: Array, gy: Array, gx: Array) -> tuple[float, ...]:
    slices.scipy_magnitude(image, size, gy, gx)
    mean_gradient = size.mean()
    return image.mean(), image.std(), mean_gradient, mean_gradient * image.size, size.std()


OPERATIONS = (
    Operation(
        "slice_statistics, uint8",
        SIZES,
        _work,
        (
            Library("eigenfeatures", "", "numba", lambda given: partial(slice_statistics, given), "ours"),
            Library(
                "OpenCV and NumPy",
                "Sobel, a slice a thread",
                "cv2",
                _by_slices(_opencv),
                before=slices.ONE_OPENCV_THREAD,
            ),
            Library("SciPy and NumPy", "a slice a thread", "scipy", _by_slices(_scipy)),
            Library(
                "torch", "shifts", "torch", torch_gradients.in_batches(torch_gradients.statistics_by_shifts)
            ),
            OUR_MAGNITUDE,
            roofs.READ,
        ),
        (Target(OUR_MAGNITUDE.name, 1.0, "faster than gradient_magnitude"),),
    ),
)
