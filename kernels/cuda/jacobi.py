"""Eigenvectors of symmetric positive matrices by one-sided Jacobi rotations (Hestenes 1958).

Rotating rows of G until they are orthogonal gives J G = Λ J for an orthogonal J: rows are
then eigenvectors, as long as their eigenvalues. No second matrix is kept, rows lie
contiguous, and pairs of rows are independent: half the rows turn against the other half
at a time, a warp to a pair.
"""

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from eigenfeatures.kernels.cuda.compile import MOST_WARPS, WARP, device_function, kernel, warp_sum

# As LAPACK's xGESVJ. Spectra that fall by 10⁸ took 12 (float32) and 23 (float64) of the 30, C = 128.
SWEEPS = 30

# Warps of a block: with two blocks a multiprocessor, half of what it holds of registers each.
WARPS = 16


@device_function
def opponents(pair: Any, step: Any, players: Any) -> tuple[Any, Any]:
    """Return the rows that meet in a step of a round-robin: the last stays, the others go round."""
    others = players - 1
    a, b = step + pair, step - pair
    if a >= others:
        a -= others
    if b < 0:
        b += others
    if pair == 0:
        b = others
    return np.int32(a), np.int32(b)


@device_function
def rotation(aa: Any, bb: Any, ab: Any, one: Any) -> tuple[Any, Any]:
    """Return cosine and sine of the smaller angle that makes rows a, b of these products orthogonal.

    The rows become cos·a − sin·b and sin·a + cos·b.
    """
    cotangent = (bb - aa) / (ab + ab)  # of twice the angle
    tangent = one / (abs(cotangent) + math.sqrt(one + cotangent * cotangent))
    if cotangent < 0:
        tangent = -tangent
    cosine = one / math.sqrt(one + tangent * tangent)
    return cosine, cosine * tangent


@device_function
def meet(rows: Any, a: Any, b: Any, count: Any, playing: Any, threshold: Any) -> Any:
    """Turn rows a and b against each other by one warp, where they are `playing`; tell whether they moved.

    All threads of the block call together, and those that don't play add nothing to the sums.
    """
    lane = np.int32(cuda.threadIdx.x % WARP)
    aa = ab = bb = rows.dtype.type(0)
    k = lane if playing else count
    while k < count:
        left, right = rows[a, k], rows[b, k]
        aa += left * left
        ab += left * right
        bb += right * right
        k = np.int32(k + WARP)
    aa, ab, bb = warp_sum(aa), warp_sum(ab), warp_sum(bb)
    moved = playing and abs(ab) > threshold * (math.sqrt(aa) * math.sqrt(bb))
    if moved:
        cosine, sine = rotation(aa, bb, ab, rows.dtype.type(1))
        k = lane
        while k < count:
            left, right = rows[a, k], rows[b, k]
            rows[a, k] = cosine * left - sine * right
            rows[b, k] = sine * left + cosine * right
            k = np.int32(k + WARP)
    return moved


@device_function
def orthogonalise(rows: Any, count: Any, threshold: Any, moved: Any) -> Any:
    """Rotate the first `count` rows (of `count` columns) until they are orthogonal, or for `SWEEPS` sweeps.

    Returns whether they are, the same in all threads of the block, which call it together
    once `rows` are written and visible to all. `moved` is int32 in shared memory, one a warp.
    """
    warp, warps = np.int32(cuda.threadIdx.x // WARP), np.int32(cuda.blockDim.x // WARP)
    players = np.int32(count + count % 2)  # with an odd number, one pauses
    sweep = np.int32(0)
    while sweep < SWEEPS:
        mine = np.int32(0)
        step = np.int32(0)
        while step < players - 1:
            # Pairs of one step share no row, so only the steps need a barrier between them.
            pair = warp
            while pair - warp < players // 2:
                a, b = opponents(pair, step, players)
                playing = pair < players // 2 and a < count and b < count
                if meet(rows, a, b, count, playing, threshold):
                    mine = np.int32(1)
                pair = np.int32(pair + warps)
            cuda.syncthreads()
            step = np.int32(step + 1)
        if cuda.threadIdx.x % WARP == 0:
            moved[warp] = mine
        cuda.syncthreads()
        any_moved = np.int32(0)
        other = np.int32(0)
        while other < warps:
            any_moved |= moved[other]
            other = np.int32(other + 1)
        # The next write to `moved` comes after the next sweep's barriers, hence after all have read it.
        if any_moved == 0:
            return True
        sweep = np.int32(sweep + 1)
    return False


@kernel(
    types.void(types.float32[:, :, ::1], types.float32, types.boolean[::1]),
    types.void(types.float64[:, :, ::1], types.float64, types.boolean[::1]),
    threads=WARPS * WARP,
)
def eigenvectors(matrices: Any, threshold: Any, converged: Any) -> None:
    """Turn each positive definite matrix of (N, C, C) to rows λ_i v_i, in no order: a block each.

    Rows count as orthogonal where the cosine of their angle is at most `threshold`.
    """
    moved = cuda.shared.array(MOST_WARPS, np.int32)
    matrix = matrices[cuda.blockIdx.x]
    orthogonal = orthogonalise(matrix, matrix.shape[0], threshold, moved)
    if cuda.threadIdx.x == 0:
        converged[cuda.blockIdx.x] = orthogonal
