"""Moments of slices and their |∇Y|, and the slices standardised by them.

Threads add up down their columns of a tile, and blocks their threads, in float64 and about a value
of the slice itself: where |∇Y| hardly varies its deviation is the small difference of two sums, and a
slice counts as constant at 10⁻⁶ of the mean. All orders are fixed, so the same slices always give
the same bits.
"""

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cpu.statistics import CONSTANT
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import (
    MOST_WARPS,
    block_sum,
    device_function,
    kernel,
    thread_index,
)
from eigenfeatures.kernels.cuda.gradient import write_magnitude
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.roots import root
from eigenfeatures.kernels.cuda.tile import (
    ALIGNMENT,
    COLUMNS,
    GEOMETRY,
    PIXELS,
    as_rows,
    components,
    launch_on_tiles,
    load_tile,
    mask_by_value,
    mask_type,
    own_column,
    own_rows,
    own_tile,
    place_in_tile,
    plan,
    three_pixels,
    tile_at,
    tile_count,
    tile_rows,
)
from eigenfeatures.kernels.operators import Mask

# Pixels of the largest slice that one block standardises: 512 × 512. A larger one would keep one
# multiprocessor busy while others idle. For float64 its threads would lack registers.
OWNED = 2**18
NARROW = tuple((p, w) for p, w in PIXELS if p != types.float64)
# Most threads of that block; from `MANY` slices on `COLUMNS` of them, as every multiprocessor
# then has other blocks, which compute while one waits for its tile.
OWNERS = 768
MANY = 256

# Why the kernels compute in float64.
SUMS = "sums, of which the deviations are small differences"


@device_function
def length_at(geometry: Any, tile: Any, shared: Any, mask: Any) -> Any:
    """Return |∇Y| at the first pixel of a tile."""
    place = place_in_tile(geometry, tile, tile.row, tile.column)
    above = three_pixels(shared, place - geometry.pitch, mask)
    here, below = three_pixels(shared, place, mask), three_pixels(shared, place + geometry.pitch, mask)
    gy, gx = components(above, here, below, mask)
    return np.float64(root(gx * gx + gy * gy))


@device_function
def add_column(geometry: Any, tile: Any, shared: Any, mask: Any, centres: Any, sums: Any) -> Any:
    """Add Y less its centre, its square, and the same of |∇Y| to four sums, down the thread's column.

    The sums are float64. Those of |∇Y| over one column, of at most `ROWS`
    pixels, are of the working precision, as |∇Y| is.
    """
    total, squares, total_length, square_lengths = sums
    working = type(mask.side)
    centre, lengths, lengths_squared = working(centres[1]), working(0), working(0)
    j = own_column(geometry, tile)
    i, end = own_rows(geometry, tile)
    if j < geometry.width and i < end:
        place = place_in_tile(geometry, tile, i, j)
        above = three_pixels(shared, place - geometry.pitch, mask)
        here = three_pixels(shared, place, mask)
        while i < end:
            place = np.int32(place + geometry.pitch)
            below = three_pixels(shared, place, mask)
            gy, gx = components(above, here, below, mask)
            value = np.float64(here[1]) - centres[0]
            total += value
            squares += value * value
            length = root(gx * gx + gy * gy) - centre
            lengths += length
            lengths_squared += length * length
            above, here = here, below
            i = np.int32(i + 1)
    return total, squares, total_length + lengths, square_lengths + lengths_squared


@device_function
def about_mean(count: Any, centre: Any, total: Any, squares: Any) -> Any:
    """Return the mean of values, and their sum of squares about it, from those sums about a centre."""
    mean = total / count
    rest = squares - total * mean
    return centre + mean, 0.0 if rest < 0.0 else rest  # a NaN stays


@device_function
def pixels_of(geometry: Any, tile: Any) -> Any:
    """Return the number of pixels of a tile, as float64."""
    rows = min(tile.row + tile_rows(geometry), geometry.height) - tile.row
    columns = min(tile.column + geometry.columns, geometry.width) - tile.column
    return np.float64(rows * columns)


