"""Response maps less their means."""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only
from eigenfeatures.kernels.cpu.compile import Kernel, reduction


@reduction
def _mean_from(row: Any, first: Any) -> Any:
    """Return the mean of a row's differences from `first`."""
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j]) - first
    return total / row.size


@Kernel
def _centre(x: Any, out: Any) -> None:
    """Fill `out` (C, n) with the rows of `x` less their means."""
    for c in prange(len(x)):
        row, written = x[c], out[c]
        first = np.float64(row[0])
        mean = _mean_from(row, first)
        for j in range(row.size):
            written[j] = (np.float64(row[j]) - first) - mean


def centred(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return rows (C, n) of any real type less their means, in the precision `dtype`.

    Sums are float64 and taken about the row's first value, so that a constant row gives zeros.
    """
    same = x.dtype in (np.float32, np.float64) and x.dtype.isnative
    rows = read_only(np.ascontiguousarray(x, None if same else np.float64))
    out = np.empty(rows.shape, dtype)
    _centre(rows, out)
    return out
