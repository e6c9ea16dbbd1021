"""Passes over the responses of slices, each held as C rows of n pixels."""

from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda.compile import (
    MOST_WARPS,
    SIMULATED,
    WARP,
    Kernel,
    block_sum,
    kernel,
    warp_sum,
)
from eigenfeatures.kernels.cuda.survey import SURVEYORS

# Channels that a warp of `multiply` holds in registers: 128 then take eight warps, of which
# several blocks share a multiprocessor, so that one loads while another sums.
CHANNELS = 2 if SIMULATED else 16

# Warps of its blocks: at least about, sharing out columns where channels are few, and at most.
FEWEST_WARPS, LARGEST_BLOCK = (2, 4) if SIMULATED else (8, 24)
MOST_CHANNELS = CHANNELS * LARGEST_BLOCK

# Room for two tiles of a block.
PARTIALS = 2 * LARGEST_BLOCK * WARP

# Tiles of a segment, the part of a slice that a block takes: few, so that there are blocks for all
# multiprocessors where slices are few.
SEGMENT = 2 if SIMULATED else 16

# Of `left_products`: threads, channels whose weights are in shared memory, vectors that are multiplied
# together, and loads of a thread that are under way at once.
LEFT_THREADS, LEFT_CHANNELS, TOGETHER, LEFT_LOADS = (32, 4, 2, 2) if SIMULATED else (256, 128, 8, 16)


def _multiply(values: Any, directions: Any, counts: Any, limits: Any, kept: Any, shares: Any) -> None:
    """Multiply segments of slices by a vector and by the product, reading X once: a block to a segment.

    A warp holds `CHANNELS` channels of a tile of 32 columns in registers, a lane a column. Its share
    of X y meets those of the warps that hold the other channels in `partials`, and the sum then
    multiplies the registers again. Where few channels leave warps over, several such groups
    take a tile each. Sums of the precision of x take the `SEGMENT` tiles of a block, so that their error does
    not grow with n, in an order that never varies: whatever slices are worked on together, each gets the
    same bits.

    Numba computes in 64 bits unless told otherwise, which would take twice the registers; and what
    each channel's row begins at is read from `offsets` since in registers it would take one a channel.

    Parameters
    ----------
    values
        Slices (N, C · n), of fewer than 2³¹ values.
    directions
        A vector y of each slice (N, C).
    counts, limits
        How many products are kept, and nothing is done where that is the limit (N).
    kept
        Room for X y, (N, passes, n), as product number `counts`.
    shares
        Each segment's part of Xᵀ (X y), (N, S, C), with S of `segment_count`.
    """
    weights = cuda.shared.array(MOST_CHANNELS, values.dtype)
    offsets = cuda.shared.array(MOST_CHANNELS, np.int32)
    partials = cuda.shared.array(PARTIALS, values.dtype)
    totals = cuda.shared.array(MOST_CHANNELS, np.float64)
    segments, channels = np.int32(shares.shape[1]), np.int32(shares.shape[2])
    place, segment = np.int32(cuda.blockIdx.x // segments), np.int32(cuda.blockIdx.x % segments)
    count = counts[place]
    if count >= limits[place]:
        return
    x, products, pixels = values[place], kept[place, count], np.int32(kept.shape[2])
    thread = cuda.threadIdx.x
    warp, lane = np.int32(thread // WARP), np.int32(thread % WARP)
    groups = np.int32((channels + CHANNELS - 1) // CHANNELS)
    sides = np.int32(cuda.blockDim.x // WARP // groups)
    first, side = np.int32(warp % groups * CHANNELS), np.int32(warp // groups)

    channel = np.int32(thread)
    while channel < groups * CHANNELS:
        weights[channel] = directions[place, channel] if channel < channels else 0.0
        offsets[channel] = np.int32(min(channel, channels - 1)) * pixels
        channel = np.int32(channel + cuda.blockDim.x)
    cuda.syncthreads()

    held = cuda.local.array(CHANNELS, values.dtype)
    sums = cuda.local.array(CHANNELS, values.dtype)
    for c in range(CHANNELS):
        sums[c] = values.dtype.type(0)
    last = np.int32(pixels - 1)
    column = np.int32((segment * SEGMENT * sides + side) * WARP + lane)
    tile, tiles = np.int32(0), np.int32((pixels + WARP * sides - 1) // (WARP * sides))
    tiles = np.int32(tiles - segment * SEGMENT)
    if tiles > SEGMENT:
        tiles = np.int32(SEGMENT)
    # Two buffers in turn: a tile's is free again once all have passed the next tile's barrier.
    buffer = np.int32(0)
    while tile < tiles:
        # Beyond the last channel and column the last is loaded again: loads without a condition
        # are all under way at once. Its weight is 0 for a channel, and for a column below.
        at = np.int32(min(column, last))
        product = values.dtype.type(0)
        for c in range(CHANNELS):
            held[c] = x[np.uint32(offsets[np.uint32(first + c)] + at)]
        for c in range(CHANNELS):
            product += weights[np.uint32(first + c)] * held[c]
        partials[np.uint32(buffer + thread)] = product
        cuda.syncthreads()
        product = values.dtype.type(0)
        other = np.int32(buffer + side * groups * WARP + lane)
        end = np.int32(other + groups * WARP)
        while other < end and column <= last:
            product += partials[np.uint32(other)]
            other = np.int32(other + WARP)
        if first == 0 and column <= last:
            products[np.uint32(column)] = product
        for c in range(CHANNELS):
            sums[c] += held[c] * product
        buffer = np.int32(PARTIALS // 2 - buffer)
        tile, column = np.int32(tile + 1), np.int32(column + sides * WARP)
    for c in range(CHANNELS):
        total = warp_sum(sums[c])
        if lane == 0:
            totals[np.uint32(warp * CHANNELS + c)] = total

    cuda.syncthreads()
    channel = np.int32(thread)
    while channel < channels:
        share = 0.0
        other = channel
        while other < sides * groups * CHANNELS:
            share += totals[other]
            other = np.int32(other + groups * CHANNELS)
        shares[place, segment, channel] = share
        channel = np.int32(channel + cuda.blockDim.x)


def _multiplication(precision: Any, threads: int) -> Kernel:
    signature = types.void(
        precision[:, ::1],
        types.float64[:, ::1],
        types.int32[::1],
        types.int32[::1],
        precision[:, :, ::1],
        types.float64[:, :, ::1],
    )
    function = FunctionType(_multiply.__code__, globals(), f"multiply_{precision}")
    return kernel(signature, threads=threads, float64="sums over segments and the vectors' own precision")(
        function
    )


# By the precision of the responses, with blocks whose threads are left the registers that they need.
multiply = MappingProxyType(
    {
        np.dtype(np.float32): _multiplication(types.float32, WARP * LARGEST_BLOCK),
        np.dtype(np.float64): _multiplication(types.float64, WARP * min(LARGEST_BLOCK, 16)),
    }
)


def most_channels(dtype: np.dtype[Any]) -> int:
    """Return for how many channels the registers of a block of `multiply` suffice."""
    return multiply[dtype].threads // WARP * CHANNELS


def block_of(channels: int) -> int:
    """Return the threads of a block that `multiply` takes: whole groups of warps for all channels."""
    groups = -(-channels // CHANNELS)
    return WARP * groups * max(1, FEWEST_WARPS // groups)


def segment_count(channels: int, pixels: int) -> int:
    """Return into how many segments `multiply` cuts a slice."""
    groups = -(-channels // CHANNELS)
    return -(-pixels // (SEGMENT * (block_of(channels) // groups)))


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
