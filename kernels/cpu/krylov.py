"""The leading singular triplet of one slice by a Krylov space, all passes in one call of a kernel."""

from typing import Any, NamedTuple, Self

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu import passes, philox
from eigenfeatures.kernels.cpu.compile import Kernel, helper
from eigenfeatures.kernels.cpu.eigen import dot
from eigenfeatures.kernels.cpu.passes import (
    TILE,
    add_up,
    combine_columns,
    combine_rows,
    round_off,
    row_products,
    row_survey,
)
from eigenfeatures.kernels.cpu.ritz import (
    combine,
    divide,
    expected_passes,
    extend,
    leading_pair,
    orthonormalise,
)

# A direction left over that is this small against the largest eigenvalue is rounding.
_NEGLIGIBLE = 1e-12

# Size of the random part of a start: about twice as far as the vectors of neighbouring slices are apart.
_RANDOM_PART = 0.05

# Places of the numbers that a search tells: passes made, whether it converged, ‖X‖²_F, whether a value is
# below zero, the largest eigenvalue, and of X v over its square root the norm and what rounding lost.
_PASSES, _CONVERGED, _ENERGY, _NEGATIVE, _VALUE, _SIZE, _LOST = range(7)


class Survey(NamedTuple):
    """``‖X‖²_F``, and whether no value is below zero."""

    energy: float
    nonnegative: bool


class Leading(NamedTuple):
    """The leading singular triplet, but for u: s, v, XᵀX v and ‖X v − s u‖ / s from the rounding of u."""

    s: float
    v: NDArray[np.float64]
    image: NDArray[np.float64]
    lost: float


class Search(NamedTuple):
    """What a search found, with the survey that its first pass made."""

    survey: Survey
    passes: int
    leading: Leading | None


class Workspace(NamedTuple):
    """Arrays that the searches of a stack share: `products` are of the responses' precision."""

    basis: NDArray[np.float64]
    images: NDArray[np.float64]
    products: NDArray[Any]
    projected: NDArray[np.float64]
    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    surveys: NDArray[np.float64]

    @classmethod
    def make(cls, channels: int, pixels: int, dtype: np.dtype[Any], passes_made: int) -> Self:
        """Make room for slices (C, n) and at most so many passes."""
        limit, tiles = min(passes_made, channels), passes.tile_count(pixels)
        return cls(
            np.empty((limit, channels)),
            np.empty((limit, channels)),
            np.empty((limit, pixels), dtype),
            np.empty((limit, limit)),
            np.empty(limit),
            np.empty((tiles, channels)),
            np.empty((tiles, channels, 2)),
        )


def random_signs(count: int, seed: int, stream: int = 0) -> NDArray[np.float64]:
    """Return a vector of ±1 that depends only on the seed and the stream."""
    signs = np.empty(count)
    philox.random_signs(_key(seed), stream, signs)
    return signs


def _key(seed: int) -> NDArray[np.uint64]:
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)


def survey(x: NDArray[Any]) -> Survey:
    """Read the rows ``(C, n)`` for what is asked before the search."""
    tiles = np.empty((passes.tile_count(x.shape[1]), len(x), 2))
    passes.survey(x, tiles)
    return Survey(float(tiles[..., 0].sum()), not tiles[..., 1].any())


