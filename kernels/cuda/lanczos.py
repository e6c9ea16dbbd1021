"""The steps of a Lanczos iteration between its passes, a block a slice.

`eigenfeatures.kernels.cuda.search.Search` says what their arrays hold.
"""

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cpu.ritz import NEGLIGIBLE, RANDOM_PART, TRIAL
from eigenfeatures.kernels.cuda.compile import MOST_WARPS, SIMULATED, WARP, device_function, kernel
from eigenfeatures.kernels.cuda.passes import MOST_CHANNELS
from eigenfeatures.kernels.cuda.philox import random_weight
from eigenfeatures.kernels.cuda.ritz import (
    combined,
    eigenvalues,
    extend,
    falls_too_slowly,
    largest,
    norm,
    orthonormalise,
    ratio_is_known,
    residual,
    unit_row,
)

# Passes that there is room for. A Gram matrix and its eigenvectors take the time of more: see KERNELS.md.
MOST_PASSES = 24

# Threads of the blocks that take a step between passes, and of those that take a column each.
STEPPERS = 2 * WARP if SIMULATED else 4 * WARP
COMBINERS = WARP if SIMULATED else 256


@device_function
def draw(vector: Any, channels: Any, k0: Any, k1: Any, stream: Any) -> None:
    """Fill `vector` with random weights; all may read it upon return, and none before."""
    cuda.syncthreads()
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        vector[c] = random_weight(k0, k1, stream, c)
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()


@kernel(
    types.void(
        types.float64[::1],
        types.float64[::1],
        types.boolean,
        types.int32,
        types.uint64,
        types.uint64,
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float64[::1],
        types.int32[::1],
        types.int32[::1],
        types.boolean[::1],
    ),
    threads=STEPPERS,
)
def begin(
    energies: Any,
    start: Any,
    started: Any,
    limit: Any,
    k0: Any,
    k1: Any,
    directions: Any,
    vectors: Any,
    across: Any,
    ratios: Any,
    counts: Any,
    limits: Any,
    found: Any,
) -> None:
    """Fill the first unit vectors, and what is known before the first pass."""
    direction = cuda.shared.array(MOST_CHANNELS, np.float64)
    place, channels = cuda.blockIdx.x, np.int32(directions.shape[1])
    draw(direction, channels, k0, k1, 0)
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        size = 1.0 / math.sqrt(channels)
        near = start[c] if started else size
        direction[c] = near + RANDOM_PART * size * direction[c]
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()
    size = norm(direction, channels)
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        directions[place, c] = direction[c] / size
        vectors[place, c], across[place, c] = 0.0, 0.0
        c = np.int32(c + cuda.blockDim.x)
    if cuda.threadIdx.x == 0:
        ratios[place], counts[place], found[place] = math.nan, 0, False
        limits[place] = limit if 0.0 < energies[place] < math.inf and size > 0.0 else 0


