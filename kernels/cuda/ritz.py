"""What a Lanczos iteration computes between its passes, by one block a slice: see the CPU's `ritz`.

`falls_too_slowly` alone has another rule than the CPU's `falls_fast_enough`.

All threads of the block call these together and take the same turns, since what decides is computed
from the same numbers in the same order by each warp.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from eigenfeatures.kernels.cpu.ritz import APART, RATIO
from eigenfeatures.kernels.cuda.compile import WARP, device_function, warp_sum
from eigenfeatures.kernels.cuda.jacobi import orthogonalise

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
def eigenvalues(projected: Any, count: Any, rows: Any, moved: Any, values: Any) -> None:
    """Turn a copy of a projected matrix to `rows` λ_i v_i, in no order, and fill `values` with λ_i."""
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


@device_function
def largest(values: Any, count: Any, above: Any, before: Any) -> Any:
    """Return the place of the largest of `values[:count]` but for two places; −1 where none is left."""
    found = np.int32(-1)
    i = np.int32(0)
    while i < count:
        if i != above and i != before and (found < 0 or values[i] > values[found]):
            found = i
        i = np.int32(i + 1)
    return found


@device_function
def unit_row(rows: Any, place: Any, count: Any, value: Any, weights: Any) -> None:
    """Fill `weights` with the eigenvector in a row of length `value`; all may read them upon return.

    A projected matrix of zeros says that X maps all of the basis to zero, and any of it will do.
    """
    i = np.int32(cuda.threadIdx.x)
    while i < count:
        if value > 0:
            weights[i] = rows[place, i] / value
        else:
            weights[i] = 1.0 if i == 0 else 0.0
        i = np.int32(i + cuda.blockDim.x)
    cuda.syncthreads()


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
def residual(space: Any, count: Any, weights: Any, value: Any, out: Any) -> Any:
    """Fill `out` with the residual XᵀX v − θ v of an approximation and return its norm.

    The upper half of `space` is the basis, and the lower one its products with XᵀX.
    """
    channels = space.shape[1]
    c = np.int32(cuda.threadIdx.x)
    while c < channels:
        vector = combined(space, 0, count, weights, c)
        out[c] = combined(space, space.shape[0] // 2, count, weights, c) - value * vector
        c = np.int32(c + cuda.blockDim.x)
    cuda.syncthreads()
    size = norm(out, channels)
    cuda.syncthreads()  # every warp has read it
    return size


@device_function
def ratio_is_known(first: Any, second: Any, third: Any, size: Any) -> Any:
    """Tell whether √(θ_2 / θ_1) has an error of about `RATIO` at most: see the function for the CPU."""
    off, apart = size / first, (second - third) / first
    if off < APART * apart:
        off *= off / apart
    return off <= RATIO * max(2.0 * math.sqrt(second / first), RATIO)


@device_function
def falls_too_slowly(first: Any, now: Any, tol: Any, made: Any, limit: Any) -> Any:
    """Tell whether residuals that fall as they did, from the first pass on, miss `tol` within the limit.

    The CPU takes the fall from the largest residual, and lets more passes than the limit be expected.

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