def search(
    x: NDArray[Any], start: NDArray[np.float64], tol: float, seed: int, room: Workspace, u: NDArray[Any]
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

    The vectors X y_k are kept, n numbers a pass, so that u needs no pass of its own.

    Parameters
    ----------
    x
        Rows ``(C, n)``.
    start
        A unit vector ``(C,)``.
    tol
        Bound for ``‖A v − θ v‖ / θ``.
    seed
        For the random part of the start, and the direction to go on with where the space is exhausted.
    room
        Whose `basis` has as many rows as passes may be made.
    u
        Filled with the left vector ``(n,)`` where the search succeeds.

    Returns
    -------
    Search
        Without `leading` where the tolerance isn't met, or the energy is out of the range in which
        sums of products neither overflow nor vanish.
    """
    channels = len(x)
    direction = start + _RANDOM_PART / np.sqrt(channels) * random_signs(channels, seed)
    v, image, numbers = np.empty(channels), np.empty(channels), np.zeros(_LOST + 1)
    _search(x, direction, _key(seed), tol, in_range(x.dtype), *room, v, image, u, numbers)
    of_all = Survey(float(numbers[_ENERGY]), numbers[_NEGATIVE] == 0)
    made = int(numbers[_PASSES])
    if not numbers[_CONVERGED]:
        return Search(of_all, made, None)
    s = float(np.sqrt(numbers[_VALUE]) * numbers[_SIZE])
    return Search(of_all, made, Leading(s, v, image, float(numbers[_LOST] / numbers[_SIZE])))


def in_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the bounds of ‖X‖²_F between which sums of products of responses neither overflow nor vanish."""
    bound = 2.0 ** (np.finfo(dtype).maxexp // 2)
    return 1 / bound, bound


@helper
def sum_up(surveys: Any, numbers: Any) -> None:
    """Add the energy of all tiles to the numbers, and whether a value is below zero."""
    for tile in range(len(surveys)):
        for c in range(surveys.shape[1]):
            numbers[_ENERGY] += surveys[tile, c, 0]
            numbers[_NEGATIVE] = max(numbers[_NEGATIVE], surveys[tile, c, 1])


@helper
def residual_of(basis: Any, images: Any, weights: Any, value: Any, v: Any, image: Any, residual: Any) -> Any:
    """Fill a Ritz vector `v`, its `image` and `residual` = image − value · v (C), whose norm is returned."""
    combine(basis, weights, v)
    combine(images, weights, image)
    for c in range(v.size):
        residual[c] = image[c] - value * v[c]
    return np.sqrt(dot(residual, residual))


@Kernel
def _search(
    x: Any,
    direction: Any,
    key: Any,
    tol: float,
    bounds: Any,
    basis: Any,
    images: Any,
    products: Any,
    projected: Any,
    weights: Any,
    shares: Any,
    surveys: Any,
    v: Any,
    image: Any,
    u: Any,
    numbers: Any,
) -> None:
    """Fill `v` and `image` (C), `u` (n) and `numbers`: see `search`. `direction` is lost."""
    first_residual, value = 1.0, 0.0
    count, limit = 0, len(basis)
    going = limit > 0
    while going:
        going = orthonormalise(direction, basis[:count])
        basis[count] = direction
        y = direction.astype(x.dtype)
        for tile in prange(len(shares)):
            first = tile * TILE
            part = products[count, first : first + TILE]
            combine_rows(x, first, y, part)
            row_products(x, first, part, shares[tile])
            if count == 0:
                row_survey(x, first, part.size, surveys[tile])
        add_up(shares, images[count])
        count += 1
        numbers[_PASSES] = count
        if count == 1:
            sum_up(surveys, numbers)
            going = bounds[0] < numbers[_ENERGY] < bounds[1]
        if going:
            extend(projected, basis[:count], images[:count])
            value = leading_pair(projected[:count, :count], weights[:count])
            size = residual_of(basis[:count], images[:count], weights[:count], value, v, image, direction)
            if value > 0 and size <= tol * value and count > 1:
                numbers[_CONVERGED] = 1.0
            residual = size / value if value > 0 else 1.0
            if count == 1:
                first_residual = residual
            going = (
                numbers[_CONVERGED] == 0 and expected_passes(first_residual, residual, count, tol) <= limit
            )
            if size <= _NEGLIGIBLE * value:
                philox.random_signs(key, count, direction)
    numbers[_VALUE] = value
    tiles = len(shares) if numbers[_CONVERGED] else 0
    if tiles > 0:
        divide(weights[:count], np.sqrt(value))
    for tile in prange(tiles):
        first = tile * TILE
        wide = np.empty(min(TILE, u.size - first))
        combine_columns(products[:count], weights[:count], first, wide)
        shares[tile, 0], surveys[tile, 0, 0] = round_off(wide, u[first : first + wide.size])
    for tile in range(tiles):
        numbers[_SIZE] += shares[tile, 0]
        numbers[_LOST] += surveys[tile, 0, 0]
    numbers[_SIZE], numbers[_LOST] = np.sqrt(numbers[_SIZE]), np.sqrt(numbers[_LOST])
    inverse = 1.0 / numbers[_SIZE] if tiles > 0 else 0.0
    for tile in prange(tiles):
        part = u[tile * TILE : (tile + 1) * TILE]
        for j in range(part.size):
            part[j] *= inverse
