"""The leading singular triplet of one slice by a Krylov space, all passes in one call of a kernel."""

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu import lanczos, passes, philox, team
from eigenfeatures.kernels.cpu.compile import thread_count
from eigenfeatures.kernels.cpu.lanczos import Workspace
from eigenfeatures.kernels.cpu.ritz import RANDOM_PART, SECOND_RANDOM_PART


class Survey(NamedTuple):
    """``‖X‖²_F``, and whether no value is below zero."""

    energy: float
    nonnegative: bool


class Leading(NamedTuple):
    """The leading singular triplet, but for u: s, v, XᵀX v and ‖X v − s u‖ / s from the rounding of u.

    The second row of ``v`` is the best approximation of the second vector in the same space, or zero, and
    ``gap`` is σ₂/σ₁ by it.
    """

    s: float
    gap: float
    v: NDArray[np.float64]
    image: NDArray[np.float64]
    lost: float


class Search(NamedTuple):
    """What a search found, with the survey that its first pass made."""

    survey: Survey
    passes: int
    leading: Leading | None


@lru_cache(maxsize=16)  # along a stack they are the same in every slice
def random_weights(count: int, seed: int, stream: int = 0) -> NDArray[np.float64]:
    """Return `philox.random_weights` of the seed and the stream, which can't be written to."""
    weights = np.empty(count)
    philox.random_weights(_key(seed), stream, weights)
    weights.flags.writeable = False
    return weights


def _key(seed: int) -> NDArray[np.uint64]:
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)


def survey(x: NDArray[Any]) -> Survey:
    """Read the rows ``(C, n)`` for what is asked before the search."""
    tiles = np.empty((passes.tile_count(x.shape[1]), 2))
    passes.survey(x, tiles)
    return Survey(float(tiles[:, 0].sum()), not tiles[:, 1].any())


def search(
    x: NDArray[Any],
    start: NDArray[np.float64],
    tol: float,
    seed: int,
    both: bool,
    room: Workspace,
    u: NDArray[Any],
) -> Search:
    """Search the leading singular triplet of X by Lanczos iteration.

    Lanczos with full reorthogonalisation on A = XᵀX: the next basis vector is the residual of the
    best approximation so far (Rayleigh–Ritz), which spans the same space as the three-term
    recurrence and needs no further pass.

    A small residual tells that there is a singular vector, not that it is the first: a start from
    a neighbouring slice may have no part in another one that has overtaken it. So every start gets
    a random part. The largest Ritz value belongs to a space that holds the start; with a
    part in v₁ far above the tolerance, no other vector reaches a residual below it, unless the
    two singular values differ by about the tolerance over that part: some hundredths of s_1 at most.

    The second singular vector of the slice before shares the first read of X, and takes the place of a pass.
    It has a random part, too: of maps with no pixel in common, vectors of neighbouring slices are exact
    ones here, and one that was overtaken by a third has no residual by which to leave it.

    Where σ₂ is asked for too, the search goes on with the second approximation's residual. A space that
    grows from one vector holds but one of those that share a singular value, so that then a second start
    of random weights is added where there is none.

    The vectors X y_k are kept, n numbers a pass, so that u needs no pass of its own.

    Parameters
    ----------
    x
        Rows ``(C, n)``.
    start
        One or two vectors ``(k, C)``, the first of length 1.
    tol
        Bound for ``‖A v − θ v‖ / θ``.
    seed
        For the random part of the start, and the direction to go on with where the space is exhausted.
    both
        Whether to go on until σ₂/σ₁ is known to about `eigenfeatures.kernels.cpu.ritz.RATIO`.
    room
        For slices of this size. It tells how many passes may be made.
    u
        Filled with the left vector ``(n,)`` where the search succeeds.

    Returns
    -------
    Search
        Without `leading` where the tolerance isn't met, or the energy is out of the range in which
        sums of products neither overflow nor vanish.
    """
    channels = len(x)
    directions = np.zeros((lanczos.STARTS, channels))
    directions[: len(start)] = start
    for k, part in zip(range(len(start)), (RANDOM_PART, SECOND_RANDOM_PART), strict=False):
        directions[k] += part / np.sqrt(channels) * random_weights(channels, seed, stream=k)
    if both and len(start) == 1:
        directions[1] = random_weights(channels, seed, stream=1)
    v, numbers = np.empty((lanczos.STARTS, channels)), np.zeros(lanczos.LOST + 1)
    found = lanczos.Found(v, np.empty(channels), u, numbers)
    members = min(thread_count(), len(room.shares))
    arguments = (
        team.make(members),
        x,
        directions,
        _key(seed),
        float(tol),
        bool(both),
        *in_range(x.dtype),
        lanczos.task(),
        room,
        found,
    )
    lanczos.search(members, lanczos.work_together.address(x.dtype, *arguments), *arguments)
    of_all = Survey(float(numbers[lanczos.ENERGY]), numbers[lanczos.NEGATIVE] == 0)
    made = int(numbers[lanczos.PASSES])
    if not numbers[lanczos.CONVERGED]:
        return Search(of_all, made, None)
    size = numbers[lanczos.SIZE]
    s = float(np.sqrt(numbers[lanczos.VALUE]) * size)
    gap = float(np.sqrt(max(numbers[lanczos.SECOND] / numbers[lanczos.VALUE], 0.0)))
    return Search(of_all, made, Leading(s, gap, v, found.image, float(numbers[lanczos.LOST] / size)))


@cache
def in_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the bounds of ‖X‖²_F between which sums of products of responses neither overflow nor vanish."""
    bound = 2.0 ** (np.finfo(dtype).maxexp // 2)
    return 1 / bound, bound
