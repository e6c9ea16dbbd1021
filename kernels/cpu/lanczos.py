"""The loops of a search for the leading singular triplet: all passes in one call, by a team of threads."""

from typing import Any, NamedTuple, Self

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu import passes, philox
from eigenfeatures.kernels.cpu.compile import Kernel, helper, inlined
from eigenfeatures.kernels.cpu.eigen import copy, dot, subtract
from eigenfeatures.kernels.cpu.passes import (
    TILE,
    add_up,
    combine_columns,
    combine_rows,
    combine_rows_twice,
    round_off,
    row_products,
    row_products_twice,
)
from eigenfeatures.kernels.cpu.ritz import (
    NEGLIGIBLE,
    combine,
    divide,
    extend,
    falls_fast_enough,
    leading_pairs,
    orthonormalise,
    ratio_is_known,
)
from eigenfeatures.kernels.cpu.separate import Separate, call
from eigenfeatures.kernels.cpu.team import dismiss, dismissed, done, enter, offer, take, wait

# Vectors of a start: the first two singular vectors of the slice before share the read of the first pass.
STARTS = 2

# Places of the numbers that a search tells: passes made, whether it converged, ‖X‖²_F, whether a value is
# below zero, the two largest eigenvalues, and of X v over the square root of the first the norm and what
# rounding lost.
PASSES, CONVERGED, ENERGY, NEGATIVE, VALUE, SECOND, SIZE, LOST = range(8)

# Places of what is asked: which step, and how many basis vectors there were before it.
_STEP, _COUNT = range(2)
_FIRST, _FURTHER, _LEFT = range(3)


class Workspace(NamedTuple):
    """Arrays that the searches of a stack share: `products` and `directions` are of the responses' precision.

    The basis has k rows, as many vectors of C, and `images` what XᵀX makes of them. At most `limit` passes
    are made.
    """

    limit: int
    basis: NDArray[np.float64]
    images: NDArray[np.float64]
    products: NDArray[Any]
    directions: NDArray[Any]
    projected: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    sums: NDArray[np.float64]

    @classmethod
    def make(cls, channels: int, pixels: int, dtype: np.dtype[Any], most_passes: int) -> Self:
        """Make room for slices (C, n) and at most so many passes."""
        vectors, tiles = min(most_passes + STARTS - 1, channels), passes.tile_count(pixels)
        return cls(
            most_passes,
            np.empty((vectors, channels)),
            np.empty((vectors, channels)),
            np.empty((max(vectors, STARTS), pixels), dtype),
            np.empty((STARTS, channels), dtype),
            np.empty((vectors, vectors)),
            np.empty(STARTS + 1),
            np.empty((STARTS, vectors)),
            np.empty((tiles, STARTS, channels)),
            np.empty((tiles, 2)),
        )


class Found(NamedTuple):
    """What a search fills: leading right vectors (2, C), XᵀX times the first, the left one (n), numbers."""

    v: NDArray[np.float64]
    image: NDArray[np.float64]
    u: NDArray[Any]
    numbers: NDArray[np.float64]


def task() -> NDArray[np.int64]:
    """Return where a task's numbers go."""
    return np.zeros(_COUNT + 1, np.int64)


@inlined
def _first_pass(x: Any, tile: Any, size: Any, room: Any) -> None:
    """Multiply a tile's columns by both directions; the second may be zero."""
    first = tile * TILE
    part0, part1 = room.products[0, first : first + size], room.products[1, first : first + size]
    room.sums[tile, 0], room.sums[tile, 1] = combine_rows_twice(x, first, room.directions, part0, part1)
    row_products_twice(x, first, part0, part1, room.shares[tile])


@inlined
def _further_pass(x: Any, tile: Any, size: Any, product: Any, direction: Any, share: Any) -> None:
    """Multiply a tile's columns by a direction."""
    first = tile * TILE
    part = product[first : first + size]
    combine_rows(x, first, direction, part)
    row_products(x, first, part, share)


@inlined
def _left_part(tile: Any, size: Any, count: Any, room: Any, u: Any) -> None:
    """Fill a tile's part of X v."""
    first = tile * TILE
    wide = np.empty(size)
    combine_columns(room.products[:count], room.weights[0, :count], first, wide)
    room.sums[tile, 0], room.sums[tile, 1] = round_off(wide, u[first : first + size])


@inlined
def _work(tile: Any, x: Any, task: Any, room: Any, u: Any) -> None:
    """Do what is asked for a tile of columns."""
    count, size = task[_COUNT], min(TILE, x.shape[1] - tile * TILE)
    if task[_STEP] == _FIRST:
        _first_pass(x, tile, size, room)
    elif task[_STEP] == _FURTHER:
        _further_pass(x, tile, size, room.products[count], room.directions[0], room.shares[tile, 0])
    else:
        _left_part(tile, size, count, room, u)


@helper
def _take_tiles(team: Any, member: Any, x: Any, task: Any, room: Any, u: Any) -> None:
    """Work on tiles of the present step until all are taken."""
    tile = take(team, member, len(room.shares))
    while tile >= 0:
        _work(tile, x, task, room, u)
        done(team)
        tile = take(team, member, len(room.shares))


@inlined
def _all_tiles(step: Any, count: Any, team: Any, member: Any, x: Any, task: Any, room: Any, u: Any) -> None:
    """Take a step on all tiles, with those of the team who are there."""
    task[_STEP], task[_COUNT] = step, count
    offer(team)
    _take_tiles(team, member, x, task, room, u)
    wait(team, len(room.shares))


