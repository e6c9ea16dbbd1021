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
from eigenfeatures.kernels.cpu.compile import Kernel, helper

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


# Values of slices of one tile each that are converted and multiplied in one call.
_TOGETHER = 1 << 20


@helper
def add_tiles(x: Any, start: int, stop: int, out: Any) -> None:
    """Add to `out` (C, C) the upper half of the products of columns of tiles `start` to `stop`."""
    channels, pixels = x.shape
    for tile in range(start, stop):
        first = tile * TILE
        size = min(TILE, pixels - first)
        for i in range(0, channels, 4):
            for k in range(i, channels, 4):
                add_products(x, i, x, k, first, size, out)


@Kernel
def _gram(x: Any, parts: Any) -> None:
    tiles = (x.shape[1] + TILE - 1) // TILE
    for part in prange(len(parts)):
        parts[part] = 0.0
        add_tiles(x, part * tiles // len(parts), (part + 1) * tiles // len(parts), parts[part])


@Kernel
def _small_grams(maps: Any, out: Any) -> None:
    for s in prange(len(maps)):
        out[s] = 0.0
        add_tiles(maps[s], 0, 1, out[s])
        for i in range(out.shape[1]):
            for k in range(i):
                out[s, i, k] = out[s, k, i]


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
    count, channels, pixels = maps.shape
    products = np.empty((count, channels, channels))
    step = max(1, _TOGETHER // (channels * pixels)) if pixels <= TILE else 1
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, count, step):
            some, filled = maps[first : first + step], products[first : first + step]
            if pixels <= TILE:
                _small_grams(read_only(np.ascontiguousarray(some, dtype=dtype)), filled)
            else:
                filled[0] = gram_matrix(some[0], dtype)
        if dtype == np.float32:
            squares = products.diagonal(axis1=1, axis2=2)
            beyond = ~((squares > _LEAST) & (squares < _MOST))
            for s in np.flatnonzero(beyond.any(axis=1)):
                if any(maps[s, c].any() for c in np.flatnonzero(beyond[s])):
                    products[s] = gram_matrix(maps[s], np.float64)
    return products
