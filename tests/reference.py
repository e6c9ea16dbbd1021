"""Slow, plain oracles: loops over pixels, float64, nothing shared with the product."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Derivative along x as correlation masks over (row above, here, below) × (left, here, right).
MASKS: dict[str, list[list[float]]] = {
    "forward": [[0, 0, 0], [0, -1, 1], [0, 0, 0]],
    "central": [[0, 0, 0], [-0.5, 0, 0.5], [0, 0, 0]],
    "prewitt": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "sobel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "scharr": [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]],
}


def gradient(image: ArrayLike, operator: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Components (gy, gx) of one image (H, W), the edge pixel repeated beyond the border."""
    values = np.asarray(image).astype(np.float64)
    height, width = values.shape
    mask = MASKS[operator]
    gy, gx = np.zeros(values.shape), np.zeros(values.shape)
    neighbours = [(t, s) for t in (-1, 0, 1) for s in (-1, 0, 1)]
    for i in range(height):
        for j in range(width):
            pixels = [
                float(values[min(max(i + t, 0), height - 1), min(max(j + s, 0), width - 1)])
                for t, s in neighbours
            ]
            gx[i, j] = math.fsum(
                mask[t + 1][s + 1] * pixel for (t, s), pixel in zip(neighbours, pixels, strict=True)
            )
            gy[i, j] = math.fsum(
                mask[s + 1][t + 1] * pixel for (t, s), pixel in zip(neighbours, pixels, strict=True)
            )
    return gy, gx


def gradient_magnitude(image: ArrayLike, operator: str) -> NDArray[np.float64]:
    """|∇Y| of one image (H, W)."""
    gy, gx = gradient(image, operator)
    return np.sqrt(gx**2 + gy**2)


def standardized(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """One image less its mean, over its deviation; zeros where it is constant."""
    deviation = image.std()
    if deviation <= 1e-6 * abs(image.mean()):
        return np.zeros(image.shape)
    return (image - image.mean()) / deviation


def strongest_channel(maps: ArrayLike) -> tuple[int, float, float, float]:
    """Index, maximum, mean and mean of the positive values, of maps (C, h, w), by loops."""
    values = np.asarray(maps).astype(np.float64)
    index, maximum = 0, -np.inf
    for c, image in enumerate(values):
        for pixel in image.flat:
            if pixel > maximum:
                index, maximum = c, float(pixel)
    pixels = [float(pixel) for pixel in values[index].flat]
    positive = [pixel for pixel in pixels if pixel > 0]
    return index, maximum, sum(pixels) / len(pixels), sum(positive) / max(len(positive), 1)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest of the sorted values."""
    ordered = sorted(values)
    position = percent / 100 * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def stretch_contrast(image: ArrayLike, saturate: float) -> NDArray[np.float64]:
    """One image with its percentiles taken to 0 and 1."""
    values = np.asarray(image).astype(np.float64)
    low = percentile(values.ravel().tolist(), 100 * saturate)
    high = percentile(values.ravel().tolist(), 100 * (1 - saturate))
    if high == low:
        return (values > low).astype(np.float64)
    return np.minimum(np.maximum((values - low) / (high - low), 0), 1)


def singular_triplets(
    maps: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """LAPACK's u (k, n), s (k), v (k, C) of maps (C, h, w) as the columns of X, in float64."""
    values = np.asarray(maps).astype(np.float64)
    u, s, vt = np.linalg.svd(values.reshape(len(values), -1).T, full_matrices=False)
    return u.T, s, vt


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox 4×32-10 with Python's integers."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        even, odd = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (odd >> 32) ^ b ^ k, odd & 0xFFFFFFFF, (even >> 32) ^ d ^ m, even & 0xFFFFFFFF
        k, m = (k + 0x9E3779B9) & 0xFFFFFFFF, (m + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]
