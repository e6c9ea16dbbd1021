"""Slices to take gradients of, and their gradients in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return random grey values; the time of a gradient doesn't depend on them."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def size_of(shape: tuple[int, ...]) -> str:
    """Return a shape for people."""
    return "×".join(map(str, shape))


def sobel(image: Array) -> tuple[Array, Array]:
    """Return (gy, gx) of one image in float64 by sums of shifted images."""
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    down = padded[2:] - padded[:-2]
    along = padded[:, 2:] - padded[:, :-2]
    return down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:], along[:-2] + 2 * along[1:-1] + along[2:]


def magnitude(image: Array) -> Array:
    """Return |∇Y| of one image in float64."""
    gy, gx = sobel(image)
    return np.sqrt(gx * gx + gy * gy)


def standardized(image: Array) -> Array:
    """Return |∇Y| less its mean, over its deviation, in float64."""
    size = magnitude(image)
    return (size - size.mean()) / size.std()


def statistics(image: Array) -> tuple[float, ...]:
    """Return mean and deviation of the grey values, then mean, sum and deviation of |∇Y|."""
    size = magnitude(image)
    return image.mean(dtype=np.float64), image.std(dtype=np.float64), size.mean(), size.sum(), size.std()
