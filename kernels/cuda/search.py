"""The leading right singular vector of each slice by Lanczos iteration, all slices side by side.

The method is that of `eigenfeatures.kernels.cpu.krylov`, but for when a search is given up: see
`ritz.falls_too_slowly`. A pass is two launches, whatever the number of slices: all multiprocessors read all
slices (`passes.multiply`), then a block a slice takes the next step (`lanczos.advance`). The second start, of
random weights, that a search for two values has takes a pass of its own here.
"""

from typing import Any, NamedTuple, Self

import numpy as np

from eigenfeatures.kernels.cuda import lanczos, memory, passes
from eigenfeatures.kernels.cuda.memory import Array

# Passes after which the host asks whether all searches have ended, since it queues them ahead.
_QUEUED = 10


class Search(NamedTuple):
    """Arrays of the searches of N slices, of at most P passes each.

    Attributes
    ----------
    spaces
        A basis, and below it its products with XᵀX, ``(N, 2 P, C)``.
    kept
        The products of X with the basis, ``(N, P, n)``, so that X v needs no pass.
    shares
        XᵀX y of the newest basis vector y by segments, ``(N, S, C)``.
    projected
        XᵀX in the basis, ``(N, P, P)``.
    directions
        What to multiply next, ``(N, C)``.
    weights
        Of the basis in v where a search met the tolerance, ``(N, P)``.
    vectors, across
        There v and XᵀX v, ``(N, C)``.
    ratios
        There √(θ_2 / θ_1), ``(N,)``; NaN where it wasn't asked for.
    firsts
        The residual after the first pass, ``(N,)``.
    counts, limits
        The passes made, and how many are to be, ``(N,)``.
    found
        Whether a search met the tolerance, ``(N,)``.
    """

    spaces: Array
    kept: Array
    shares: Array
    projected: Array
    directions: Array
    weights: Array
    vectors: Array
    across: Array
    ratios: Array
    firsts: Array
    counts: Array
    limits: Array
    found: Array

    @classmethod
    def make(cls, count: int, channels: int, pixels: int, dtype: np.dtype[Any], most: int) -> Self:
        """Make room for slices (C, n) and at most so many passes."""
        xp = memory.xp()
        return cls(
            spaces=xp.empty((count, 2 * most, channels)),
            kept=xp.empty((count, most, pixels), dtype),
            shares=xp.empty((count, passes.segment_count(channels, pixels), channels)),
            projected=xp.empty((count, most, most)),
            directions=xp.empty((count, channels)),
            weights=xp.empty((count, most)),
            vectors=xp.empty((count, channels)),
            across=xp.empty((count, channels)),
            ratios=xp.empty(count),
            firsts=xp.empty(count),
            counts=xp.empty(count, np.int32),
            limits=xp.empty(count, np.int32),
            found=xp.empty(count, np.bool_),
        )


def search(
    values: Array,
    pixels: int,
    energies: Array,
    start: Array | None,
    tol: float,
    limit: int,
    seed: int,
    both: bool,
) -> tuple[Search, Array]:
    """Search the leading right singular vector of each slice.

    Parameters
    ----------
    values
        Slices ``(N, C · n)``, of fewer than 2³¹ values.
    pixels
        n.
    energies
        ‖X‖²_F of the slices, ``(N,)``; no search is made where it isn't above 0 and finite.
    start
        Unit vector to start from, ``(C,)``; otherwise from the sum of the maps.
    tol
        Bound for ‖A v − θ v‖ / θ, A = XᵀX.
    limit
        Passes, at most `lanczos.MOST_PASSES`.
    seed
        Of the random weights.
    both
        Go on until √(θ_2 / θ_1) is known.

    Returns
    -------
    Search
        What was found.
    array
        X v, ``(N, n)``: zeros where nothing was found.
    """
    xp = memory.xp()
    count, channels = len(values), values.shape[1] // pixels
    found = Search.make(count, channels, pixels, values.dtype, limit)
    key = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    near = energies if start is None else start  # without a start nothing is read of it
    memory.launch(
        lanczos.begin,
        count,
        lanczos.STEPPERS,
        energies,
        near,
        start is not None,
        np.int32(limit),
        *key,
        found.directions,
        found.vectors,
        found.across,
        found.ratios,
        found.counts,
        found.limits,
        found.found,
    )
    multiply = memory.prepared(
        passes.multiply[values.dtype],
        count * found.shares.shape[1],
        passes.block_of(channels),
        values,
        found.directions,
        found.counts,
        found.limits,
        found.kept,
        found.shares,
    )
    step = memory.prepared(lanczos.advance, count, lanczos.STEPPERS, tol, both, *key, *_stepping(found))
    for made in range(limit):
        if made > 0 and made % _QUEUED == 0 and not bool((found.counts < found.limits).any()):
            break
        multiply()
        step()
    left = xp.empty((count, pixels), values.dtype)
    blocks = count * -(-pixels // lanczos.COMBINERS)
    memory.launch(
        lanczos.combine_products,
        blocks,
        lanczos.COMBINERS,
        found.weights,
        found.counts,
        found.found,
        found.kept,
        left,
    )
    return found, left


def _stepping(found: Search) -> tuple[Array, ...]:
    """Return the arrays that `lanczos.advance` takes, in its order."""
    return (
        found.shares,
        found.spaces,
        found.projected,
        found.directions,
        found.weights,
        found.vectors,
        found.across,
        found.ratios,
        found.firsts,
        found.counts,
        found.limits,
        found.found,
    )
