"""One table of peers: what a user could call instead of a kernel, and how its answer is checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.ndimage
import scipy.sparse.linalg
import skimage.filters
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from eigenfeatures.kernels import gradient_magnitude, standardized_gradient, truncated_svd

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """Work that several libraries do.

    Attributes
    ----------
    work : Array
        What each call is given.
    check : callable
        Raises `AssertionError` for a wrong answer, so that none is timed.
    calls : mapping
        Name of the library to its call; ours is first.
    """

    work: Array
    check: Callable[[Any], None]
    calls: Mapping[str, Callable[[Array], Any]]


def operations() -> dict[str, Operation]:
    """Return every operation by its name."""
    draw = np.random.default_rng(0)
    slices = draw.integers(0, 255, (32, 266, 266), np.uint8)
    floats = slices.astype(np.float32)
    responses = _responses(draw)
    return {
        "gradient_magnitude, float32, 32×266²": Operation(
            floats,
            _close_to(np.stack([_scipy_magnitude(image) for image in floats])),
            {
                "eigenfeatures": gradient_magnitude,
                "OpenCV": lambda images: np.stack([_opencv_magnitude(image) for image in images]),
                "SciPy": lambda images: np.stack([_scipy_magnitude(image) for image in images]),
                "scikit-image": lambda images: np.stack([_skimage_magnitude(image) for image in images]),
            },
        ),
        "standardized_gradient, uint8, 32×266²": Operation(
            slices,
            _close_to(_standardized(np.stack([_scipy_magnitude(image) for image in floats]))),
            {
                "eigenfeatures": standardized_gradient,
                "OpenCV and NumPy": lambda images: _standardized(
                    np.stack([_opencv_magnitude(image.astype(np.float32)) for image in images])
                ),
            },
        ),
        "truncated_svd, rank 1, 133²×128, cold": Operation(
            responses,
            _leading_vector_of(responses),
            {
                "eigenfeatures": lambda maps: truncated_svd(maps).u[0],
                "ARPACK": lambda maps: scipy.sparse.linalg.svds(_matrix(maps), k=1, random_state=0)[0][:, 0],
                "BLAS Gram and eigh": _gram_vector,
                "scikit-learn": lambda maps: randomized_svd(_matrix(maps), 1, random_state=0)[0][:, 0],
            },
        ),
    }


def _responses(draw: np.random.Generator) -> Array:
    """Nonnegative maps with σ₂/σ₁ near 0.5, as those of a ReLU on real CT."""
    base = scipy.ndimage.gaussian_filter(draw.normal(size=(8, 133, 133)), (0, 3, 3))
    weights = draw.exponential(size=(128, 8)) - 0.5
    maps = np.einsum("cb,bhw->chw", weights, base / base.std()) + 0.3 * draw.normal(size=(128, 133, 133))
    return np.maximum(maps, 0).astype(np.float32)


def _matrix(maps: Array) -> Array:
    return maps.reshape(len(maps), -1).T


def _gram_vector(maps: Array) -> Array:
    matrix = _matrix(maps)
    leading = np.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -1]
    vector = matrix @ leading
    return vector / np.linalg.norm(vector)


def _scipy_magnitude(image: Array) -> Array:
    return np.hypot(*(scipy.ndimage.sobel(image, axis, mode="nearest") for axis in (0, 1)))


def _skimage_magnitude(image: Array) -> Array:
    return skimage.filters.sobel(image, mode="nearest") * np.float32(4 * np.sqrt(2))


def _opencv_magnitude(image: Array) -> Array:
    components = (
        cv2.Sobel(image, cv2.CV_32F, *order, borderType=cv2.BORDER_REPLICATE) for order in ((1, 0), (0, 1))
    )
    return cv2.magnitude(*components)


def _standardized(gradient: Array) -> Array:
    centred = gradient - gradient.mean((1, 2), keepdims=True)
    return centred / centred.std((1, 2), keepdims=True)


def _close_to(expected: Array) -> Callable[[Any], None]:
    def check(found: Any) -> None:
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.abs(expected).max()))

    return check


def _leading_vector_of(maps: Array) -> Callable[[Any], None]:
    expected = np.linalg.svd(_matrix(maps).astype(np.float64), full_matrices=False)[0][:, 0]

    def check(found: Any) -> None:
        vector = np.ravel(found).astype(np.float64)
        assert np.linalg.norm(vector - (vector @ expected) * expected) <= 1e-4, (
            "not the leading singular vector"
        )

    return check
