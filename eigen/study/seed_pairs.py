"""Pairs of runs known by their seeds, so that one way to look at the runs can be held against another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Cells, Paired, paired_difference


@dataclass(frozen=True)
class SeedPairs:
    """A quantity of every pair of runs of a group.

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


def seed_pairs(analysis: Analysis, group: str, measure: str, less: str) -> SeedPairs:
    """Return by how much one measure exceeds another in the pairs of runs within a group.

    Parameters
    ----------
    analysis, group
        The runs; no two have the same seed.
    measure, less
        Names of measures of pairs; the second is taken from the first.
    """
    measured, rows = analysis.measured, analysis.within(group)
    values = measured.of_pairs[measure][rows] - measured.of_pairs[less][rows]
    seeds = np.sort(np.array(analysis.seeds)[measured.pairs[rows]], axis=1)
    return SeedPairs(
        {(first, second): row for (first, second), row in zip(seeds.tolist(), values, strict=True)},
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
