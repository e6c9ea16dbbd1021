"""The channel with the strongest activation: responses are read once, each map by a block."""

from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import MOST_WARPS, SIMULATED, block_sum, device_function, kernel
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.tile import PIXELS

# Threads of a block, a power of two. Each has four loads under way, 32 KB a multiprocessor.
# The simulator is slow.
THREADS = 64 if SIMULATED else 256

# What `survey` tells of a map: its largest value, its sum, the sum of its positive values and
# their count.
MAXIMUM, SUM, POSITIVE, COUNT = range(4)


@device_function
def comes_before(a: Any, i: Any, b: Any, j: Any) -> Any:
    """Return whether `a` at place `i` is the maximum before `b` at place `j`.

    A NaN is larger than all; of equals the first counts.
    """
    if a != a:
        return b == b or i < j
    return a > b or (a == b and i < j)


@device_function
def find_maximum(value: Any, place: Any, values: Any, places: Any) -> None:
    """Find the maximum over the block and its place, as the first of `values` and `places` (`THREADS`).

    These are shared memory. All threads call it together.
    """
    thread = cuda.threadIdx.x
    values[thread], places[thread] = value, place
    cuda.syncthreads()
    step = THREADS // 2
    while step > 0:
        if thread < step:
            other = thread + step
            if comes_before(values[other], places[other], values[thread], places[thread]):
                values[thread], places[thread] = values[other], places[other]
        cuda.syncthreads()
        step //= 2


@device_function
def with_pixel(value: Any, largest: Any, total: Any, positive: Any, count: Any) -> Any:
    """Return a map's largest value, sums and count of positive values with one more pixel."""
    wide = np.float64(value)
    if value > largest or value != value:
        largest = value
    if value > 0:
        positive, count = positive + wide, np.int32(count + 1)
    return largest, total + wide, positive, count


@kernel(
    *(types.void(p[:, ::1], types.float64[:, ::1]) for p, _ in PIXELS),
    threads=THREADS,
    float64="sums of activations for their means",
)
def survey(maps: Any, out: Any) -> None:
    """Each block fills what there is to tell of one map."""
    values = cuda.shared.array(THREADS, maps.dtype)
    places = cuda.shared.array(THREADS, np.int32)
    partials = cuda.shared.array(MOST_WARPS, np.float64)
    row = maps[cuda.blockIdx.x]
    largest, total, positive, count = row[0], 0.0, 0.0, np.int32(0)
    j = np.int64(cuda.threadIdx.x)
    while j + 3 * THREADS < row.size:
        a, b = row[np.uint64(j)], row[np.uint64(j + THREADS)]
        c, d = row[np.uint64(j + 2 * THREADS)], row[np.uint64(j + 3 * THREADS)]
        largest, total, positive, count = with_pixel(a, largest, total, positive, count)
        largest, total, positive, count = with_pixel(b, largest, total, positive, count)
        largest, total, positive, count = with_pixel(c, largest, total, positive, count)
        largest, total, positive, count = with_pixel(d, largest, total, positive, count)
        j += 4 * THREADS
    while j < row.size:
        largest, total, positive, count = with_pixel(row[np.uint64(j)], largest, total, positive, count)
        j += THREADS
    find_maximum(largest, cuda.threadIdx.x, values, places)
    total, positive = block_sum(total, partials), block_sum(positive, partials)
    positives = block_sum(np.float64(count), partials)
    if cuda.threadIdx.x == 0:
        told = out[cuda.blockIdx.x]
        told[MAXIMUM], told[SUM], told[POSITIVE], told[COUNT] = values[0], total, positive, positives


@kernel(
    types.void(
        types.float64[:, :, ::1],
        types.int64,
        types.int64[::1],
        types.float64[::1],
        types.float64[::1],
        types.float64[::1],
    ),
    threads=THREADS,
)
def choose(told: Any, pixels: Any, index: Any, largest: Any, mean: Any, positive_mean: Any) -> None:
    """Each block fills what there is to tell of one slice's strongest channel."""
    values = cuda.shared.array(THREADS, np.float64)
    places = cuda.shared.array(THREADS, np.int32)
    s = cuda.blockIdx.x
    best = np.int32(min(cuda.threadIdx.x, told.shape[1] - 1))
    c = np.int32(best + THREADS)
    while c < told.shape[1]:
        if comes_before(told[s, c, MAXIMUM], c, told[s, best, MAXIMUM], best):
            best = c
        c = np.int32(c + THREADS)
    find_maximum(told[s, best, MAXIMUM], best, values, places)
    if cuda.threadIdx.x == 0:
        best = places[0]
        total, positive, count = told[s, best, SUM], told[s, best, POSITIVE], told[s, best, COUNT]
        index[s], largest[s], mean[s] = best, values[0], total / pixels
        positive_mean[s] = positive / max(count, 1.0) if total == total else total


def strongest(maps: Array, index: Array, largest: Array, mean: Array, positive_mean: Array) -> None:
    """Fill the rest (N) from maps (N, C, n): see `StrongestChannel`."""
    count, channels, pixels = maps.shape
    if count == 0:
        return
    told = memory.xp().empty((count, channels, 4))
    rows = maps.reshape(-1, pixels), told.reshape(-1, 4)
    memory.launch(survey, count * channels, THREADS, *rows)
    memory.launch(choose, count, THREADS, told, pixels, index, largest, mean, positive_mean)
