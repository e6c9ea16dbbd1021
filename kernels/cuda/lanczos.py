"""The leading right singular vector of each slice by Lanczos iteration, all of it in one launch.

The method is that of `eigenfeatures.kernels.cpu.krylov`. A
block owns a slice: all its threads take the same turns, since what decides is computed from
the same shared numbers in the same order by each warp.
"""

import math
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cpu.ritz import TRIAL
from eigenfeatures.kernels.cuda.compile import WARP, Kernel, device_function, kernel, warp_sum
from eigenfeatures.kernels.cuda.jacobi import orthogonalise
from eigenfeatures.kernels.cuda.passes import CHANNELS, LARGEST_BLOCK, MOST_CHANNELS, PARTIALS, normal_product
from eigenfeatures.kernels.cuda.philox import random_sign

# Passes that there is room for. A Gram matrix takes the time of fewer: see KERNELS.md.
MOST_PASSES = 24

# As in `krylov`: a direction left over that is this small against the largest eigenvalue is rounding.
_NEGLIGIBLE = 1e-12

# As there: the size of the random part of a start, so that none hides the leading vector.
_RANDOM_PART = 0.05

# Cosine of rows of the projected matrix that count as orthogonal: √24 · 2.2·10⁻¹⁶.
_THRESHOLD = 1e-15


@device_function
def products(rows: Any, first: Any, count: Any, vector: Any, out: Any) -> None:
    """Fill `out[:count]` with the products of rows `first` and following with `vector`.

    All may read it upon return.
    """
    warp, lane, warps = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    base = np.int32(0)
    while base < count:
        i = np.int32(base + warp)
        total = 0.0
        c = np.int32(lane)
        while c < rows.shape[1] and i < count:
            total += rows[first + i, c] * vector[c]
            c = np.int32(c + WARP)
        total = warp_sum(total)
        if lane == 0 and i < count:
            out[i] = total
        base = np.int32(base + warps)
    cuda.syncthreads()


@device_function
def norm(vector: Any, channels: Any) -> Any:
    """Return ‖vector‖, from the same sums in each warp and hence the same in all threads."""
    total = 0.0
    c = np.int32(cuda.threadIdx.x % WARP)
    while c < channels:
        total += vector[c] * vector[c]
        c = np.int32(c + WARP)
    return math.sqrt(warp_sum(total))


@device_function
def normalise(vector: Any, channels: Any) -> Any:
    """Divide `vector` by its norm, which is returned; all may read it upon return."""
    size = norm(vector, channels)
    cuda.syncthreads()  # every warp has read it
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        vector[c] /= size
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()
    return size


@device_function
def orthonormalise(vector: Any, basis: Any, count: Any, shares: Any) -> Any:
    """Reduce `vector` to its unit part outside the first `count` rows of the basis; tell whether one is left.

    Twice is enough (Kahan, Parlett).
    """
    channels = basis.shape[1]
    size = normalise(vector, channels)
    for _ in range(2):
        products(basis, 0, count, vector, shares)
        c = np.int32(cuda.threadIdx.x)
        while c < channels:
            outside = vector[c]
            i = np.int32(0)
            while i < count:
                outside -= shares[i] * basis[i, c]
                i = np.int32(i + 1)
            vector[c] = outside
            c = np.int32(c + cuda.blockDim.x)
        cuda.syncthreads()
        size = normalise(vector, channels)
    return size > 0  # false for NaN, of a vector of zeros


