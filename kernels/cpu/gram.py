"""XᵀX of the responses of one slice, held as C rows of n pixels.

Faster than BLAS through NumPy on two cores, where BLAS's threads would also share the cores with
Numba's, and the bits depend on no number of threads.
"""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import DTypeLike, NDArray

from eigenfeatures.kernels.arrays import read_only
from eigenfeatures.kernels.cpu.blocks import add_products
from eigenfeatures.kernels.cpu.compile import Kernel

# Columns whose products are summed in the precision of the rows: with 128 channels of float32, half a
# megabyte of a core's second-level cache.
TILE = 1024

# Columns that are converted at a time where the rows are of another type or layout.
CHUNK = 4 * TILE

# Sums of squares that float32 holds without overflow or a loss to underflow.
_LEAST, _MOST = 2.0**-64, 2.0**64

# Parts of the columns that threads sum one each, and the numbers that their sums may take.
_MOST_PARTS = 16
_PART_NUMBERS = 1 << 22


@Kernel
def _gram(x: Any, parts: Any) -> None:
    channels, pixels = x.shape
    tiles = (pixels + TILE - 1) // TILE
    for part in prange(len(parts)):
        parts[part] = 0.0
        for tile in range(part * tiles // len(parts), (part + 1) * tiles // len(parts)):
            first = tile * TILE
            size = min(TILE, pixels - first)
            for i in range(0, channels, 4):
                for k in range(i, channels, 4):
                    add_products(x, i, x, k, first, size, parts[part])


def gram_matrix(x: NDArray[Any], dtype: DTypeLike) -> NDArray[np.float64]:
    """Return XᵀX (C, C) of rows (C, n) of any real type and layout, exactly symmetric.

    Products and sums over a tile's columns are of `dtype`, the sums over tiles of float64. No
    more than one chunk is converted at a time.
    """
    channels, pixels = x.shape
    if x.dtype == dtype and x.flags.c_contiguous:
        most = min(_MOST_PARTS, max(4, _PART_NUMBERS // channels**2))
        parts = np.empty((min(-(-pixels // TILE), most), channels, channels))
        _gram(read_only(x), parts)
        upper: NDArray[np.float64] = np.triu(parts.sum(axis=0))
        return upper + np.triu(upper, 1).T
    total = np.zeros((channels, channels))
    for first in range(0, pixels, CHUNK):
        total += gram_matrix(np.ascontiguousarray(x[:, first : first + CHUNK], dtype=dtype), dtype)
    return total


def correlations(maps: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return XᵀX (N, C, C) of maps (N, C, n), in float64 where a map's squares leave float32's range."""
    return np.array([_of_slice(x, dtype) for x in maps]).reshape((len(maps), maps.shape[1], maps.shape[1]))


def _of_slice(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        product = gram_matrix(x, dtype)
        squares = product.diagonal()
        beyond = np.flatnonzero(~((squares > _LEAST) & (squares < _MOST)))
        if dtype == np.float32 and any(x[c].any() for c in beyond):
            return gram_matrix(x, np.float64)
    return product
