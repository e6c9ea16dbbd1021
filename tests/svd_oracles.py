"""What a decomposition is judged by beside its residual: whether that is true, and angles to exact ones."""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray
from spectra import sine

Exact = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def rounding(dtype: DTypeLike) -> float:
    """Return the largest residual, against s_1, that rounding alone may leave."""
    return 20 * float(np.finfo(dtype).eps)


def honest(told: float, true: float, dtype: DTypeLike) -> bool:
    """Tell whether a residual is within twice the true one, or both are rounding."""
    return true / 2 <= told <= 2 * true or max(told, true) <= rounding(dtype)


def by_gram(maps: NDArray[Any], count: int) -> Exact:
    """u (k, n), s (k), v (k, C) of maps (C, h, w), by a Gram matrix in float64 for k = `count` + 1.

    Where there are many pixels LAPACK takes many times as long. Squares lose digits of the small values
    only: those of 10⁻³ s_1 still have ten.
    """
    x = maps.reshape(len(maps), -1).astype(np.float64)
    values, vectors = scipy.linalg.eigh(x @ x.T, subset_by_index=[len(x) - 1 - count, len(x) - 1])
    s, v = np.sqrt(np.maximum(values[::-1], 0)), vectors.T[::-1]
    return v @ x / np.where(s > 0, s, 1)[:, np.newaxis], s, v


def assert_directions(u: NDArray[Any], v: NDArray[np.float64], exact: Exact) -> int:
    """Compare the vectors of each singular value that stands apart from others and 0; return how many do."""
    exact_u, s, exact_v = exact
    steps = -np.diff(np.r_[np.inf, s, 0.0])
    compared = 0
    for i in range(len(v)):
        if min(steps[i], steps[i + 1]) > 0.1 * s[0]:
            compared += 1
            assert sine(u[i], exact_u[i]) <= 1e-4
            assert sine(v[i], exact_v[i]) <= 1e-4
    return compared
