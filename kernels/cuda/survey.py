"""What is to be known of slices before they are decomposed: ‖X‖²_F, the range of numbers, and the sign.

Each slice is cut into parts, whatever else is surveyed with it, so that few slices have blocks for all
multiprocessors, and a slice gets the same bits in any company.
"""

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda.compile import MOST_WARPS, SIMULATED, WARP, block_sum, kernel, warp_sum

# Threads of a block, values that each of them reads, and loads of a thread that are under way at once.
SURVEYORS = 32 if SIMULATED else 512
EACH, LOADS = (4, 2) if SIMULATED else (64, 8)

# Squares of float64 leave its range; those of values times one of these powers of two don't, if only
# values below the last are magnified. Squares are within its range between the bounds.
STEP = 600
REDUCTION, MAGNIFICATION, TINY = 2.0**-STEP, 2.0**STEP, 2.0**-400
_HIGH, _LOW = 2.0**900, 2.0**-900

# Rows of what a survey tells: ‖X‖²_F times a power of two squared, that power, and whether none is below 0.
ENERGY, EXPONENT, NONNEGATIVE = range(3)


def part_count(size: int) -> int:
    """Return into how many parts slices of so many values are cut."""
    return -(-size // (SURVEYORS * EACH))


@kernel(
    types.void(types.float32[:, ::1], types.float64[:, :, ::1]),
    types.void(types.float64[:, ::1], types.float64[:, :, ::1]),
    threads=SURVEYORS,
    float64="the energy is promised to 10⁻¹², and squares of float32 stay in range",
)
def sum_squares(values: Any, out: Any) -> None:
    """Fill `out` (N, parts, 4) with each part's number of negative values and its sums of squares.

    There are three: of the values and, for float64 alone, of the values times
    `REDUCTION` and of those below `TINY` times `MAGNIFICATION`.
    """
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    parts = out.shape[1]
    place, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
    row = values[place]
    j = part * cuda.blockDim.x * EACH + cuda.threadIdx.x
    end = min(j + cuda.blockDim.x * EACH, row.size)
    negative, plain, reduced, magnified = 0.0, 0.0, 0.0, 0.0
    at = cuda.local.array(LOADS, values.dtype)
    while j < end:
        # Beyond the last value it is read again: loads without a condition are all under way at once.
        for k in range(LOADS):
            at[k] = row[min(j + k * cuda.blockDim.x, row.size - 1)]
        for k in range(LOADS):
            value = np.float64(at[k]) if j + k * cuda.blockDim.x < end else 0.0
            negative += 1.0 if value < 0 else 0.0
            plain += value * value
            if row.itemsize == 8:
                reduced += (value * REDUCTION) * (value * REDUCTION)
                if abs(value) < TINY:
                    magnified += (value * MAGNIFICATION) * (value * MAGNIFICATION)
        j += LOADS * cuda.blockDim.x
    negative, plain = block_sum(negative, partials), block_sum(plain, partials)
    reduced, magnified = block_sum(reduced, partials), block_sum(magnified, partials)
    if cuda.threadIdx.x == 0:
        out[place, part, 0] = negative
        out[place, part, 1] = plain
        out[place, part, 2] = reduced
        out[place, part, 3] = magnified


@kernel(types.void(types.float64[:, :, ::1], types.float64, types.int64, types.float64[:, ::1]), threads=WARP)
def summarise(sums: Any, bound: Any, largest: Any, told: Any) -> None:
    """Fill `told` (3, N) from the sums of the parts: a block, of one warp, to a slice.

    Where sums of products would leave the range of numbers, between 1 / `bound` and `bound`, a power of two
    brings ‖X‖_F to between 1/2 and 1, or as near as the largest power, ± `largest`, does.
    """
    place, parts = cuda.blockIdx.x, sums.shape[1]
    negative, plain, reduced, magnified = 0.0, 0.0, 0.0, 0.0
    for part in range(cuda.threadIdx.x, parts, cuda.blockDim.x):
        negative += sums[place, part, 0]
        plain += sums[place, part, 1]
        reduced += sums[place, part, 2]
        magnified += sums[place, part, 3]
    negative, plain = warp_sum(negative), warp_sum(plain)
    reduced, magnified = warp_sum(reduced), warp_sum(magnified)
    if cuda.threadIdx.x == 0:
        squares, shift = plain, 0
        # The others are zero of float32, whose squares float64 holds.
        if plain > _HIGH and reduced > 0:
            squares, shift = reduced, STEP
        elif plain < _LOW and magnified > 0:
            squares, shift = magnified, -STEP
        exponent = 0
        if 0.0 < squares < math.inf and (shift != 0 or not 1.0 / bound < squares < bound):
            _, size = math.frexp(math.sqrt(squares))
            exponent = min(max(-(shift + size), -largest), largest)
        told[ENERGY, place] = math.ldexp(squares, 2 * (shift + exponent))
        told[EXPONENT, place] = exponent
        told[NONNEGATIVE, place] = 1.0 if negative == 0 else 0.0