@device_function
def write_moments(place: Any, count: Any, mean: Any, squares: Any, out: Any) -> None:
    """Write three numbers, by one thread."""
    if thread_index() == 0:
        out[place], out[place + 1], out[place + 2] = count, mean, squares


@device_function
def join(blocks: Any, first: Any, number: Any, partials: Any) -> Any:
    """Return count, mean and sum of squares about it of the moments at `first`, `first` + 6 and so on."""
    step = 6 * cuda.blockDim.x * cuda.blockDim.y
    begin, end = np.int32(first + 6 * thread_index()), first + 6 * number
    count, total, squares = 0.0, 0.0, 0.0
    k = begin
    while k < end:
        count += blocks[np.uint32(k)]
        total += blocks[np.uint32(k)] * blocks[np.uint32(k + 1)]
        k = np.int32(k + step)
    count, total = block_sum(count, partials), block_sum(total, partials)
    mean = total / count
    k = begin
    while k < end:
        apart = blocks[np.uint32(k + 1)] - mean
        squares += blocks[np.uint32(k + 2)] + blocks[np.uint32(k)] * (apart * apart)
        k = np.int32(k + step)
    return count, mean, block_sum(squares, partials)


@kernel(
    *(
        types.void(
            p[:, ::1], GEOMETRY, mask_type(w), types.float64[:, ::1], types.int32[::1], types.float64[:, ::1]
        )
        for p, w in PIXELS
    ),
    threads=COLUMNS,
    resident=3,
    float64=SUMS,
)
def fill_moments(images: Any, geometry: Any, mask: Any, blocks: Any, done: Any, out: Any) -> None:
    """Each block fills the moments of one tile, and the last one of a slice joins them.

    `done` counts the blocks of a slice that are done, from zero. Which one is the last may vary, what it
    computes does not. Y and |∇Y| are taken about those of the tile's first pixel, so that a small
    deviation survives a large mean.
    """
    shared = cuda.shared.array(0, images.dtype, ALIGNMENT)
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    is_last = cuda.shared.array(1, np.int32)
    number, tile = cuda.blockIdx.z, own_tile(geometry, shared)
    load_tile(images[number], geometry, tile, shared)
    count = pixels_of(geometry, tile)
    centre = np.float64(shared[place_in_tile(geometry, tile, tile.row, tile.column)])
    centres = centre, length_at(geometry, tile, shared, mask)
    sums = add_column(geometry, tile, shared, mask, centres, (0.0, 0.0, 0.0, 0.0))
    place = 6 * (cuda.blockIdx.x + cuda.gridDim.x * cuda.blockIdx.y)
    total, squares = block_sum(sums[0], partials), block_sum(sums[1], partials)
    mean, rest = about_mean(count, centres[0], total, squares)
    write_moments(place, count, mean, rest, blocks[number])
    total, squares = block_sum(sums[2], partials), block_sum(sums[3], partials)
    mean, rest = about_mean(count, centres[1], total, squares)
    write_moments(place + 3, count, mean, rest, blocks[number])
    if thread_index() == 0:
        cuda.threadfence()
        others = cuda.gridDim.x * cuda.gridDim.y - 1
        is_last[0] = 1 if cuda.atomic.add(done, number, 1) == others else 0
    cuda.syncthreads()
    if is_last[0] == 1:
        cuda.threadfence()
        for quantity in range(2):
            joined = join(blocks[number], 3 * quantity, cuda.gridDim.x * cuda.gridDim.y, partials)
            write_moments(3 * quantity, joined[0], joined[1], joined[2], out[number])


@device_function
def scale_of(count: Any, mean: Any, squares: Any) -> Any:
    """Return the mean and the factor that standardise |∇Y|, the latter 0 where it is constant."""
    deviation = math.sqrt(squares / count)
    return mean, 0.0 if deviation <= CONSTANT * mean else 1.0 / deviation


