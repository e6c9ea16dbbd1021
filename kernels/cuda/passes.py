"""Passes over the responses of a slice, held as C rows of n pixels: a block owns a slice."""

from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda.compile import (
    MOST_WARPS,
    SIMULATED,
    WARP,
    block_sum,
    device_function,
    kernel,
    warp_sum,
)

# Channels that a warp of `normal_product` holds in registers: 128 then take eight warps, of which
# several blocks share a multiprocessor, so that one loads while another sums.
CHANNELS = 2 if SIMULATED else 16

# Warps of its blocks: at least about, sharing out columns where channels are few, and at most.
FEWEST_WARPS, LARGEST_BLOCK = (2, 4) if SIMULATED else (8, 24)
MOST_CHANNELS = CHANNELS * LARGEST_BLOCK

# Room for two tiles of a block.
PARTIALS = 2 * LARGEST_BLOCK * WARP

# Tiles after which the sums of a thread in the responses' precision are added to those in float64.
CHUNK = 2 if SIMULATED else 64

# Threads of a block of the kernels that take a row each.
SURVEYORS = 32 if SIMULATED else 512
# Of `left_products`: threads, channels whose weights are in shared memory, vectors that are multiplied
# together, and loads of a thread that are under way at once.
LEFT_THREADS, LEFT_CHANNELS, TOGETHER, LEFT_LOADS = (32, 4, 2, 2) if SIMULATED else (256, 128, 8, 16)

# Squares of float64 leave its range; those of values times one of these powers of two don't, if only
# values below the last are magnified.
REDUCTION, MAGNIFICATION, TINY = 2.0**-600, 2.0**600, 2.0**-400


@kernel(
    types.void(types.float32[:, ::1], types.float64[:, ::1]),
    types.void(types.float64[:, ::1], types.float64[:, ::1]),
    threads=SURVEYORS,
    float64="the energy is promised to 10⁻¹², and squares of float32 stay in range",
)
def survey(values: Any, out: Any) -> None:
    """Fill `out` (N, 4) with each row's number of negative values and its sums of squares.

    There are three: of the values and, for float64 alone, of the values times
    `REDUCTION` and of those below `TINY` times `MAGNIFICATION`.
    """
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    row = values[cuda.blockIdx.x]
    negative, plain, reduced, magnified = 0.0, 0.0, 0.0, 0.0
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        value = np.float64(row[j])
        negative += 1.0 if value < 0 else 0.0
        plain += value * value
        if row.itemsize == 8:
            reduced += (value * REDUCTION) * (value * REDUCTION)
            if abs(value) < TINY:
                magnified += (value * MAGNIFICATION) * (value * MAGNIFICATION)
    negative, plain = block_sum(negative, partials), block_sum(plain, partials)
    reduced, magnified = block_sum(reduced, partials), block_sum(magnified, partials)
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x, 0] = negative
        out[cuda.blockIdx.x, 1] = plain
        out[cuda.blockIdx.x, 2] = reduced
        out[cuda.blockIdx.x, 3] = magnified


