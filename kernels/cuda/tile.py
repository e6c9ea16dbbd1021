"""Tiles of a slice in shared memory, loaded 16 bytes at a time whatever the width.

A block takes the rows and columns of a tile with one more on every side. Rows of 266
pixels don't start at multiples of 16 bytes, and a copy of 16 bytes must be aligned at both
ends. So the first pixel of a tile stands as far past such a multiple as it does in the
images, and the distance between rows in shared memory, the pitch, leaves the same remainder
as the width: then every row is a span of aligned chunks, copied as it lies, and a pixel's
place is linear in its row and column.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.arrays import working_dtype
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import (
    SIMULATED,
    WARP,
    Kernel,
    device_function,
    thread_index,
)
from eigenfeatures.kernels.cuda.vector import WIDTH, await_copies, copy_to_shared
from eigenfeatures.kernels.operators import Mask

# Most rows that a thread walks down, holding three of them: enough that the two rows which
# a tile reads beyond its own cost a sixteenth, from the L2 cache as a rule.
ROWS = 16 if SIMULATED else 32
# Widest tile, half of it for float64, of which more would not fit. A slice of 266 columns is one tile across,
# in 9 warps of which 92 % are busy.
COLUMNS = 320
# Bytes of shared memory for a tile: a block has 48 KB without asking, and sums need a little.
SHARED = 47 * 1024
# Most blocks along the last axis of a grid, where slices are.
MOST_SLICES = 65535

# The simulator's arrays are aligned anyway, and it refuses to be told so.
ALIGNMENT = None if SIMULATED else WIDTH


class Geometry(NamedTuple):
    """How slices are cut into tiles; int32.

    Attributes
    ----------
    height, width
        Size of a slice.
    rows
        Rows that a thread walks down.
    columns
        Width of a tile.
    pitch
        Elements from one row of a tile to the next in shared memory.
    base
        Elements by which the images start past a multiple of 16 bytes.
    """

    height: Any
    width: Any
    rows: Any
    columns: Any
    pitch: Any
    base: Any


class Tile(NamedTuple):
    """Where a tile lies; int32.

    Attributes
    ----------
    row, column
        The tile's first row and column in the slice.
    origin
        Place in shared memory of that column in the row above the tile.
    """

    row: Any
    column: Any
    origin: Any


GEOMETRY = types.NamedUniTuple(types.int32, len(Geometry._fields), Geometry)

# Types of pixels, and of the arithmetic on them.
PIXELS = (
    (types.uint8, types.float32),
    (types.uint16, types.float32),
    (types.float32, types.float32),
    (types.float64, types.float64),
)


def mask_type(working: Any) -> Any:
    """Return the type of a mask of one precision, as kernels get it."""
    return types.NamedTuple((working, working, types.boolean), Mask)


class Plan(NamedTuple):
    """How a kernel on tiles is launched.

    Attributes
    ----------
    geometry
        The tiles.
    across, down
        How many there are along a row and a column of a slice.
    threads
        The block: threads along a row, and rows of threads.
    shared
        Bytes of dynamic shared memory.
    """

    geometry: Geometry
    across: int
    down: int
    threads: tuple[int, int]
    shared: int


def plan(images: memory.Array, most_threads: int, rows: int = ROWS) -> Plan:
    """Cut slices (N, H, W) into tiles of whole rows where these are not too wide.

    Each row of threads walks `rows` rows of a tile; there are as many as fit in a block
    of `most_threads` and in shared memory.

    Raises
    ------
    ValueError
        Where a slice has 2³¹ pixels or more.
    """
    _, height, width = images.shape
    return _plan(height, width, images.dtype.itemsize, memory.misalignment(images), most_threads, rows)


@lru_cache(maxsize=256)
def _plan(height: int, width: int, itemsize: int, misalignment: int, most_threads: int, rows: int) -> Plan:
    if height * width >= 2**31:
        raise ValueError(f"a slice of {height} × {width} has more pixels than a GPU's kernels count")
    chunk = WIDTH // itemsize
    across = _blocks(width, COLUMNS if itemsize < 8 else COLUMNS // 2)
    columns = _blocks(width, across)
    along = _blocks(columns, WARP) * WARP
    # Whole chunks on either side of a row keep it apart from its neighbours.
    pitch = columns + 2 * chunk + (width - columns) % chunk
    row = pitch * itemsize
    groups = min(most_threads // along, ((SHARED - WIDTH) // row - 2) // rows, _blocks(height, rows))
    base = misalignment // itemsize
    return Plan(
        Geometry(*np.array((height, width, rows, columns, pitch, base), np.int32)),
        across,
        _blocks(height, groups * rows),
        (along, groups),
        (groups * rows + 2) * row + WIDTH,
    )


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def mask_by_value(mask: Mask, images: memory.Array) -> Mask:
    """Return a mask as a kernel on images gets it: by value, in the precision of the arithmetic."""
    return _mask_in(working_dtype(images), mask)


@lru_cache(maxsize=256)
def _mask_in(dtype: np.dtype[Any], mask: Mask) -> Mask:
    side, centre = np.array((mask.side, mask.centre), dtype)
    return Mask(side, centre, mask.one_sided)


def launch_on_tiles(
    kernel: Kernel, images: memory.Array, mask: Mask, *arguments: memory.Array, rows: int = ROWS
) -> None:
    """Launch a block for each tile of slices (N, H, W), once for every 65,535 slices.

    The kernel gets the geometry and the mask between the images and `arguments`: arrays, whose first
    axis is that of slices too, and numbers. Slices come as rows, so that places in one of them fit 32 bits.
    """
    if len(images) > MOST_SLICES:
        for part in (slice(MOST_SLICES), slice(MOST_SLICES, None)):
            some = (value if isinstance(value, np.floating) else value[part] for value in arguments)
            launch_on_tiles(kernel, images[part], mask, *some, rows=rows)
    elif len(images) > 0:
        cut = plan(images, COLUMNS, rows)
        grid = (cut.across, cut.down, len(images))
        given = (value if isinstance(value, np.floating) else as_rows(value) for value in arguments)
        launched = as_rows(images), cut.geometry, mask_by_value(mask, images), *given
        memory.launch(kernel, grid, cut.threads, *launched, shared=cut.shared)


def tile_count(images: memory.Array) -> int:
    """Return how many tiles `launch_on_tiles` cuts each slice into."""
    cut = plan(images, COLUMNS)
    return cut.across * cut.down


def as_rows(array: memory.Array) -> memory.Array:
    """Return what is of slices, of three axes, as a row a slice."""
    return array.reshape(len(array), -1) if array.ndim == 3 else array


@device_function
def tile_rows(geometry: Any) -> Any:
    """Return the rows of a tile, without the two beyond."""
    return np.int32(geometry.rows * cuda.blockDim.y)


@device_function
def tile_at(geometry: Any, number: Any, row: Any, column: Any, shared: Any) -> Any:
    """Return the tile that begins at a row and column of the slice of a number."""
    chunk = WIDTH // shared.itemsize
    before = np.int64(number) * geometry.height * geometry.width + (row - 1) * geometry.width
    shift = np.int32(before + column + geometry.base) & (chunk - 1)
    return Tile(np.int32(row), np.int32(column), np.int32(chunk + shift))


@device_function
def own_tile(geometry: Any, shared: Any) -> Any:
    """Return the tile of a block of `launch_on_tiles`; `blockIdx.z` is the number of the slice."""
    row, column = cuda.blockIdx.y * tile_rows(geometry), cuda.blockIdx.x * geometry.columns
    return tile_at(geometry, cuda.blockIdx.z, row, column, shared)


@device_function
def place_in_tile(geometry: Any, tile: Any, i: Any, j: Any) -> Any:
    """Return where in shared memory the pixel of row `i` and column `j` of the slice stands."""
    return np.int32(tile.origin + (i + 1 - tile.row) * geometry.pitch + (j - tile.column))


@device_function
def last_row(geometry: Any, tile: Any) -> Any:
    """Return the row below the tile, or beyond the slice."""
    return np.int32(min(tile.row + tile_rows(geometry), geometry.height))


@device_function
def load_tile(image: Any, geometry: Any, tile: Any, shared: Any) -> None:
    """Copy a tile of a slice, given as one row, to shared memory, the edge pixels repeated.

    All threads call it together, once they are done with the tile before; it waits for them.
    """
    cuda.syncthreads()
    i = np.int32(tile.row - 1 + thread_index() // WARP)
    while i <= last_row(geometry, tile):
        load_row(image, geometry, tile, i, shared)
        i = np.int32(i + cuda.blockDim.x * cuda.blockDim.y // WARP)
    await_copies()
    cuda.syncthreads()
    repeat_sides(geometry, tile, shared)
    cuda.syncthreads()


@device_function
def load_row(image: Any, geometry: Any, tile: Any, i: Any, shared: Any) -> None:
    """Copy one row of a tile, by a warp; the row beyond an edge repeats the edge row."""
    chunk, lane = WIDTH // shared.itemsize, thread_index() % WARP
    row = np.int32(min(max(i, 0), geometry.height - 1))
    place = place_in_tile(geometry, tile, i, tile.column)
    first = np.int32(place - min(tile.column, 1))
    last = np.int32(place + min(geometry.columns + 1, geometry.width - tile.column))
    begin, end = np.int32(first & -chunk), np.int32((last + chunk - 1) & -chunk)
    source = np.int32(row * geometry.width + tile.column - place)
    if i == row and source + begin >= 0 and source + end <= geometry.height * geometry.width:
        load_chunks(image, source, shared, np.int32(begin + chunk * lane), end)
    else:  # not aligned alike, or the chunks reach beyond the slice
        k = np.int32(first + lane)
        while k < last:
            shared[np.uint32(k)] = image[np.uint32(source + k)]
            k = np.int32(k + WARP)


@device_function
def load_chunks(image: Any, source: Any, shared: Any, k: Any, end: Any) -> None:
    """Copy this lane's chunks of a row, from place `k` on to before `end`; they stand `source` from there."""
    while k < end:
        copy_to_shared(shared, k, image, np.int32(source + k))
        k = np.int32(k + WIDTH // shared.itemsize * WARP)


@device_function
def repeat_sides(geometry: Any, tile: Any, shared: Any) -> None:
    """Repeat the slice's first and last column beside it, in the rows of a tile."""
    i = np.int32(tile.row - 1 + thread_index())
    right = np.int32(geometry.width - 1)
    while i <= last_row(geometry, tile):
        if tile.column == 0:
            place = place_in_tile(geometry, tile, i, 0)
            shared[np.uint32(place - 1)] = shared[np.uint32(place)]
        if right < tile.column + geometry.columns:
            place = place_in_tile(geometry, tile, i, right)
            shared[np.uint32(place + 1)] = shared[np.uint32(place)]
        i = np.int32(i + cuda.blockDim.x * cuda.blockDim.y)


@device_function
def own_column(geometry: Any, tile: Any) -> Any:
    """Return the column of a slice that this thread walks down, or its width where it has none."""
    if cuda.threadIdx.x < geometry.columns:
        return np.int32(min(tile.column + cuda.threadIdx.x, geometry.width))
    return geometry.width


@device_function
def own_rows(geometry: Any, tile: Any) -> Any:
    """Return the first row that this thread walks down, and the one before which it ends."""
    first = np.int32(tile.row + geometry.rows * cuda.threadIdx.y)
    return first, np.int32(min(first + geometry.rows, geometry.height))


@device_function
def three_pixels(shared: Any, place: Any, mask: Any) -> Any:
    """Return a pixel of the tile between those beside it, in working precision."""
    working = type(mask.side)
    place = np.int64(place)
    return (
        working(shared[np.uint64(place - 1)]),
        working(shared[np.uint64(place)]),
        working(shared[np.uint64(place + 1)]),
    )


@device_function
def components(above: Any, here: Any, below: Any, mask: Any) -> Any:
    """Return gy and gx at the middle of three rows of three pixels.

    The same operations in the same order as on the CPU, where `eigenfeatures.kernels.cpu.gradient`
    says why; fused multiply-adds may change the last digit.
    """
    side, centre = mask.side, mask.centre
    if mask.one_sided:
        return centre * (below[1] - here[1]), centre * (here[2] - here[1])
    down, along = centre * (below[1] - above[1]), centre * (here[2] - here[0])
    if side == 0:
        return down, along
    falling, rising = below[2] - above[0], above[2] - below[0]
    return side * (falling - rising) + down, side * (falling + rising) + along
