"""Ways to look at the same runs, compared pair by pair of seeds."""

import numpy as np
import pytest

from eigenfeatures.eigen.study.analysis import Analysis, Blocks
from eigenfeatures.eigen.study.bootstrap import Interval, Paired
from eigenfeatures.eigen.study.measurement import Measured, all_pairs
from eigenfeatures.eigen.study.seed_pairs import compare_seed_pairs, seed_pairs
from eigenfeatures.eigen.study.significance import significant

SLICES = np.arange(0, 40, 2)
BLOCKS = Blocks(5, np.arange(40) // 5, np.arange(40) // 20)
# Of every pair of seeds 0 to 3, on every slice: pairs differ by much.
SHARED = np.random.default_rng(0).normal(size=(4, 4, 20)) + np.arange(4)[:, None, None]


def view(seeds, gain=0.0, *, order=None, below=0.5):
    """What a way to look at runs of some seeds shows of each pair of them, `gain` more than another."""
    pairs = all_pairs(len(seeds))[order] if order is not None else all_pairs(len(seeds))
    known = np.sort(np.array(seeds)[pairs], axis=1)
    values = np.stack([SHARED[a, b] for a, b in known])
    rows = {"same": values + gain + below, "other": np.full(values.shape, below)}
    measured = Measured(tuple(map(str, seeds)), pairs, SLICES, rows, {})
    analysis = Analysis(measured, {"trained": range(len(seeds))}, BLOCKS, tuple(seeds))
    return seed_pairs(analysis, "trained", "same", less="other")


def test_what_two_views_share_is_no_uncertainty():
    """A gain of 0.1 is sure, though pairs of seeds differ by ten times as much."""
    found = compare_seed_pairs(view([0, 1, 2], gain=0.1), view([0, 1, 2], below=0.2))
    difference = found.difference
    assert (difference.estimate, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.superiority == 1
    assert difference.runs == 3


def test_pairs_are_matched_by_seed_whatever_the_order_of_runs_and_rows():
    found = compare_seed_pairs(view([2, 0, 1], gain=0.1, order=[2, 0, 1]), view([0, 1, 2]))
    assert (found.difference.low, found.difference.high) == pytest.approx((0.1, 0.1))


def test_only_pairs_of_seeds_that_both_have_are_compared():
    found = compare_seed_pairs(view([0, 1, 3], gain=0.1), view([1, 2, 3]))
    assert found.difference.estimate == pytest.approx(0.1)
    assert found.difference.runs == 0  # a single pair: it speaks of slices only
    assert np.isnan(compare_seed_pairs(view([0, 1]), view([2, 3])).p)


def test_what_is_taken_off_is_no_bonus_where_it_is_negative():
    found = compare_seed_pairs(view([0, 1, 2], below=-0.4), view([0, 1, 2], below=0.2))
    assert found.difference.estimate == pytest.approx(-0.4)  # the first has 0.4 less in common, not more


def test_the_mean_is_that_of_the_pairs_asked_for():
    found = view([0, 1, 2], gain=0.1)
    both = (SHARED[0, 1].mean() + SHARED[0, 2].mean()) / 2
    assert found.mean([(0, 1), (0, 2)]) == pytest.approx(both + 0.1)
    found.values[0, 1][:10] = np.nan
    assert found.mean([(0, 1)]) == pytest.approx(SHARED[0, 1, 10:].mean() + 0.1)
    found.values[0, 1][:] = np.nan
    assert np.isnan(found.mean([(0, 1)]))


def test_pairs_across_two_groups_are_the_mean_of_both_ways():
    """Seeds 0, 1 and 2 with a factor and without it: seed 0 with × 1 without, and 0 without × 1 with."""
    pairs = all_pairs(6)
    values = np.arange(15.0)[:, None] * np.ones(20)
    analysis = Analysis(
        Measured(tuple("abcdef"), pairs, SLICES, {"same": values}, {}),
        {"plain": range(3), "changed": range(3, 6)},
        BLOCKS,
        (0, 1, 2) * 2,
    )
    found = seed_pairs(analysis, "plain", "same", other="changed").values
    row = {tuple(pair): number for number, pair in enumerate(pairs.tolist())}
    assert found.keys() == {(0, 1), (0, 2), (1, 2)}
    assert found[0, 2] == pytest.approx((row[0, 5] + row[2, 3]) / 2)


def test_views_of_other_slices_are_refused():
    first, second = view([0, 1, 2]), view([0, 1, 2])
    with pytest.raises(ValueError, match="blocks"):
        compare_seed_pairs(first, type(second)(second.values, second.blocks + 1, second.samples))


def paired(p, runs=5):
    return Paired(Interval(0.3, 0.1, 0.5, runs, 0.1, 4.0), 1.0, 0.9, p)


def test_a_comparison_counts_by_its_rank_among_all():
    """Holm: of three p of 0.02 none is at most 0.05 / 3, of one it is; after a smaller one two are left."""
    assert significant({"a": paired(0.02)}) == {"a"}
    assert significant({name: paired(0.02) for name in "abc"}) == set()
    assert significant({"a": paired(0.01), "b": paired(0.02), "c": paired(0.6)}) == {"a", "b"}


def test_what_is_undefined_or_speaks_of_slices_only_never_counts_nor_costs_the_others():
    tests = {"nan": paired(np.nan), "one pair": paired(1e-9, runs=0), "a": paired(0.04)}
    assert significant(tests) == {"a"}
