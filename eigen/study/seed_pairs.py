"""Pairs of runs known by their seeds, so that one way to look at the runs can be held against another."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Cells, Paired, paired_difference


@dataclass(frozen=True)
class SeedPairs:
    """A quantity of pairs of runs, known by their seeds.

    Attributes
    ----------
    values : dict
        The two seeds of a pair, the smaller first, to what was measured of it on each slice,
        float64 ``(slices,)``, NaN where undefined.
    blocks, samples : ndarray of int, shape (slices,)
        Block and sample of each slice.
    """

    values: dict[tuple[int, int], NDArray[np.float64]]
    blocks: NDArray[np.int64]
    samples: NDArray[np.int64]

    def mean(self, pairs: Iterable[tuple[int, int]]) -> float:
        """Return the mean over pairs of seeds and slices; NaN where nothing is defined."""
        values = np.concatenate([self.values[pair] for pair in pairs])
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else np.nan


def seed_pairs(
    analysis: Analysis, group: str, measure: str, *, less: str | None = None, other: str | None = None
) -> SeedPairs:
    """Return a measure of the pairs of runs within a group, or of a group and another.

    Parameters
    ----------
    analysis, group
        The runs; no two of a group have the same seed.
    measure
        Name of a measure of pairs.
    less
        Name of a measure that is taken from the first where it is positive; maps that are opposites are
        no more alike for it.
    other
        Another group. Two seeds are then two pairs of runs, of which the mean is taken.
    """
    measured = analysis.measured
    rows = analysis.within(group) if other is None else analysis.between(group, other)
    values = measured.of_pairs[measure][rows]
    if less is not None:
        values = values - np.maximum(measured.of_pairs[less][rows], 0)
    places: dict[tuple[int, int], list[int]] = {}
    for place, (a, b) in enumerate(np.array(analysis.seeds)[measured.pairs[rows]].tolist()):
        places.setdefault((min(a, b), max(a, b)), []).append(place)
    return SeedPairs(
        {seeds: values[found].mean(axis=0) for seeds, found in places.items()},
        analysis.blocks.block_of[measured.slices],
        analysis.blocks.sample_of[measured.slices],
    )


def compare_seed_pairs(first: SeedPairs, second: SeedPairs) -> Paired:
    """Compare two quantities on the pairs of seeds that have both.

    Returns
    -------
    Paired
        All NaN where no pair has both.

    Raises
    ------
    ValueError
        If the slices differ.
    """
    both = sorted(first.values.keys() & second.values.keys())
    own, other = (
        Cells(
            np.array([part.values[pair] for pair in both]).reshape(len(both), len(part.blocks)),
            np.searchsorted(np.unique(both), both).reshape(len(both), 2),
            np.zeros(len(np.unique(both)), np.int64),
            part.blocks,
            part.samples,
        )
        for part in (first, second)
    )
    return paired_difference(own, other)
