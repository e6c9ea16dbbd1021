"""Passes over the responses of one slice, held as C rows of n pixels.

Each pass runs over tiles of columns that stay in a core's cache while they are
used twice, for X y and for Xᵀ (X y). A tile's sums go to its own row of the
output and are added in order, so that threads don't change their bits.
"""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.blocks import add_products, combine_four
from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction

# Columns a tile: with 128 channels of float32, 512 KB of a core's second-level cache. Half of it, by which
# memory is read in pieces of 2 KB, took 1.4 times as long on Zen 4.
TILE = 1024


def tile_count(pixels: int) -> int:
    """Return how many tiles cover a slice."""
    return (pixels + TILE - 1) // TILE


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
def combine_rows_twice(x: Any, first: int, weights: Any, out0: Any, out1: Any) -> tuple[float, bool]:
    """Fill two vectors (T) as `combine_rows` does, by weights (2, C); return what `survey` asks for.

    Rows that come from memory leave time for that.
    """
    size, fours = out0.size, len(x) // 4 * 4
    energy, negative = 0.0, np.int32(0)  # unlike a boolean, it fits a vector lane
    out0[:], out1[:] = 0, 0
    for c in range(0, fours, 4):
        row0 = x[c, first : first + size]
        row1 = x[c + 1, first : first + size]
        row2 = x[c + 2, first : first + size]
        row3 = x[c + 3, first : first + size]
        a0, a1, a2, a3 = weights[0, c], weights[0, c + 1], weights[0, c + 2], weights[0, c + 3]
        b0, b1, b2, b3 = weights[1, c], weights[1, c + 1], weights[1, c + 2], weights[1, c + 3]
        squares = x.dtype.type(0)
        for j in range(size):
            p, q, r, s = row0[j], row1[j], row2[j], row3[j]
            out0[j] += (a0 * p + a1 * q) + (a2 * r + a3 * s)
            out1[j] += (b0 * p + b1 * q) + (b2 * r + b3 * s)
            squares += (p * p + q * q) + (r * r + s * s)
            negative |= np.int32(p < 0) | np.int32(q < 0) | np.int32(r < 0) | np.int32(s < 0)
        energy += np.float64(squares)
    for c in range(fours, len(x)):
        row0, a0, b0 = x[c, first : first + size], weights[0, c], weights[1, c]
        squares = x.dtype.type(0)
        for j in range(size):
            out0[j] += a0 * row0[j]
            out1[j] += b0 * row0[j]
            squares += row0[j] * row0[j]
            negative |= np.int32(row0[j] < 0)
        energy += np.float64(squares)
    return energy, negative != 0


@reduction
def row_products_twice(x: Any, first: int, vector0: Any, vector1: Any, out: Any) -> None:
    """Fill `out` (2, C) with each row's products with two vectors (T); see `row_products`."""
    size, fours = vector0.size, len(x) // 4 * 4
    for c in range(0, fours, 4):
        row0 = x[c, first : first + size]
        row1 = x[c + 1, first : first + size]
        row2 = x[c + 2, first : first + size]
        row3 = x[c + 3, first : first + size]
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = x.dtype.type(0)
        for j in range(size):
            p, q, r, s = row0[j], row1[j], row2[j], row3[j]
            a0 += p * vector0[j]
            a1 += q * vector0[j]
            a2 += r * vector0[j]
            a3 += s * vector0[j]
            b0 += p * vector1[j]
            b1 += q * vector1[j]
            b2 += r * vector1[j]
            b3 += s * vector1[j]
        out[0, c], out[0, c + 1], out[0, c + 2], out[0, c + 3] = a0, a1, a2, a3
        out[1, c], out[1, c + 1], out[1, c + 2], out[1, c + 3] = b0, b1, b2, b3
    for c in range(fours, len(x)):
        row0 = x[c, first : first + size]
        a0 = b0 = x.dtype.type(0)
        for j in range(size):
            a0 += row0[j] * vector0[j]
            b0 += row0[j] * vector1[j]
        out[0, c], out[1, c] = a0, b0


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


@reduction
def combine_columns(rows: Any, weights: Any, first: int, out: Any) -> None:
    """Fill `out` (T) with Σ_k weights[k] · rows[k, first : first + T] in float64."""
    out[:] = 0.0
    for k in range(len(rows)):
        row, weight = rows[k, first : first + out.size], weights[k]
        for j in range(out.size):
            out[j] += weight * row[j]


@reduction
def survey_rows(x: Any, first: int, size: int) -> tuple[float, bool]:
    """Return the sum of squares of a tile, and whether any of it is below zero."""
    energy, negative = 0.0, np.int32(0)
    for c in range(len(x)):
        row, squares = x[c, first : first + size], x.dtype.type(0)
        for j in range(size):
            squares += row[j] * row[j]
            negative |= np.int32(row[j] < 0)
        energy += np.float64(squares)
    return energy, negative != 0


@Kernel
def survey(x: Any, out: Any) -> None:
    """Fill `out` (tiles, 2) with each tile's sum of squares, and 1 where any value is negative.

    Sums of a row are of x's precision.
    """
    for tile in prange(len(out)):
        first = tile * TILE
        out[tile, 0], out[tile, 1] = survey_rows(x, first, min(TILE, x.shape[1] - first))


@helper
def add_up(shares: Any, out: Any) -> None:
    """Fill `out` (C) with the sum of the tiles' shares (tiles, C), in their order."""
    out[:] = 0.0
    for tile in range(len(shares)):
        for c in range(out.size):
            out[c] += shares[tile, c]


@helper
def left_vectors_of_tile(
    x: Any, v: Any, first: int, size: int, u: Any, wide: Any, sums: Any, products: Any
) -> None:
    """Fill columns of `u` (r, n) with X v_i, and `sums` (r, 2) and `products` (r, C) as `left_vectors` does.

    `wide` (4, size) is for work.
    """
    products[:] = 0.0
    for i in range(0, len(v), 4):
        count = min(4, len(v) - i)
        if count > 2:
            combine_four(x, first, v, i, wide)
        else:
            for k in range(count):
                combine_rows(x, first, v[i + k], wide[k])
        for k in range(count):
            part = u[i + k, first : first + size]
            sums[i + k, 0], sums[i + k, 1] = round_off(wide[k], part)
            if count <= 2:
                row_products(x, first, part, products[i + k])
        if count > 2:
            for c in range(0, len(x), 4):
                add_products(u, i, x, c, first, size, products)


@Kernel
def left_vectors(x: Any, v: Any, u: Any, sums: Any, products: Any) -> None:
    """Fill `u` (r, n) with X v_i for v (r, C), and what its error is measured by.

    `sums` (tiles, r, 2) get each tile's ‖u_i‖² and ‖X v_i − u_i‖², the latter from rounding `u` to
    its precision, and `products` (tiles, r, C) its Xᵀ u_i.

    X v_i is summed in the precision of `v`: a small s_i would magnify float32's error by s_1/s_i.
    """
    for tile in prange(len(sums)):
        first = tile * TILE
        size = min(TILE, x.shape[1] - first)
        wide = np.empty((4, size), v.dtype)
        left_vectors_of_tile(x, v, first, size, u, wide, sums[tile], products[tile])