@device_function
def normal_product(
    x: Any,
    channels: Any,
    pixels: Any,
    y: Any,
    weights: Any,
    offsets: Any,
    partials: Any,
    kept: Any,
    totals: Any,
) -> None:
    """Fill `kept` (n) with X y and `totals[:C]` with Xᵀ (X y), reading X once.

    A warp holds `CHANNELS` channels of a tile of 32 columns in registers, a lane a column. Its share
    of X y meets those of the warps that hold the other channels in `partials`, and the sum then
    multiplies the registers again. Where few channels leave warps over, several such groups
    take a tile each. Sums of the precision of x take `CHUNK` tiles, so that their error does
    not grow with n, in an order that never varies.

    All threads of a block of `block_of` call together, once `y` is visible to all; `totals` is
    so upon return. In shared memory lie `weights` (`MOST_CHANNELS`) and `partials` (`PARTIALS`)
    of the precision of `x` (C · n), `offsets` (`MOST_CHANNELS`), int32, and `y` (C) and `totals`
    (`MOST_CHANNELS`), float64.

    Numba computes in 64 bits unless told otherwise, which would take twice the registers; and what
    each channel's row begins at is read from `offsets` since in registers it would take one a channel.
    """
    thread = cuda.threadIdx.x
    warp, lane = np.int32(thread // WARP), np.int32(thread % WARP)
    groups = np.int32((channels + CHANNELS - 1) // CHANNELS)
    sides = np.int32(cuda.blockDim.x // WARP // groups)
    first, side = np.int32(warp % groups * CHANNELS), np.int32(warp // groups)
    own = np.int32(warp * CHANNELS)  # in `totals`, and nobody else's until the last but one barrier

    channel = np.int32(thread)
    while channel < groups * CHANNELS:
        weights[channel] = y[channel] if channel < channels else 0.0
        offsets[channel] = min(channel, channels - 1) * pixels
        channel = np.int32(channel + cuda.blockDim.x)
    if lane == 0:
        for c in range(CHANNELS):
            totals[own + c] = 0.0
    cuda.syncthreads()

    values = cuda.local.array(CHANNELS, x.dtype)
    sums = cuda.local.array(CHANNELS, x.dtype)
    last = np.int32(pixels - 1)
    column = np.int32(side * WARP + lane)
    tile, tiles = np.int32(0), np.int32((pixels + WARP * sides - 1) // (WARP * sides))
    # Two buffers in turn: a tile's is free again once all have passed the next tile's barrier.
    buffer = np.int32(0)
    while tile < tiles:
        stop = np.int32(min(tile + CHUNK, tiles))
        for c in range(CHANNELS):
            sums[c] = x.dtype.type(0)
        while tile < stop:
            # Beyond the last channel and column the last is loaded again: loads without a condition
            # are all under way at once. Its weight is 0 for a channel, and for a column below.
            place = np.int32(min(column, last))
            product = x.dtype.type(0)
            for c in range(CHANNELS):
                values[c] = x[np.uint32(offsets[np.uint32(first + c)] + place)]
            for c in range(CHANNELS):
                product += weights[np.uint32(first + c)] * values[c]
            partials[np.uint32(buffer + thread)] = product
            cuda.syncthreads()
            product = x.dtype.type(0)
            place = np.int32(buffer + side * groups * WARP + lane)
            end = np.int32(place + groups * WARP)
            while place < end and column <= last:
                product += partials[np.uint32(place)]
                place = np.int32(place + WARP)
            if first == 0 and column <= last:
                kept[np.uint32(column)] = product
            for c in range(CHANNELS):
                sums[c] += values[c] * product
            buffer = np.int32(PARTIALS // 2 - buffer)
            tile, column = np.int32(tile + 1), np.int32(column + sides * WARP)
        for c in range(CHANNELS):
            total = warp_sum(sums[c])
            if lane == 0:
                totals[own + c] += total

    cuda.syncthreads()
    channel = np.int32(thread)
    while channel < channels:
        other = np.int32(channel + groups * CHANNELS)
        while other < sides * groups * CHANNELS:
            totals[channel] += totals[other]
            other = np.int32(other + groups * CHANNELS)
        channel = np.int32(channel + cuda.blockDim.x)
    cuda.syncthreads()


def block_of(channels: int) -> int:
    """Return the threads of a block that `normal_product` takes: whole groups of warps for all channels."""
    groups = -(-channels // CHANNELS)
    return WARP * groups * max(1, FEWEST_WARPS // groups)


@kernel(
    *(
        types.void(precision[:, ::1], types.float64[:, :, ::1], precision[:, :, ::1])
        for precision in (types.float32, types.float64)
    ),
    threads=LEFT_THREADS,
    float64="float32 would magnify the error of a small s_i by s_1/s_i",
)
def left_products(values: Any, vectors: Any, left: Any) -> None:
    """Fill `left` (N, r, n) with X v_i of slices (N, C · n) and vectors (N, r, C).

    A block of `left_blocks` takes a column a thread and up to `TOGETHER` vectors, for which it reads
    its columns once.
    """
    weights = cuda.shared.array((LEFT_CHANNELS, TOGETHER), np.float64)
    count, pixels = left.shape[1], left.shape[2]
    tiles = (pixels + cuda.blockDim.x - 1) // cuda.blockDim.x
    groups = (count + TOGETHER - 1) // TOGETHER
    image, place = cuda.blockIdx.x // (tiles * groups), cuda.blockIdx.x % (tiles * groups)
    first = place // tiles * TOGETHER
    column = place % tiles * cuda.blockDim.x + cuda.threadIdx.x
    x, channels = values[image], vectors.shape[2]
    read = x[min(column, pixels - 1) :]
    sums = cuda.local.array(TOGETHER, np.float64)
    for i in range(TOGETHER):
        sums[i] = 0.0
    begin = 0
    while begin < channels:
        cuda.syncthreads()
        for k in range(cuda.threadIdx.x, LEFT_CHANNELS * TOGETHER, cuda.blockDim.x):
            c, i = k // TOGETHER, k % TOGETHER
            known = begin + c < channels and first + i < count
            weights[c, i] = vectors[image, first + i, begin + c] if known else 0.0
        cuda.syncthreads()
        c = 0
        while c < min(LEFT_CHANNELS, channels - begin):
            # Beyond the last channel the last is read again, with weight 0: loads without a condition
            # are all under way at once.
            at = cuda.local.array(LEFT_LOADS, values.dtype)
            for k in range(LEFT_LOADS):
                at[k] = read[np.uint64(min(begin + c + k, channels - 1) * pixels)]
            for k in range(LEFT_LOADS):
                value = np.float64(at[k])
                for i in range(TOGETHER):
                    sums[i] += value * weights[np.uint64(c + k), np.uint64(i)]
            c += LEFT_LOADS
        begin += LEFT_CHANNELS
    if column < pixels:
        for i in range(TOGETHER):
            if first + i < count:
                left[image, first + i, column] = sums[i]


def left_blocks(count: int, rank: int, pixels: int) -> int:
    """Return how many blocks `left_products` takes for slices (N, rank, n)."""
    return count * -(-pixels // LEFT_THREADS) * -(-rank // TOGETHER)


@kernel(
    types.void(types.float32[:, ::1], types.float64[:, ::1]),
    types.void(types.float64[:, ::1], types.float64[:, ::1]),
    threads=SURVEYORS,
    float64="sums that the singular value and the sign are of",
)
def vector_sums(vectors: Any, out: Any) -> None:
    """Fill `out` (N, 3) with Σ u², Σ u and Σ u|u| of each row: a block each."""
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    row = vectors[cuda.blockIdx.x]
    squares, total, signed = 0.0, 0.0, 0.0
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        value = np.float64(row[j])
        squares += value * value
        total += value
        signed += value * abs(value)
    squares, total = block_sum(squares, partials), block_sum(total, partials)
    signed = block_sum(signed, partials)
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x, 0] = squares
        out[cuda.blockIdx.x, 1] = total
        out[cuda.blockIdx.x, 2] = signed


@kernel(
    types.void(types.float32[:, ::1], types.float64[::1], types.float32[:, ::1]),
    types.void(types.float32[:, ::1], types.float64[::1], types.float64[:, ::1]),
    types.void(types.float64[:, ::1], types.float64[::1], types.float64[:, ::1]),
    threads=SURVEYORS,
    float64="powers of two beyond the range of float32",
)
def scaled(rows: Any, factors: Any, out: Any) -> None:
    """Fill `out` (N, n) with rows times their factors: a block each.

    CuPy's own arithmetic takes subnormal numbers for zero.
    """
    row, factor, filled = rows[cuda.blockIdx.x], factors[cuda.blockIdx.x], out[cuda.blockIdx.x]
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        filled[j] = np.float64(row[j]) * factor
