"""Weights of a bootstrap that draws runs and blocks of slices, and how far means spread under them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Variances of shares under this are rounding: nothing was drawn.
_ROUNDING = 1e-20


@dataclass(frozen=True, eq=False)
class Table:
    """Sums and counts of what is there, by row and block; no row or block is empty.

    Attributes
    ----------
    sums, counts : ndarray of float64, shape (rows, blocks)
    members : ndarray of int64, shape (rows, k)
        Runs of a row, numbered from 0 among those that occur.
    groups : ndarray of int64, shape (runs,)
    strata : ndarray of int64, shape (blocks,)
    """

    sums: Floats
    counts: Floats
    members: Integers
    groups: Integers
    strata: Integers


@dataclass(frozen=True)
class Spread:
    """How a mean varies when one kind of unit (runs or blocks) is drawn.

    Attributes
    ----------
    variance : float
        Over the draws.
    inflation : float
        What it is to be multiplied by to be without bias; see `_inflation`.
    units : int
        How many were drawn from; those alone in their group are fixed.
    degrees_of_freedom : int
        Units less their groups.
    """

    variance: float
    inflation: float
    units: int
    degrees_of_freedom: int

    @property
    def unbiased(self) -> float:
        """The variance times its inflation."""
        return self.variance * self.inflation


def reduce_to_blocks(
    values: Floats, members: Integers, groups: Integers, blocks: Integers, strata: Integers
) -> Table:
    """Sum what is finite within blocks, and leave out rows, blocks and runs of which nothing is."""
    finite = np.isfinite(values)
    _, first, block_of = np.unique(blocks, return_index=True, return_inverse=True)
    indicator = (block_of[:, None] == np.arange(len(first))).astype(np.float64)
    sums = np.where(finite, values, 0.0) @ indicator
    counts = finite @ indicator
    rows, columns = counts.any(axis=1), counts.any(axis=0)
    runs, renumbered = np.unique(members[rows], return_inverse=True)
    return Table(
        sums[rows][:, columns],
        counts[rows][:, columns],
        renumbered.reshape(-1, members.shape[1]),
        groups[runs],
        strata[first][columns],
    )


def spread_of_mean(table: Table, draws: int, random: np.random.Generator) -> tuple[float, Spread, Spread]:
    """Draw runs within groups and blocks within strata, with replacement.

    Parameters
    ----------
    table
        The values.
    draws
        How many times both are drawn.
    random
        Where the draws come from.

    Returns
    -------
    crossed : float
        Variance of the mean when both are drawn at once.
    runs, blocks : Spread
        When one is drawn and the other stays.
    """
    row_sizes, block_sizes = table.counts.sum(axis=1), table.counts.sum(axis=0)
    copies = _draw(table.groups, draws, random)[:, table.members].prod(axis=2)
    # Rows of unlike groups have unlike means, which isn't an effect of runs: no kind of row gains weight.
    _, kind = np.unique(np.sort(table.groups[table.members], axis=1), axis=0, return_inverse=True)
    row_weights = _normalise(copies, row_sizes, kind.ravel())
    block_weights = _normalise(_draw(table.strata, draws, random), block_sizes, table.strata)

    has_run = np.zeros((len(table.members), len(table.groups)))
    np.put_along_axis(has_run, table.members, 1.0, axis=1)
    crossed = _variance(
        ((row_weights @ table.sums) * block_weights).sum(axis=1),
        ((row_weights @ table.counts) * block_weights).sum(axis=1),
    )
    runs = _spread(
        _variance(row_weights @ table.sums.sum(axis=1), row_weights @ row_sizes),
        (row_weights * row_sizes) @ has_run / row_sizes.sum(),
        row_sizes @ has_run / row_sizes.sum(),
        table.groups,
    )
    blocks = _spread(
        _variance(block_weights @ table.sums.sum(axis=0), block_weights @ block_sizes),
        block_weights * block_sizes / block_sizes.sum(),
        block_sizes / block_sizes.sum(),
        table.strata,
    )
    return crossed, runs, blocks


def _draw(groups: Integers, draws: int, random: np.random.Generator) -> Floats:
    """Return how often each unit is drawn within its group, shape (draws, units)."""
    copies = np.empty((draws, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        copies[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), draws)
    return copies


def _normalise(copies: Floats, sizes: Floats, strata: Integers) -> Floats:
    """Scale copies so that each stratum keeps its size; one that lost all its units stays as observed."""
    weights = np.ones_like(copies)
    for stratum in np.unique(strata):
        units = np.flatnonzero(strata == stratum)
        drawn = copies[:, units] @ sizes[units]
        left = drawn > 0
        weights[np.ix_(left, units)] = copies[left][:, units] * (sizes[units].sum() / drawn[left])[:, None]
    return weights


def _variance(sums: Floats, counts: Floats) -> float:
    there = counts > 0
    return float(np.var(sums[there] / counts[there]))


def _spread(variance: float, shares: Floats, observed: Floats, groups: Integers) -> Spread:
    drawn = shares.var(axis=0) > _ROUNDING
    if not drawn.any():
        return Spread(0.0, 1.0, 0, 0)
    inflation = _inflation(shares[:, drawn], observed[drawn])
    units = int(drawn.sum())
    return Spread(variance, inflation, units, units - len(np.unique(groups[drawn])))


def _inflation(shares: Floats, observed: Floats) -> float:
    """Return the true variance of the mean over the bootstrap's, where units have additive effects.

    With independent effects of equal variance, the variance of the mean is theirs times Σ sᵢ², sᵢ
    being the share of unit i in the mean; in expectation the bootstrap gives theirs times the sum of
    var(sᵢ) over the draws. For the mean of n units the ratio is n/(n - 1); for all pairs of 3 runs
    it is 3, of 5 runs 1.66.

    Parameters
    ----------
    shares
        Of each unit in the mean of each draw, shape (draws, units).
    observed
        Of each unit in the mean of the data, shape (units,).
    """
    return float(np.sum(observed**2) / np.sum(shares.var(axis=0)))