@device_function
def extend(
    projected: Any, space: Any, count: Any, direction: Any, image: Any, shares: Any, others: Any
) -> None:
    """Add the last of `count` basis vectors to the projected matrix, made symmetric.

    `direction` is that vector and `image` its product with XᵀX.
    """
    products(space, 0, count, image, shares)
    products(space, space.shape[0] // 2, count, direction, others)
    i = np.int32(cuda.threadIdx.x)
    while i < count:
        mean = (shares[i] + others[i]) / 2.0
        projected[i, count - 1] = mean
        projected[count - 1, i] = mean
        i = np.int32(i + cuda.blockDim.x)
    cuda.syncthreads()


@device_function
def largest(projected: Any, count: Any, rows: Any, moved: Any, values: Any, weights: Any) -> Any:
    """Return the largest eigenvalue of a projected matrix; fill `weights` with its vector."""
    place = np.int32(cuda.threadIdx.x)
    while place < count * count:
        i, k = np.int32(place // count), np.int32(place % count)
        rows[i, k] = projected[i, k]
        place = np.int32(place + cuda.blockDim.x)
    cuda.syncthreads()
    orthogonalise(rows, count, _THRESHOLD, moved)
    i = np.int32(cuda.threadIdx.x)
    while i < count:
        total = 0.0
        k = np.int32(0)
        while k < count:
            total += rows[i, k] * rows[i, k]
            k = np.int32(k + 1)
        values[i] = math.sqrt(total)
        i = np.int32(i + cuda.blockDim.x)
    cuda.syncthreads()
    first, leading = 0.0, np.int32(0)
    i = np.int32(0)
    while i < count:
        if values[i] > first:
            first, leading = values[i], i
        i = np.int32(i + 1)
    i = np.int32(cuda.threadIdx.x)
    while i < count:
        if first > 0:
            weights[i] = rows[leading, i] / first
        else:  # X maps all of the basis to zero: any of it will do
            weights[i] = 1.0 if i == 0 else 0.0
        i = np.int32(i + cuda.blockDim.x)
    cuda.syncthreads()
    return first


@device_function
def combined(rows: Any, first: Any, count: Any, weights: Any, c: Any) -> Any:
    """Return element c of the sum of rows `first` and following times `weights[:count]`."""
    total = 0.0
    i = np.int32(0)
    while i < count:
        total += weights[i] * rows[first + i, c]
        i = np.int32(i + 1)
    return total


@device_function
def falls_too_slowly(first: Any, now: Any, tol: Any, made: Any, limit: Any) -> Any:
    """Tell whether residuals that fall as they did, from the first pass on, miss `tol` within the limit.

    The rate of fall to the power of the passes left, without logarithms: they would take registers.
    """
    needed, expected = 1.0, 1.0
    i = np.int32(1)
    while i < made:
        needed *= now / tol
        i = np.int32(i + 1)
    i = np.int32(made)
    while i < limit:
        expected *= max(first / now, 1.0)
        i = np.int32(i + 1)
    return needed > expected


@device_function
def draw(vector: Any, channels: Any, k0: Any, k1: Any, stream: Any) -> None:
    """Fill `vector` with random signs; all may read it upon return, and none before."""
    cuda.syncthreads()
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        vector[c] = random_sign(k0, k1, stream, c)
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()


def _leading_vectors(
    values: Any,
    energies: Any,
    start: Any,
    started: Any,
    tol: Any,
    k0: Any,
    k1: Any,
    spaces: Any,
    kept: Any,
    vectors: Any,
    left: Any,
    across: Any,
    passes: Any,
    found: Any,
) -> None:
    """Search the leading right singular vector of each slice, a block to each.

    Parameters
    ----------
    values
        Slices (N, C · n), of fewer than 2³¹ values.
    energies
        ‖X‖²_F of the slices (N); no search is made where it isn't above 0 and finite.
    start, started
        Unit vector to start from (C), and whether to; otherwise from the sum of the maps.
    tol
        Bound for ‖A v − θ v‖ / θ, A = XᵀX.
    k0, k1
        Key of the random signs, uint64.
    spaces
        Room for a basis of as many rows as passes may be made, and below it its products with A,
        (N, 2 · passes, C).
    kept
        Room for the products of X with the basis, (N, passes, n), so that X v needs no pass.
    vectors, left, across
        Where the search met `tol`: a unit vector v (N, C), X v (N, n) and XᵀX v (N, C).
    passes, found
        The passes made (N) and whether it did (N).
    """
    direction = cuda.shared.array(MOST_CHANNELS, np.float64)
    product = cuda.shared.array(MOST_CHANNELS, np.float64)
    factors = cuda.shared.array(MOST_CHANNELS, values.dtype)
    offsets = cuda.shared.array(MOST_CHANNELS, np.int32)
    partials = cuda.shared.array(PARTIALS, values.dtype)
    projected = cuda.shared.array((MOST_PASSES, MOST_PASSES), np.float64)
    rows = cuda.shared.array((MOST_PASSES, MOST_PASSES), np.float64)
    shares = cuda.shared.array(MOST_PASSES, np.float64)
    weights = cuda.shared.array(MOST_PASSES, np.float64)
    moved = cuda.shared.array(LARGEST_BLOCK, np.int32)
    residuals = cuda.shared.array(1, np.float64)

    place = cuda.blockIdx.x
    space, energy = spaces[place], energies[place]
    channels = np.int32(space.shape[1])
    pixels = np.int32(values.shape[1] // channels)
    limit = np.int32(space.shape[0] // 2)
    if not 0.0 < energy < math.inf:
        limit = np.int32(0)
    count = np.int32(0)
    converged = False

    draw(direction, channels, k0, k1, 0)
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        size = 1.0 / math.sqrt(channels)
        near = start[c] if started else size
        direction[c] = near + _RANDOM_PART * size * direction[c]
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()
    while count < limit and not converged:
        if not orthonormalise(direction, space, count, shares):
            break
        x = values[place]
        normal_product(
            x, channels, pixels, direction, factors, offsets, partials, kept[place, count], product
        )
        c = np.int32(cuda.threadIdx.x)
        while c < channels:
            space[count, c] = direction[c]
            space[space.shape[0] // 2 + count, c] = product[c]
            c = np.int32(c + cuda.blockDim.x)
        cuda.syncthreads()
        count = np.int32(count + 1)
        extend(projected, space, count, direction, product, shares, weights)
        first = largest(projected, count, rows, moved, shares, weights)
        # The residual is the next direction: with what is in the basis it spans the same Krylov space.
        c = np.int32(cuda.threadIdx.x)
        while c < channels:
            vector = combined(space, 0, count, weights, c)
            direction[c] = combined(space, space.shape[0] // 2, count, weights, c) - first * vector
            c = np.int32(c + cuda.blockDim.x)
        cuda.syncthreads()
        size = norm(direction, channels)
        converged = bool(first > 0.0 and size <= tol * first and count > 1)
        residual = size / first if first > 0.0 else 1.0
        if count == 1 and cuda.threadIdx.x == 0:
            residuals[0] = residual  # read two passes later
        if count >= TRIAL and not converged and falls_too_slowly(residuals[0], residual, tol, count, limit):
            limit = count
        if size <= _NEGLIGIBLE * first:
            draw(direction, channels, k0, k1, count)
    c = np.int32(cuda.threadIdx.x)
    while c < channels and converged:
        vectors[place, c] = combined(space, 0, count, weights, c)
        across[place, c] = combined(space, space.shape[0] // 2, count, weights, c)
        c = np.int32(c + cuda.blockDim.x)
    j = np.int32(cuda.threadIdx.x)
    while j < pixels and converged:
        left[place, j] = combined(kept[place], 0, count, weights, j)
        j = np.int32(j + cuda.blockDim.x)
    if cuda.threadIdx.x == 0:
        passes[place] = count
        found[place] = converged


def _kernel(precision: Any, threads: int) -> Kernel:
    signature = types.void(
        precision[:, ::1],
        types.float64[::1],
        types.float64[::1],
        types.boolean,
        types.float64,
        types.uint64,
        types.uint64,
        types.float64[:, :, ::1],
        precision[:, :, ::1],
        types.float64[:, ::1],
        precision[:, ::1],
        types.float64[:, ::1],
        types.int64[::1],
        types.boolean[::1],
    )
    function = FunctionType(_leading_vectors.__code__, globals(), f"leading_vectors_{precision}")
    reason = "the basis and the projected matrix, as on the CPU; responses are multiplied in float32"
    return kernel(signature, threads=threads, float64=reason)(function)


# By the precision of the responses, with blocks whose threads are left the registers that they need.
leading_vectors = MappingProxyType(
    {
        np.dtype(np.float32): _kernel(types.float32, WARP * LARGEST_BLOCK),
        np.dtype(np.float64): _kernel(types.float64, WARP * min(LARGEST_BLOCK, 16)),
    }
)


def most_channels(dtype: np.dtype[Any]) -> int:
    """Return for how many channels the registers of a block suffice."""
    return leading_vectors[dtype].threads // WARP * CHANNELS
