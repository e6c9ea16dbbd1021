"""Responses with known singular values, and what a decomposition of them is judged by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS, HEIGHT, WIDTH = 24, 31, 29
ORDER = np.arange(CHANNELS)

# Names as in RandLAPACK's tests. Each puts another part of the algorithm to work.
SPECTRA = {
    "polynomial": 1 / (1 + ORDER) ** 2.0,
    "exponential": 0.5**ORDER,
    "steep": 0.01**ORDER,
    "clustered": np.where(ORDER < 3, 1 - 1e-7 * ORDER, 0.1),
    "near": np.where(ORDER < 2, 1 - 1e-3 * ORDER, 0.3),
    "rank_deficient": np.where(ORDER < 4, 0.7**ORDER, 0),
    "all_equal": np.ones(CHANNELS),
    "spiked": np.where(ORDER == 0, 1, 0.05),
}


def with_spectrum(
    values: NDArray[np.float64],
    dtype: str = "float64",
    seed: int = 0,
    shape: tuple[int, int, int] = (CHANNELS, HEIGHT, WIDTH),
) -> NDArray[Any]:
    """Maps (C, h, w) whose singular values are these."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    u, _ = np.linalg.qr(rng.standard_normal((height * width, channels)))
    v, _ = np.linalg.qr(rng.standard_normal((channels, channels)))
    return ((v * values) @ u.T).reshape(shape).astype(dtype)


def rectified(seed: int = 0, shape: tuple[int, int, int] = (CHANNELS, HEIGHT, WIDTH)) -> NDArray[Any]:
    """Maps as after a ReLU: a common pattern, others' own, many zeros."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    common = np.outer(rng.random(channels), rng.random(height * width))
    own = rng.standard_normal((channels, height * width))
    return np.maximum(common + 0.5 * own - 0.2, 0).reshape(shape).astype(np.float32)


def sine(vector: NDArray[Any], other: NDArray[Any]) -> float:
    """Sine of the angle between two unit vectors, whatever their signs."""
    a, b = vector.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(np.linalg.norm(a - (a @ b) * b))


def measured(
    maps: NDArray[Any], u: NDArray[Any], s: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[float, float]:
    """The residual and the loss of orthonormality of u (k, h, w), s (k), v (k, C), by definition."""
    x = maps.reshape(len(maps), -1).T.astype(np.float64)
    left = u.reshape(len(s), -1).T.astype(np.float64)
    along = np.linalg.norm(x @ v.T - left * s, axis=0)
    across = np.linalg.norm(x.T @ left - v.T * s, axis=0)[s > 0]
    kept = left[:, s > 0]
    loss = max(np.abs(kept.T @ kept - np.eye(kept.shape[1])).max(), np.abs(v @ v.T - np.eye(len(s))).max())
    return float(max(along.max(), across.max()) / s[0]), float(loss)
