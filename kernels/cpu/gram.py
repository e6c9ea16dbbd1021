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

# Columns whose products are summed in their own precision: with 128 channels of float64, 640 KB of a core's
# second-level cache. No power of two, by which all rows would compete for the same places of the first.
TILE = 640

# Columns that are converted at a time where the rows are of another type or layout.
CHUNK = 64 * TILE

# Sums of squares that float32 holds without overflow or a loss to underflow.
LEAST, MOST = 2.0**-64, 2.0**64

# Parts of the columns that threads sum one each, and the numbers that their sums may take.
_MOST_PARTS = 16
_PART_NUMBERS = 1 << 22


# Values of slices of one tile each that are converted and multiplied in one call.
_TOGETHER = 1 << 20


def part_count(channels: int, pixels: int) -> int:
    """Return how many parts the columns of a slice are summed in; whatever the threads, for the same bits."""
    return min(-(-pixels // TILE), _MOST_PARTS, max(4, _PART_NUMBERS // channels**2))


@helper
def add_tile(tile: Any, size: int, out: Any) -> None:
    """Add to `out` (C, C) the upper half of the products of the first columns of a tile (C, T)."""
    for i in range(0, len(tile), 4):
        for k in range(i, len(tile), 4):
            add_products(tile, i, tile, k, 0, size, out)


@helper
def copy_tile(x: Any, first: int, size: int, tile: Any) -> None:
    """Copy columns to a tile: memory is faster row by row than where rows are multiplied as they come."""
    for c in range(len(x)):
        row, copy = x[c, first : first + size], tile[c]
        for j in range(size):
            copy[j] = row[j]


@Kernel
def _gram(x: Any, parts: Any) -> None:
    channels, pixels = x.shape
    tiles = (pixels + TILE - 1) // TILE
    for part in prange(len(parts)):
        parts[part] = 0.0
        tile = np.empty((channels, TILE), x.dtype)
        for number in range(part * tiles // len(parts), (part + 1) * tiles // len(parts)):
            first = number * TILE
            size = min(TILE, pixels - first)
            copy_tile(x, first, size, tile)
            add_tile(tile, size, parts[part])


@Kernel
def _small_grams(maps: Any, out: Any) -> None:
    for s in prange(len(maps)):
        out[s] = 0.0
        add_tile(maps[s], maps.shape[2], out[s])
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
        parts = np.empty((part_count(channels, pixels), channels, channels))
        _gram(read_only(x), parts)
        return sum_of_parts(parts)
    total = np.zeros((channels, channels))
    for first in range(0, pixels, CHUNK):
        total += gram_matrix(np.ascontiguousarray(x[:, first : first + CHUNK], dtype=dtype), dtype)
    return total


def sum_of_parts(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum (C, C) of matrices of which the upper halves are known, exactly symmetric."""
    upper: NDArray[np.float64] = np.triu(parts.sum(axis=0))
    return upper + np.triu(upper, 1).T


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
            beyond = ~((squares > LEAST) & (squares < MOST))
            for s in np.flatnonzero(beyond.any(axis=1)):
                if any(maps[s, c].any() for c in np.flatnonzero(beyond[s])):
                    products[s] = gram_matrix(maps[s], np.float64)
    return products
