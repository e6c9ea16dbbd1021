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
    """

    length: int
    block_of: NDArray[np.int64]
    sample_of: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return int(self.block_of.max()) + 1


def blocks_of(samples: SampleSet) -> Blocks:
    """Cut every stack into blocks as long as its slices correlate; see `guard_length`."""
    block_of = np.empty(len(samples), np.int64)
    lengths, start = [], 0
    for members in slices_by_source(samples).values():
        lengths.append(guard_length(samples, members))
        blocks = slice_blocks(np.zeros(len(members), np.int64), samples.slice_of[members], lengths[-1])
        block_of[members] = start + blocks
        start += int(blocks.max()) + 1
    return Blocks(max(lengths), block_of, samples.label)


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

        Runs of one seed can share their initial weights and the order of slices, so that they
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

    def paired_groups(self, measure: str, first: str, second: str) -> Paired:
        """Compare the pairs of runs of two groups whose runs match one by one, as trained and untrained."""
        own, members = self._matched(first)
        other, matching = self._matched(second)
        if not np.array_equal(members, matching):
            raise ValueError(f"the runs of {first} and of {second} don't match one by one")
        cells = self._pair_cells(measure, own)
        return paired_difference(cells, replace(cells, values=self.measured.of_pairs[measure][other]))

    def paired_groups_of_runs(self, first: tuple[str, str], second: tuple[str, str]) -> Paired:
        """Compare a measure of the runs of a group with one of another group, whose runs match one by one."""
        (measure, group), (other_measure, other_group) = first, second
        cells = self._run_cells(measure, group)
        return paired_difference(
            cells, replace(cells, values=self._run_cells(other_measure, other_group).values)
        )

    def _matched(self, group: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows within a group, and where in the group their runs stand, in the order of that."""
        rows, runs = self.within(group), list(self.groups[group])
        place = np.empty(len(self.measured.runs), np.int64)
        place[runs] = np.arange(len(runs))
        members = np.sort(place[self.measured.pairs[rows]], axis=1)
        order = np.lexsort(members.T[::-1])
        return rows[order], members[order]

    def _pair_cells(self, measure: str, rows: NDArray[np.int64]) -> Cells:
        return self._cells(self.measured.of_pairs[measure][rows], self.measured.pairs[rows])

    def _run_cells(self, measure: str, group: str) -> Cells:
        rows = np.array(self.groups[group], np.int64)
        return self._cells(self.measured.of_runs[measure][rows], rows[:, None])

    def _cells(self, values: NDArray[np.float64], members: NDArray[np.int64]) -> Cells:
        group_of = np.full(len(self.measured.runs), len(self.groups), np.int64)
        for number, runs in enumerate(self.groups.values()):
            group_of[list(runs)] = number
        slices = self.measured.slices
        return Cells(values, members, group_of, self.blocks.block_of[slices], self.blocks.sample_of[slices])


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
