"""Passes over the responses of one slice, held as C rows of n pixels.

Each pass runs over tiles of columns that stay in a core's cache while they are
used twice, for X y and for Xᵀ (X y). A tile's sums go to its own row of the
output and are added in order, so that threads don't change their bits.
"""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel, reduction

# Columns a tile: with 128 channels of float32, 256 KB of a core's second-level cache.
TILE = 512


def tile_count(pixels: int) -> int:
    """Return how many tiles cover a slice."""
    return (pixels + TILE - 1) // TILE


@reduction
def row_survey(row: Any) -> tuple[float, Any]:
    """Return the sum of squares in float64, and 1 where any value is below zero."""
    squares = 0.0
    negative = np.int32(0)  # unlike a boolean, it fits a vector lane
    for j in range(row.size):
        value = np.float64(row[j])
        squares += value * value
        negative |= np.int32(row[j] < 0)
    return squares, negative


@reduction
def combine_rows(x: Any, first: int, weights: Any, out: Any) -> None:
    """Fill `out` (T) with Σ_c weights[c] · x[c, first : first + T], four rows at a time."""
    size = out.size
    fours = len(x) // 4 * 4
    out[:] = 0
    for c in range(0, fours, 4):
        row0 = x[c, first : first + size]
        row1 = x[c + 1, first : first + size]
        row2 = x[c + 2, first : first + size]
        row3 = x[c + 3, first : first + size]
        w0, w1, w2, w3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
        for j in range(size):
            out[j] += (w0 * row0[j] + w1 * row1[j]) + (w2 * row2[j] + w3 * row3[j])
    for c in range(fours, len(x)):
        row0, w0 = x[c, first : first + size], weights[c]
        for j in range(size):
            out[j] += w0 * row0[j]


@reduction
def row_products(x: Any, first: int, vector: Any, out: Any) -> None:
    """Fill `out` (C) with each row's product with a vector (T) of its precision, from column `first`."""
    size = vector.size
    fours = len(x) // 4 * 4
    for c in range(0, fours, 4):
        row0 = x[c, first : first + size]
        row1 = x[c + 1, first : first + size]
        row2 = x[c + 2, first : first + size]
        row3 = x[c + 3, first : first + size]
        total0 = total1 = total2 = total3 = x.dtype.type(0)
        for j in range(size):
            total0 += row0[j] * vector[j]
            total1 += row1[j] * vector[j]
            total2 += row2[j] * vector[j]
            total3 += row3[j] * vector[j]
        out[c], out[c + 1], out[c + 2], out[c + 3] = total0, total1, total2, total3
    for c in range(fours, len(x)):
        row0, total0 = x[c, first : first + size], x.dtype.type(0)
        for j in range(size):
            total0 += row0[j] * vector[j]
        out[c] = total0


@reduction
def round_off(wide: Any, out: Any) -> tuple[float, float]:
    """Round `wide` to `out`; return the sum of squares of that and of what was lost."""
    squares, lost = 0.0, 0.0
    for j in range(wide.size):
        out[j] = wide[j]
        rounded = np.float64(out[j])
        squares += rounded * rounded
        lost += (wide[j] - rounded) ** 2
    return squares, lost


@Kernel
def survey(x: Any, out: Any) -> None:
    """Fill `out` (C, 2) with each map's sum of squares and whether any pixel is negative."""
    for c in prange(len(x)):
        out[c, 0], out[c, 1] = row_survey(x[c])


@Kernel
def normal_product(x: Any, y: Any, out: Any) -> None:
    """Fill `out` (tiles, C) with each tile's share of Xᵀ (X y), for y (C) of x's precision.

    Sums within a tile are of x's precision: in float32 their error is about 10⁻⁷,
    far below the least tolerance.
    """
    for tile in prange(len(out)):
        first = tile * TILE
        product = np.empty(min(TILE, x.shape[1] - first), x.dtype)
        combine_rows(x, first, y, product)
        row_products(x, first, product, out[tile])


@Kernel
def left_vectors(x: Any, v: Any, u: Any, sums: Any, products: Any) -> None:
    """Fill `u` (r, n) with X v_i for v (r, C) in float64, and what its error is measured by.

    `sums` (tiles, r, 2) get each tile's ‖u_i‖² and ‖X v_i − u_i‖², the latter
    from rounding `u` to its precision, and `products` (tiles, r, C) its Xᵀ u_i.

    X v_i is summed in float64, since a small s_i would magnify float32's error by s_1/s_i.
    """
    for tile in prange(len(sums)):
        first = tile * TILE
        wide = np.empty(min(TILE, x.shape[1] - first))
        for i in range(len(v)):
            part = u[i, first : first + wide.size]
            combine_rows(x, first, v[i], wide)
            sums[tile, i, 0], sums[tile, i, 1] = round_off(wide, part)
            row_products(x, first, part, products[tile, i])