@kernel(
    *(types.void(p[:, ::1], GEOMETRY, mask_type(w), w[:, ::1]) for p, w in NARROW),
    threads=OWNERS,
    float64=SUMS,
)
def fill_own_slice(images: Any, geometry: Any, mask: Any, out: Any) -> None:
    """Each block standardises one slice: it sums over the tiles, and goes over them again."""
    shared = cuda.shared.array(0, images.dtype, ALIGNMENT)
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    working = out.dtype.type
    number = cuda.blockIdx.x
    sums, centre = (0.0, 0.0, 0.0, 0.0), 0.0
    mean, factor = working(0), working(0)
    turn = np.int32(0)
    while turn < 2:
        row, column = np.int32(0), np.int32(0)
        while row < geometry.height:
            tile = tile_at(geometry, number, row, column, shared)
            load_tile(images[number], geometry, tile, shared)
            if turn == 0:
                if row == 0 and column == 0:
                    centre = length_at(geometry, tile, shared, mask)
                sums = add_column(geometry, tile, shared, mask, (0.0, centre), sums)
            else:
                write_magnitude(geometry, tile, shared, mask, mean, factor, out[number])
            column = np.int32(column + geometry.columns)
            if column >= geometry.width:
                row, column = np.int32(row + tile_rows(geometry)), np.int32(0)
        if turn == 0:
            count = np.float64(geometry.height) * np.float64(geometry.width)
            total, squares = block_sum(sums[2], partials), block_sum(sums[3], partials)
            exact_mean, rest = about_mean(count, centre, total, squares)
            exact_mean, exact_factor = scale_of(count, exact_mean, rest)
            mean, factor = working(exact_mean), working(exact_factor)
        turn = np.int32(turn + 1)


@kernel(
    *(types.void(p[:, ::1], GEOMETRY, mask_type(w), types.float64[:, ::1], w[:, ::1]) for p, w in PIXELS),
    threads=COLUMNS,
    float64="the mean and the deviation, as they come",
)
def fill_from_moments(images: Any, geometry: Any, mask: Any, moments: Any, out: Any) -> None:
    """Each block standardises one tile by the moments of its slice (6), of which |∇Y| has the last three."""
    shared = cuda.shared.array(0, images.dtype, ALIGNMENT)
    working = out.dtype.type
    number, tile = cuda.blockIdx.z, own_tile(geometry, shared)
    mean, factor = scale_of(moments[number, 3], moments[number, 4], moments[number, 5])
    load_tile(images[number], geometry, tile, shared)
    write_magnitude(geometry, tile, shared, mask, working(mean), working(factor), out[number])


def moments(images: Array, mask: Mask, out: Array) -> None:
    """Fill `out` (N, 2, 3) with the count, the mean and the sum of squares about it, of Y and of |∇Y|."""
    xp, count = memory.xp(), len(images)
    blocks = xp.empty((count, tile_count(images), 6))
    launch_on_tiles(fill_moments, images, mask, blocks, xp.zeros(count, np.int32), out)


def standardized(images: Array, mask: Mask, out: Array) -> None:
    """Fill `out` (N, H, W) with |∇Y| of each slice, less its mean and over its deviation.

    A deviation of at most `CONSTANT` times the mean gives zeros. Slices of up to `OWNED` pixels cost one
    launch, in which a block reads its slice twice, the second time from the L2 cache where that holds
    all slices under way. For larger ones and for float64 there are two launches, each of a block a tile.
    """
    count, height, width = images.shape
    if height * width > OWNED or images.dtype == np.float64:
        of_slices = memory.xp().empty((count, 2, 3))
        moments(images, mask, of_slices)
        launch_on_tiles(fill_from_moments, images, mask, of_slices, out)
    elif count:
        cut = plan(images, COLUMNS if count >= MANY else OWNERS)
        given = as_rows(images), cut.geometry, mask_by_value(mask, images), as_rows(out)
        memory.launch(fill_own_slice, count, cut.threads, *given, shared=cut.shared)