@device_function
def append(space: Any, count: Any, direction: Any, shares: Any, image: Any) -> None:
    """Add a basis vector to a space, and its product with XᵀX, which `image` is filled with."""
    c = np.int32(cuda.threadIdx.x)
    while c < image.size and c < space.shape[1]:
        total = 0.0
        segment = np.int32(0)
        while segment < shares.shape[0]:
            total += shares[segment, c]
            segment = np.int32(segment + 1)
        image[c] = total
        space[count, c] = direction[c]
        space[space.shape[0] // 2 + count, c] = total
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()


@kernel(
    types.void(
        types.float64,
        types.boolean,
        types.uint64,
        types.uint64,
        types.float64[:, :, ::1],
        types.float64[:, :, ::1],
        types.float64[:, :, ::1],
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float64[::1],
        types.float64[::1],
        types.int32[::1],
        types.int32[::1],
        types.boolean[::1],
    ),
    threads=STEPPERS,
)
def advance(
    tol: Any,
    both: Any,
    k0: Any,
    k1: Any,
    shares: Any,
    spaces: Any,
    projections: Any,
    directions: Any,
    weights: Any,
    vectors: Any,
    across: Any,
    ratios: Any,
    firsts: Any,
    counts: Any,
    limits: Any,
    found: Any,
) -> None:
    """Take what a pass has told into account, and say what to multiply next, or that a search has ended.

    The next direction is the residual of the best approximation: with what is in the basis it spans the
    same Krylov space.
    """
    direction = cuda.shared.array(MOST_CHANNELS, np.float64)
    image = cuda.shared.array(MOST_CHANNELS, np.float64)
    rows = cuda.shared.array((MOST_PASSES, MOST_PASSES), np.float64)
    values = cuda.shared.array(MOST_PASSES, np.float64)
    leading = cuda.shared.array(MOST_PASSES, np.float64)
    following = cuda.shared.array(MOST_PASSES, np.float64)
    moved = cuda.shared.array(MOST_WARPS, np.int32)

    place = cuda.blockIdx.x
    count, limit = counts[place], limits[place]
    if count >= limit:
        return
    space, projected, channels = spaces[place], projections[place], np.int32(spaces.shape[2])
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        direction[c] = directions[place, c]
        c = np.int32(c + cuda.blockDim.x)
    append(space, count, direction, shares[place], image)
    count = np.int32(count + 1)
    extend(projected, space, count, direction, image, leading, following)
    eigenvalues(projected, count, rows, moved, values)
    first = largest(values, count, -1, -1)
    second = largest(values, count, first, -1)
    value, next_value = values[first], 0.0
    unit_row(rows, first, count, value, leading)
    size = residual(space, count, leading, value, direction)
    now = size / value if value > 0.0 else 1.0

    # The passes that this approximation is of: a second start adds none.
    made = np.int32(count - 1) if both else count
    met = bool(value > 0.0 and now <= tol and (made > 1 or count == channels))
    if made == 1 and cuda.threadIdx.x == 0:
        firsts[place] = now
    if made >= TRIAL and not met and falls_too_slowly(firsts[place], now, tol, made, limit):
        limit = count
    if both and met and second >= 0:
        third = largest(values, count, first, second)
        next_value = values[second] if values[second] > NEGLIGIBLE * value else 0.0
        if next_value > 0.0:
            unit_row(rows, second, count, next_value, following)
            size = residual(space, count, following, next_value, direction)
            met = ratio_is_known(value, next_value, values[third] if third >= 0 else 0.0, size)

    if met:
        c = np.int32(cuda.threadIdx.x)
        while c < channels:
            vectors[place, c] = combined(space, 0, count, leading, c)
            across[place, c] = combined(space, space.shape[0] // 2, count, leading, c)
            c = np.int32(c + cuda.blockDim.x)
        i = np.int32(cuda.threadIdx.x)
        while i < count:
            weights[place, i] = leading[i]
            i = np.int32(i + cuda.blockDim.x)
        limit = count
    elif count < limit:
        if both and count == 1:
            draw(direction, channels, k0, k1, 1)
        elif size <= NEGLIGIBLE * value:
            draw(direction, channels, k0, k1, count)
        if not orthonormalise(direction, space, count, following):
            limit = count
        c = np.int32(cuda.threadIdx.x)
        while c < channels:
            directions[place, c] = direction[c]
            c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()  # every thread has read what is written here
    if cuda.threadIdx.x == 0:
        counts[place], limits[place], found[place] = count, limit, met
        if met and both:
            ratios[place] = math.sqrt(next_value / value)


@kernel(
    *(
        types.void(
            types.float64[:, ::1],
            types.int32[::1],
            types.boolean[::1],
            precision[:, :, ::1],
            precision[:, ::1],
        )
        for precision in (types.float32, types.float64)
    ),
    threads=COMBINERS,
)
def combine_products(weights: Any, counts: Any, found: Any, kept: Any, left: Any) -> None:
    """Fill `left` (N, n) with X v from the products of the basis, or 0 without v: a thread a column."""
    pixels = np.int32(left.shape[1])
    tiles = np.int32((pixels + cuda.blockDim.x - 1) // cuda.blockDim.x)
    place = np.int32(cuda.blockIdx.x // tiles)
    column = np.int32(cuda.blockIdx.x % tiles * cuda.blockDim.x + cuda.threadIdx.x)
    if column < pixels:
        count = counts[place] if found[place] else np.int32(0)
        left[place, column] = combined(kept[place], 0, count, weights[place], column)
