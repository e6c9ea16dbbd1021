"""From measurements to estimates with intervals: which rows are of which groups of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import guard_length, slices_by_source
from eigenfeatures.eigen.study.bootstrap import (
    Cells,
    Interval,
    Paired,
    crossed_interval,
    paired_difference,
    slice_blocks,
)
from eigenfeatures.eigen.study.measurement import Measured
from eigenfeatures.eigen.study.similarity import MEASURES


@dataclass(frozen=True)
class Blocks:
    """How the slices of the samples hang together.

    Attributes
    ----------
    length : int
        Slices in the longest block, about.
    block_of, sample_of : ndarray of int, shape (slices,)
        Block and sample of every slice.
    too_short : tuple of int
        Samples whose slices still resemble each other a block apart, blocks being no longer than
        `LARGEST_GUARD_SHARE` of a stack. Intervals of what they decide are too narrow.
    """

    length: int
    block_of: NDArray[np.int64]
    sample_of: NDArray[np.int64]
    too_short: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return int(self.block_of.max()) + 1


def blocks_of(samples: SampleSet) -> Blocks:
    """Cut every stack into blocks as long as its slices correlate; see `guard_length`."""
    block_of = np.empty(len(samples), np.int64)
    lengths, start = [], 0
    too_short = set()
    for (label, _), members in slices_by_source(samples).items():
        length, enough = guard_length(samples, members)
        blocks = slice_blocks(np.zeros(len(members), np.int64), samples.slice_of[members], length)
        block_of[members] = start + blocks
        start += int(blocks.max()) + 1
        lengths.append(length)
        if not enough:
            too_short.add(label)
    return Blocks(max(lengths), block_of, samples.label, tuple(sorted(too_short)))


@dataclass(frozen=True)
class Analysis:
    """A measurement whose runs are sorted into groups.

    Attributes
    ----------
    measured : Measured
        The numbers.
    groups : dict
        Name of a group to the positions of its runs in ``measured.runs``.
    blocks : Blocks
        Of all slices of the samples.
    seeds : tuple of int
        Of each of the runs.
    """

    measured: Measured
    groups: Mapping[str, Sequence[int]]
    blocks: Blocks
    seeds: tuple[int, ...]

    def within(self, group: str) -> NDArray[np.int64]:
        """Return the rows of the pairs of runs that are both of a group."""
        inside = np.isin(self.measured.pairs, self.groups[group])
        return np.flatnonzero(inside.all(axis=1))

    def between(self, first: str, second: str, *, same_seed: bool = False) -> NDArray[np.int64]:
        """Return the rows of the pairs of a run of one group and a run of the other.

        Runs of one seed share the order of slices and can share their initial weights, so that they
        are no independent trainings: they are left out, or asked for alone.
        """
        pairs = self.measured.pairs
        a, b = (np.isin(pairs, self.groups[name]) for name in (first, second))
        crossed = (a[:, 0] & b[:, 1]) | (b[:, 0] & a[:, 1])
        seeds = np.array(self.seeds)[pairs]
        return np.flatnonzero(crossed & ((seeds[:, 0] == seeds[:, 1]) == same_seed))

    def of_pairs(
        self, measure: str, rows: NDArray[np.int64], slices: NDArray[np.bool_] | None = None
    ) -> Interval:
        """Estimate the mean of a measure over pairs and slices, of the slices marked if given."""
        cells = self._pair_cells(measure, rows)
        if slices is not None:
            cells = replace(cells, values=np.where(slices[self.measured.slices], cells.values, np.nan))
        return _clipped(crossed_interval(cells), measure)

    def of_runs(self, measure: str, group: str) -> Interval:
        """Estimate the mean of a measure over the runs of a group and slices."""
        return _clipped(crossed_interval(self._run_cells(measure, group)), measure)

    def paired_pairs(self, first: str, second: str, rows: NDArray[np.int64]) -> Paired:
        """Compare two measures of the same pairs of runs."""
        return paired_difference(self._pair_cells(first, rows), self._pair_cells(second, rows))

    def paired_runs(self, first: str, second: str, group: str) -> Paired:
        """Compare two measures of the same runs."""
        return paired_difference(self._run_cells(first, group), self._run_cells(second, group))

    def paired_groups_of_runs(self, first: tuple[str, str], second: tuple[str, str]) -> Paired:
        """Compare a measure of the runs of a group with one of another group, whose runs match one by one."""
        (measure, group), (other_measure, other_group) = first, second
        cells = self._run_cells(measure, group)
        return paired_difference(
            cells, replace(cells, values=self._run_cells(other_measure, other_group).values)
        )

    def _pair_cells(self, measure: str, rows: NDArray[np.int64]) -> Cells:
        return self._cells(self.measured.of_pairs[measure][rows], self.measured.pairs[rows])

    def _run_cells(self, measure: str, group: str) -> Cells:
        rows = np.array(self.groups[group], np.int64)
        return self._cells(self.measured.of_runs[measure][rows], rows[:, None])

    def _cells(self, values: NDArray[np.float64], runs: NDArray[np.int64]) -> Cells:
        """Lay out values of runs or of pairs of runs.

        What is drawn is a seed: runs of one seed, of whatever groups, share what it draws and are no
        independent trainings. A pair of runs of one seed is therefore one draw, and not two.
        """
        distinct, members = np.unique(np.array(self.seeds, np.int64)[runs], return_inverse=True)
        members = members.reshape(runs.shape)
        if np.array_equal(members[:, 0], members[:, -1]):
            members = members[:, :1]
        slices = self.measured.slices
        return Cells(
            values,
            members,
            np.zeros(len(distinct), np.int64),
            self.blocks.block_of[slices],
            self.blocks.sample_of[slices],
        )


def _clipped(interval: Interval, measure: str) -> Interval:
    """Cut an interval to what a measure can be; with few runs Student's t reaches beyond."""
    low, high = _range(measure)
    return replace(
        interval, low=float(np.clip(interval.low, low, high)), high=float(np.clip(interval.high, low, high))
    )


def _range(measure: str) -> tuple[float, float]:
    name = measure.rpartition("/")[2]
    if name in ("iou", "energy", "gap", "image") or name.startswith("overlap"):
        return 0.0, 1.0
    if name.startswith("angle"):
        return 0.0, 90.0
    correlations = (*MEASURES, "beyond_image", "inside", "other_sample", "repeatability")
    if name in correlations or name.startswith("image"):
        return -1.0, 1.0
    return -np.inf, np.inf
