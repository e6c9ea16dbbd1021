"""Singular triplets from right vectors and their products: sizes, signs, order, and what they miss."""

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda.compile import MOST_WARPS, SIMULATED, WARP, device_function, kernel, warp_sum

# Threads of the blocks that conclude a slice, and of those that take a column each.
CONCLUDERS = 2 * WARP if SIMULATED else 4 * WARP
ORDERERS = WARP if SIMULATED else 256


@device_function
def worse(one: Any, other: Any) -> Any:
    """Return the larger of two residuals, and NaN where one is."""
    return one if one > other or one != one else other


@device_function
def comes_before(one: Any, other: Any, is_earlier: Any) -> Any:
    """Tell whether a number comes before another in descending order, NaN last."""
    if one != one or other != other:
        return is_earlier if one != one and other != other else one == one
    return one > other or (one == other and is_earlier)


@kernel(
    types.void(
        types.float64[:, :, ::1],
        types.float64[:, :, ::1],
        types.float64[:, :, ::1],
        types.float64[::1],
        types.float64,
        types.float64,
        types.float64[:, ::1],
        types.float64[:, :, ::1],
        types.float64[:, ::1],
        types.int32[:, ::1],
        types.float64[::1],
    ),
    threads=CONCLUDERS,
)
def conclude(
    vectors: Any,
    across: Any,
    sums: Any,
    nonnegative: Any,
    negligible: Any,
    rounding: Any,
    s: Any,
    v: Any,
    factors: Any,
    order: Any,
    residuals: Any,
) -> None:
    """Complete the right vectors of a slice to triplets: a block to a slice, a warp to a vector.

    Parameters
    ----------
    vectors, across
        Unit vectors v_i and XᵀX v_i, (N, r, C).
    sums
        Of X v_i, as `passes.vector_sums` has them, (N, r, 3).
    nonnegative
        Whether no response is below 0, (N).
    negligible
        Singular values up to this part of the largest count as 0.
    rounding
        ‖X v − s u‖ / s, by the rounding of u.
    s, v, factors, order
        Filled in descending order of s: the values (N, r), the vectors with their signs (N, r, C), what X v_i
        is to be multiplied by (N, r), and i (N, r).
    residuals
        Filled with the largest residual over s_1, (N).
    """
    worst = cuda.shared.array(MOST_WARPS, np.float64)
    place, rank, channels = cuda.blockIdx.x, sums.shape[1], vectors.shape[2]
    warp, lane, warps = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    first = 0.0
    for i in range(rank):
        first = max(first, math.sqrt(sums[place, i, 0]))
    largest = 0.0
    for base in range(0, rank, warps):
        i = min(base + warp, rank - 1)  # of a warp too many the last again, which it keeps to itself
        size = math.sqrt(sums[place, i, 0])
        noise = size <= negligible * first
        divisor = 1.0 if noise else size
        outside, direction = 0.0, 0.0
        for c in range(lane, channels, WARP):
            entry = vectors[place, i, c]
            left = across[place, i, c] / divisor - size * entry
            outside += left * left
            direction += entry * abs(entry)
        outside, direction = math.sqrt(warp_sum(outside)), warp_sum(direction)
        largest = worse(largest, size if noise else worse(outside, size * rounding))
        if not noise:
            direction += sums[place, i, 2] / (size * size)
        if i == 0 and nonnegative[place] != 0:
            direction = sums[place, i, 1]
        sign = -1.0 if direction < 0 else 1.0
        position = 0
        for other in range(rank):
            position += 1 if comes_before(sums[place, other, 0], sums[place, i, 0], other < i) else 0
        if base + warp < rank:
            for c in range(lane, channels, WARP):
                v[place, position, c] = sign * vectors[place, i, c]
            if lane == 0:
                s[place, position] = 0.0 if noise else size
                factors[place, position] = 0.0 if noise else sign / size
                order[place, position] = i
    if lane == 0:
        worst[warp] = largest
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for other in range(warps):
            largest = worse(largest, worst[other])
        residuals[place] = largest / first if first > 0 else 1.0


@kernel(
    *(
        types.void(types.float64[:, ::1], types.int32[:, ::1], precision[:, :, ::1], precision[:, :, ::1])
        for precision in (types.float32, types.float64)
    ),
    threads=ORDERERS,
    float64="the factors' own precision",
)
def arrange(factors: Any, order: Any, products: Any, u: Any) -> None:
    """Fill `u` (N, r, n) with X v_i (N, r, n) times their factors in their order: a thread a column.

    With one vector a slice both may be the same array.
    """
    rank, pixels = u.shape[1], u.shape[2]
    tiles = (pixels + cuda.blockDim.x - 1) // cuda.blockDim.x
    row, tile = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles
    place, position = row // rank, row % rank
    column = tile * cuda.blockDim.x + cuda.threadIdx.x
    if column < pixels:
        factor = u.dtype.type(factors[place, position])
        u[place, position, column] = products[place, order[place, position], column] * factor
