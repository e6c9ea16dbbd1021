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

# Threads of a block, and columns a thread, of the passes that are made once.
SURVEYORS = 32 if SIMULATED else 512
LEFT_WARPS, LEFT_CHANNELS, LEFT_COLUMNS = (2, 2, 2) if SIMULATED else (8, 4, 4)
LEFT_WIDTH = WARP * LEFT_COLUMNS

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
    scale: Any,
    y: Any,
    weights: Any,
    offsets: Any,
    partials: Any,
    totals: Any,
) -> None:
    """Fill `totals[:C]` with Xᵀ (X y) of the scaled X, reading it once.

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
                values[c] = x[np.uint32(offsets[np.uint32(first + c)] + place)] * scale
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


@device_function
def share_of_tile(x: Any, scale: Any, v: Any, pixels: Any, start: Any, out: Any) -> None:
    """Fill `out` (`LEFT_WIDTH`) with a warp's share of X v on the tile from column `start` on, in float64.

    As in `normal_product`, what lies beyond is loaded from the last channel or column; columns
    beyond are not for use.
    """
    lane, warps = cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    wide = cuda.local.array(LEFT_COLUMNS, np.float64)
    for k in range(LEFT_COLUMNS):
        wide[k] = 0.0
    c = cuda.threadIdx.x // WARP
    while c < v.size:
        for i in range(LEFT_CHANNELS):
            channel = min(c + i * warps, v.size - 1)
            weight = v[channel] * np.float64(scale) if c + i * warps < v.size else 0.0
            for k in range(LEFT_COLUMNS):
                column = min(start + k * WARP + lane, pixels - 1)
                wide[k] += weight * np.float64(x[np.uint64(channel * pixels + column)])
        c += LEFT_CHANNELS * warps
    for k in range(LEFT_COLUMNS):
        out[k * WARP + lane] = wide[k]


@device_function
def add_products(x: Any, scale: Any, vector: Any, pixels: Any, start: Any, out: Any) -> None:
    """Add to `out` (C), float64, the products of the channels with `vector` on the tile from `start` on.

    All threads of the block call together. `vector` (`LEFT_WIDTH`) is 0 beyond the last column.
    """
    lane, warps = cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    shares = cuda.local.array(LEFT_CHANNELS, x.dtype)
    base = 0
    while base < out.size:
        c = base + cuda.threadIdx.x // WARP
        for i in range(LEFT_CHANNELS):
            channel = min(c + i * warps, out.size - 1)
            shares[i] = x.dtype.type(0)
            for k in range(LEFT_COLUMNS):
                column = min(start + k * WARP + lane, pixels - 1)
                value = x[np.uint64(channel * pixels + column)] * scale
                shares[i] += value * vector[k * WARP + lane]
        for i in range(LEFT_CHANNELS):
            share = warp_sum(shares[i])
            if lane == 0 and c + i * warps < out.size:
                out[c + i * warps] += share
        base += LEFT_CHANNELS * warps


@kernel(
    *(
        types.void(
            precision[:, ::1],
            precision[::1],
            types.float64[:, :, ::1],
            precision[:, :, ::1],
            types.float64[:, :, ::1],
            types.float64[:, :, ::1],
        )
        for precision in (types.float32, types.float64)
    ),
    threads=LEFT_WARPS * WARP,
    float64="float32 would magnify the error of a small s_i by s_1/s_i",
)
def left_vectors(values: Any, scales: Any, vectors: Any, left: Any, sums: Any, products: Any) -> None:
    """Fill `left` (N, r, n) with X v_i, and what its error and its sign are measured by: a block each.

    `values` (N, C · n) are the slices, `scales` (N) what they are multiplied by, `vectors` (N, r, C)
    the v_i. X v_i is summed in float64. `sums` (N, r, 4) get Σ u² and Σ (X v_i − u)² of the
    rounded u, Σ u and Σ u|u|; `products` (N, r, C) get Xᵀ u. A tile is read from memory once, and
    then from a cache: the blocks of a slice follow each other, and its tiles stay in the L2 for them.
    """
    image, i = cuda.blockIdx.x // left.shape[1], cuda.blockIdx.x % left.shape[1]
    x, scale = values[image], scales[image]
    v, u, across = vectors[image, i], left[image, i], products[image, i]
    thread = cuda.threadIdx.x
    warp, warps = thread // WARP, cuda.blockDim.x // WARP
    partials = cuda.shared.array((LEFT_WARPS, LEFT_WIDTH), np.float64)
    rounded = cuda.shared.array(LEFT_WIDTH, values.dtype)
    totals = cuda.shared.array(MOST_WARPS, np.float64)

    for c in range(thread, v.size, cuda.blockDim.x):
        across[c] = 0.0
    squares, lost, total, signed = 0.0, 0.0, 0.0, 0.0
    start = 0
    while start < u.size:
        share_of_tile(x, scale, v, u.size, start, partials[warp])
        cuda.syncthreads()
        if thread < LEFT_WIDTH:
            product, value = 0.0, 0.0
            if start + thread < u.size:
                for other in range(warps):
                    product += partials[other, thread]
                u[start + thread] = product
                value = np.float64(u[start + thread])
            rounded[thread] = value
            squares += value * value
            lost += (product - value) * (product - value)
            total += value
            signed += value * abs(value)
        cuda.syncthreads()
        # The next tile's `rounded` is written behind its first barrier, hence after all have read this one.
        add_products(x, scale, rounded, u.size, start, across)
        start += LEFT_WIDTH
    squares, lost = block_sum(squares, totals), block_sum(lost, totals)
    total, signed = block_sum(total, totals), block_sum(signed, totals)
    if thread == 0:
        sums[image, i, 0] = squares
        sums[image, i, 1] = lost
        sums[image, i, 2] = total
        sums[image, i, 3] = signed