@helper
def _sum_up(sums: Any) -> tuple[float, float]:
    """Return the sums of two columns in the order of the tiles."""
    first, second = 0.0, 0.0
    for tile in range(len(sums)):
        first += sums[tile, 0]
        second += sums[tile, 1]
    return first, second


@inlined
def _add(shares: Any, count: Any, room: Any) -> None:
    """Take the image of the newest basis vector from the tiles' shares (tiles, C)."""
    add_up(shares, room.images[count])
    extend(room.projected, room.basis[: count + 1], room.images[: count + 1])


@inlined
def _start(directions: Any, team: Any, member: Any, x: Any, task: Any, room: Any, found: Any) -> Any:
    """Make the first pass; return how many basis vectors there are then."""
    count = 0
    room.directions[:] = 0
    for k in range(min(STARTS, len(room.basis))):
        if orthonormalise(directions[k], room.basis[:count]):
            copy(directions[k], room.basis[count])
            copy(directions[k], room.directions[count])
            count += 1
    _all_tiles(_FIRST, 0, team, member, x, task, room, found.u)
    found.numbers[ENERGY], found.numbers[NEGATIVE] = _sum_up(room.sums)
    for k in range(count):
        _add(room.shares[:, k], k, room)
    return count


@inlined
def _approximate(count: Any, room: Any, found: Any) -> None:
    """Fill the best approximations in the space: values and vectors."""
    weights = room.weights[:, :count]
    leading_pairs(room.projected[:count, :count], room.values, weights)
    for i in range(STARTS):
        combine(room.basis[:count], weights[i], found.v[i])


@inlined
def _residual(i: Any, count: Any, room: Any, found: Any, residual: Any) -> Any:
    """Fill the residual XᵀX v − θ v of an approximation and return its norm."""
    combine(room.images[:count], room.weights[i, :count], residual)
    subtract(residual, room.values[i], found.v[i])
    return np.sqrt(dot(residual, residual))


@inlined
def _lead(
    team: Any,
    member: Any,
    x: Any,
    directions: Any,
    key: Any,
    tol: Any,
    both: Any,
    least: Any,
    most: Any,
    task: Any,
    room: Any,
    found: Any,
) -> None:
    """Search the first value and vectors, and the second value where `both` are asked for."""
    numbers, direction, largest = found.numbers, directions[0], 0.0
    count, made = _start(directions, team, member, x, task, room, found), 1
    when = made
    going = least < numbers[ENERGY] < most
    while going:
        _approximate(count, room, found)
        value, size = room.values[0], _residual(0, count, room, found, direction)
        residual = size / value if value > 0 else 1.0
        if residual > largest:
            largest, when = residual, made
        converged, promising = value > 0 and residual <= tol and made > 1, True
        if not converged:
            promising = falls_fast_enough(largest, residual, made - when, made, tol, room.limit)
        elif both:
            size = _residual(1, count, room, found, direction)
            converged = ratio_is_known(room.values, size)
        if converged:
            numbers[CONVERGED] = 1.0
            _finish(count, team, member, x, task, room, found)
            break
        if size <= NEGLIGIBLE * value:
            philox.random_weights(key, count, direction)
        going = (
            promising
            and made < room.limit
            and count < len(room.basis)
            and orthonormalise(direction, room.basis[:count])
        )
        if going:
            copy(direction, room.basis[count])
            copy(direction, room.directions[0])
            _all_tiles(_FURTHER, count, team, member, x, task, room, found.u)
            _add(room.shares[:, 0], count, room)
            count, made = count + 1, made + 1
    numbers[PASSES] = made


@inlined
def _finish(count: Any, team: Any, member: Any, x: Any, task: Any, room: Any, found: Any) -> None:
    """Fill XᵀX v, and u with X v, from what the passes kept, over its norm."""
    numbers, u = found.numbers, found.u
    numbers[VALUE], numbers[SECOND] = room.values[0], room.values[1]
    combine(room.images[:count], room.weights[0, :count], found.image)
    divide(room.weights[0, :count], np.sqrt(numbers[VALUE]))
    _all_tiles(_LEFT, count, team, member, x, task, room, u)
    squares, lost = _sum_up(room.sums)
    numbers[SIZE], numbers[LOST] = np.sqrt(squares), np.sqrt(lost)
    inverse = 1.0 / numbers[SIZE]
    for j in range(u.size):
        u[j] *= inverse


@Separate
def work_together(
    team: Any, x: Any, directions: Any, key: Any, tol: float, both: bool, least: float, most: float,
    task: Any, room: Any, found: Any,
) -> None:  # fmt: skip
    """Lead the search or take tiles, as one of a team."""
    member = enter(team)
    if member == 0:
        _lead(team, member, x, directions, key, tol, both, least, most, task, room, found)
        dismiss(team)
    while not dismissed(team):
        _take_tiles(team, member, x, task, room, found.u)


@Kernel
def search(
    members: int, address: int, team: Any, x: Any, directions: Any, key: Any, tol: float, both: bool,
    least: float, most: float, task: Any, room: Any, found: Any,
) -> None:  # fmt: skip
    """Fill `found` by at most `members` threads; `directions` (2, C) are lost."""
    for _ in prange(members):
        call(address, (team, x, directions, key, tol, both, least, most, task, room, found))
