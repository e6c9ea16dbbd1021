"""Loops of a streaming SVD that convert columns of responses a tile at a time.

Memory is read once: what is made of a tile is made in a core's cache.

Where float32 is enough
-----------------------
Of a tile without negative values the products may be summed in float32. Each entry of its Gram matrix T
then has a relative error of at most k·2⁻²⁴, where k are the roundings on a product's way: 45 of 640 columns
with vector lanes of sixteen (40 sums within a lane, four across, the product), 163 with lanes of four. So
``‖ΔT‖ ≤ k·2⁻²⁴·‖T‖`` (Perron–Frobenius: a matrix of magnitudes bounds the norm of any matrix below it).
Summed over tiles, ``‖ΔG‖ ≤ k·2⁻²⁴·s_1²`` if all tiles are so, or others are exact, and that bounds
``‖Xᵀu_1 − s_1 v_1‖ / s_1``, the first triplet's residual: 2.7·10⁻⁶ with lanes of sixteen, 9.7·10⁻⁶ with
four. Rounding errors don't agree in practice, and the residual is some 10⁻⁸. Of further triplets, whose
errors are magnified by s_1/s_i, and of values of both signs, where ``‖|X|‖`` may exceed s_1, nothing of the
kind holds; they take float64.
"""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction
from eigenfeatures.kernels.cpu.gram import TILE, add_tile
from eigenfeatures.kernels.cpu.passes import left_vectors_of_tile

# Sums of a row of a tile whose products float32 holds, with those of all rows that matter beside it.
_LEAST, _MOST = 2.0**-40, 2.0**50


@reduction
def convert_tile(x: Any, first: int, size: int, shift: Any, tile: Any, totals: Any) -> bool:
    """Fill a tile (C, T) with columns less their rows' shift, and `totals` with the sums of its rows.

    Returns whether any value is below zero, before the shift.
    """
    negative = np.int32(0)  # unlike a boolean, it fits a vector lane
    zero = tile.dtype.type(0)
    for c in range(len(x)):
        row, copy, offset, total = x[c, first : first + size], tile[c], tile.dtype.type(shift[c]), zero
        for j in range(size):
            value = tile.dtype.type(row[j]) - offset
            copy[j] = value
            total += value
            negative |= np.int32(row[j] < 0)
        totals[c] = total
    return bool(negative != 0)


@helper
def fits_float32(totals: Any) -> bool:
    """Tell whether products of rows with these sums neither overflow nor vanish in float32; of NaN, not."""
    largest = totals[0]
    for total in totals:
        if not total <= _MOST:
            return False
        largest = max(largest, total)
    return bool(largest >= _LEAST)


@Kernel
def part_sums(
    x: Any, first: int, stop: int, shift: Any, narrow: bool, products: Any, totals: Any, negative: Any
) -> None:
    """Sum columns `first` to `stop` of rows (C, n) in parts.

    `products` (parts, C, C) get the upper half of XᵀX of the columns less their `shift` (C), `totals`
    (parts, C) their sums, and `negative` (parts) whether any value is below zero, before the shift. With
    `narrow`, for which the shift is zero, tiles are multiplied in float32 where that is enough.
    """
    channels, parts = len(x), len(products)
    tiles = (stop - first + TILE - 1) // TILE
    for part in prange(parts):
        products[part], totals[part], negative[part] = 0.0, 0.0, False
        single = np.empty((channels, TILE), np.float32)
        wide = np.empty((channels, TILE), np.float64)
        of_tile = np.empty(channels)
        for number in range(part * tiles // parts, (part + 1) * tiles // parts):
            begin = first + number * TILE
            size = min(TILE, stop - begin)
            in_float32 = False
            if narrow:
                below = convert_tile(x, begin, size, shift, single, of_tile)
                in_float32 = not below and fits_float32(of_tile)
            if in_float32:
                add_tile(single, size, products[part])
            else:
                below = convert_tile(x, begin, size, shift, wide, of_tile)
                add_tile(wide, size, products[part])
            negative[part] |= below
            for c in range(channels):
                totals[part, c] += of_tile[c]


@Kernel
def centred_left_vectors(x: Any, mean: Any, v: Any, u: Any, sums: Any, products: Any) -> None:
    """Fill `u` (r, n) and what measures it as `passes.left_vectors` does, of rows less their mean (C).

    The difference is of float64. Rounded to float32, it would be magnified by s_1/s_i in `u`.
    """
    for number in prange(len(sums)):
        first = number * TILE
        size = min(TILE, x.shape[1] - first)
        tile = np.empty((len(x), size), np.float64)
        convert_tile(x, first, size, mean, tile, np.empty(len(x)))
        part, wide = np.empty((len(v), size), u.dtype), np.empty((4, size), v.dtype)
        left_vectors_of_tile(tile, v, 0, size, part, wide, sums[number], products[number])
        for i in range(len(v)):
            u[i, first : first + size] = part[i]
