"""Intervals cover the truth about as often as they say, and equal the textbook's where it has one."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eigenfeatures.eigen.study.bootstrap import Cells, crossed_interval, paired_difference, slice_blocks
from eigenfeatures.eigen.study.resampling import spread_of_mean

BLOCKS, LENGTH = 27, 4
BLOCK_STRATA = np.sort(np.arange(BLOCKS) % 4)


def all_pairs(runs):
    return np.array(list(combinations(range(runs), 2)), dtype=np.int64)


def make_cells(values, members, groups=None, blocks=None, strata=None):
    """One group, a block a slice and one stratum, unless said otherwise."""
    values = np.asarray(values, dtype=np.float64)
    slices = values.shape[1]
    return Cells(
        values,
        members,
        np.zeros(members.max() + 1, dtype=np.int64) if groups is None else groups,
        np.arange(slices) if blocks is None else blocks,
        np.zeros(slices, dtype=np.int64) if strata is None else strata,
    )


def simulated(random, members, groups, run, pair, block, cell):
    """Rows by slices with mean 0: standard deviations of each effect; noise of slices is small."""
    of_runs = run * random.standard_normal(len(groups))
    of_rows = of_runs[members].sum(axis=1) + pair * random.standard_normal(len(members))
    of_blocks = block * random.standard_normal(BLOCKS)
    of_cells = cell * random.standard_normal((len(members), BLOCKS))
    values = np.repeat(of_rows[:, None] + of_blocks + of_cells, LENGTH, axis=1)
    return values + 0.1 * random.standard_normal(values.shape)


def coverage(members, groups, effects, *, blocks, members_said=None, repetitions=300):
    random = np.random.default_rng(11)
    strata = np.repeat(BLOCK_STRATA, LENGTH)
    # Unlike means of presets and samples are known, and no part of the uncertainty.
    known = groups[members].sum(axis=1)[:, None] + 0.5 * strata
    said = members if members_said is None else members_said
    said_groups = groups if members_said is None else np.zeros(len(members), dtype=np.int64)
    hits = 0
    for repetition in range(repetitions):
        values = known + simulated(random, members, groups, **effects)
        cells = Cells(values, said, said_groups, blocks, strata)
        interval = crossed_interval(cells, draws=400, seed=repetition)
        hits += interval.low <= known.mean() <= interval.high
    return hits / repetitions


MIXED = {"run": 0.5, "pair": 0.3, "block": 0.7, "cell": 0.5}
TRUE_BLOCKS = np.repeat(np.arange(BLOCKS), LENGTH)


@pytest.mark.parametrize(
    ("runs", "presets", "paired"),
    [(5, 1, True), (3, 1, True), (5, 1, False), (3, 1, False), (3, 3, True), (5, 3, True)],
)
def test_interval_covers_as_often_as_it_says(runs, presets, paired):
    groups = np.repeat(np.arange(presets), runs)
    members = all_pairs(len(groups)) if paired else np.arange(len(groups))[:, None]
    assert 0.90 <= coverage(members, groups, MIXED, blocks=TRUE_BLOCKS) <= 0.985


def test_slices_taken_as_independent_cover_too_seldom():
    groups = np.zeros(5, dtype=np.int64)
    effects = {"run": 0.05, "pair": 0.05, "block": 0.7, "cell": 0.1}
    alone = np.arange(BLOCKS * LENGTH)
    assert coverage(all_pairs(5), groups, effects, blocks=alone) < 0.85
    assert coverage(all_pairs(5), groups, effects, blocks=TRUE_BLOCKS) >= 0.90


def test_pairs_taken_as_independent_cover_too_seldom():
    groups = np.zeros(5, dtype=np.int64)
    effects = {"run": 0.5, "pair": 0.1, "block": 0.1, "cell": 0.1}
    independent = np.arange(10)[:, None]
    assert coverage(all_pairs(5), groups, effects, blocks=TRUE_BLOCKS, members_said=independent) < 0.85
    assert coverage(all_pairs(5), groups, effects, blocks=TRUE_BLOCKS) >= 0.90


def test_interval_of_runs_alone_is_the_t_interval():
    values = np.array([0.3, 0.5, 0.9, 0.4, 0.7])
    cells = make_cells(np.repeat(values[:, None], 6, axis=1), np.arange(5)[:, None])
    interval = crossed_interval(cells, draws=100_000)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.degrees_of_freedom == pytest.approx(4)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.01)
    assert interval.runs == 5


def test_interval_of_one_run_is_the_t_interval_of_its_blocks():
    blocks = np.array([0.3, 0.5, 0.9, 0.4, 0.7, 0.1])
    cells = make_cells(np.repeat(blocks, 3)[None], np.array([[0]]), blocks=np.repeat(np.arange(6), 3))
    interval = crossed_interval(cells, draws=100_000, level=0.9)
    expected = stats.ttest_1samp(blocks, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.01)
    assert interval.runs == 0


def test_draws_spread_as_all_possible_draws_do():
    """Four runs in pairs and two blocks: 256 × 4 draws, gone through one by one."""
    values = np.random.default_rng(2).random((6, 2))
    members = all_pairs(4)
    means = []
    for runs, blocks in product(product(range(4), repeat=4), product(range(2), repeat=2)):
        chosen = [
            values[row, block]
            for row, (one, other) in enumerate(members)
            for _ in range(runs.count(one) * runs.count(other))
            for block in blocks
        ]
        means.append(np.mean(chosen or [values[:, block] for block in blocks]))
    crossed, _, _ = spread_of_mean(make_cells(values, members).table(), 200_000, np.random.default_rng(0))
    assert crossed == pytest.approx(np.var(means), rel=0.02)


@pytest.mark.parametrize(("runs", "expected"), [(3, 3.0), (5, 1.66)])
def test_variance_of_pairs_is_scaled_to_that_of_additive_runs(runs, expected):
    values = np.random.default_rng(1).random((len(all_pairs(runs)), 8))
    table = make_cells(values, all_pairs(runs)).table()
    _, of_runs, of_blocks = spread_of_mean(table, 50_000, np.random.default_rng(0))
    assert of_runs.inflation == pytest.approx(expected, rel=0.02)
    assert of_blocks.inflation == pytest.approx(8 / 7, rel=0.02)
    assert (of_runs.degrees_of_freedom, of_blocks.degrees_of_freedom) == (runs - 1, 7)


def test_means_of_presets_and_samples_do_not_widen_the_interval():
    groups, strata, blocks = np.repeat([0, 1, 2], 3), np.repeat([0, 1], [6, 10]), np.repeat(np.arange(8), 2)
    members = all_pairs(9)
    values = groups[members].sum(axis=1)[:, None] + 3.0 * strata
    fixed = make_cells(values, members, groups, blocks, strata)
    assert crossed_interval(fixed).standard_error == pytest.approx(0, abs=1e-9)
    # Within one preset or one sample the very same values do spread.
    for one in (
        make_cells(values, members, None, blocks, strata),
        make_cells(values, members, groups, blocks),
    ):
        assert crossed_interval(one).standard_error > 0.1


def test_missing_values_rows_blocks_and_runs_are_left_out():
    random = np.random.default_rng(3)
    values = random.random((10, 12))
    values[random.random(values.shape) < 0.3] = np.nan
    values[0, 0] = np.inf
    interval = crossed_interval(make_cells(values, all_pairs(5), blocks=np.arange(12) // 2))
    assert interval.estimate == pytest.approx(values[np.isfinite(values)].mean())
    assert interval.low < interval.estimate < interval.high

    wider = np.full((11, 14), np.nan)
    wider[:10, :12] = values
    members = np.concatenate([all_pairs(5), [[0, 5]]])
    padded = make_cells(wider, members, groups=np.zeros(9, dtype=np.int64), blocks=np.arange(14) // 2)
    assert crossed_interval(padded) == interval


def test_same_seed_same_interval():
    cells = make_cells(np.random.default_rng(0).random((10, 12)), all_pairs(5))
    assert crossed_interval(cells, seed=1) == crossed_interval(cells, seed=1)
    assert crossed_interval(cells, seed=1) != crossed_interval(cells, seed=2)


@pytest.mark.parametrize(
    ("members", "groups"), [([[0]], [0]), ([[0, 1]], [0, 0]), ([[0, 1]], [0, 1]), ([[0], [1]], [0, 1])]
)
def test_without_a_second_run_of_a_group_only_slices_are_drawn(members, groups):
    values = np.random.default_rng(0).random((len(members), 9))
    interval = crossed_interval(make_cells(values, np.array(members), np.array(groups)))
    assert interval.runs == 0
    assert interval.degrees_of_freedom == pytest.approx(8)
    assert interval.standard_error == pytest.approx(stats.sem(values.mean(axis=0)), rel=0.05)


def test_run_alone_in_its_group_stays_as_it_is():
    values = np.array([[0.0], [1.0], [2.0], [50.0]]) * np.ones(4)
    interval = crossed_interval(
        make_cells(values, np.arange(4)[:, None], np.array([0, 0, 0, 1])), draws=50_000
    )
    assert interval.runs == 3
    assert interval.standard_error == pytest.approx(0.75 * stats.sem([0, 1, 2]), rel=0.02)


def test_nothing_to_draw_from_gives_no_interval():
    one = crossed_interval(make_cells([[0.5]], np.array([[0]])))
    assert one.estimate == 0.5
    assert np.isnan([one.low, one.high, one.standard_error]).all()
    none = crossed_interval(make_cells(np.full((3, 4), np.nan), all_pairs(3)))
    assert np.isnan([none.estimate, none.low, none.high]).all()
    assert none.runs == 0


def test_paired_difference_by_hand():
    first = np.array([[0.9, 0.9, 0.8, np.nan], [0.7, 0.7, 0.6, 0.6]])
    second = np.array([[0.5, 0.7, 0.8, 0.1], [0.8, 0.8, 0.2, 0.2]])
    members, blocks = np.array([[0], [1]]), np.array([0, 0, 1, 1])
    result = paired_difference(
        make_cells(first, members, blocks=blocks), make_cells(second, members, blocks=blocks)
    )
    cells = np.array([0.3, 0.0, -0.1, 0.4])
    assert result.difference.estimate == pytest.approx(np.nanmean(first - second))
    assert result.effect_size == pytest.approx(cells.mean() / cells.std(ddof=1))
    assert result.superiority == pytest.approx(2.5 / 4)


def test_p_value_agrees_with_the_interval():
    random = np.random.default_rng(5)
    significant = []
    for shift in np.linspace(0, 0.8, 40):
        first, second = (simulated(random, all_pairs(3), np.zeros(3), **MIXED) for _ in range(2))
        cells = [
            make_cells(values, all_pairs(3), blocks=TRUE_BLOCKS) for values in (first + 10 * shift, second)
        ]
        there, back = paired_difference(*cells, draws=200), paired_difference(*cells[::-1], draws=200)
        excluded = not there.difference.low <= 0 <= there.difference.high
        assert (there.p < 0.05) == excluded
        assert back.p == pytest.approx(there.p)
        assert back.superiority == pytest.approx(1 - there.superiority)
        assert back.effect_size == pytest.approx(-there.effect_size)
        significant.append(excluded)
    assert 0 < sum(significant) < len(significant)


def test_paired_difference_of_equal_and_of_shifted_measures():
    values = np.zeros((3, 6))
    cells = make_cells(values, all_pairs(3))
    same = paired_difference(cells, cells)
    assert (same.difference.estimate, same.superiority, same.p) == (0, 0.5, 1)
    assert np.isnan(same.effect_size)
    shifted = paired_difference(make_cells(values - 0.5, all_pairs(3)), cells)
    assert (shifted.difference.low, shifted.difference.high) == pytest.approx((-0.5, -0.5))
    assert (shifted.effect_size, shifted.superiority) == (-np.inf, 0)
    assert shifted.p == pytest.approx(0, abs=1e-6)
    nothing = paired_difference(make_cells(values * np.nan, all_pairs(3)), cells)
    assert np.isnan([nothing.difference.estimate, nothing.effect_size, nothing.superiority, nothing.p]).all()


def test_measures_of_other_slices_are_not_compared():
    values = np.zeros((3, 6))
    with pytest.raises(ValueError, match="blocks of the two measures differ"):
        paired_difference(
            make_cells(values, all_pairs(3)), make_cells(values, all_pairs(3), blocks=np.arange(6) // 2)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": np.zeros((2, 1), dtype=np.int64)}, "need one or two runs each"),
        ({"members": np.zeros((3, 3), dtype=np.int64)}, "need one or two runs each"),
        ({"members": np.zeros((3, 2), dtype=np.int64)}, "paired with itself"),
        ({"blocks": np.zeros(5, dtype=np.int64)}, "one number for each of the 4 slices"),
        ({"strata": np.array([0, 0, 0, 1])}, "in two strata"),
    ],
)
def test_cells_that_do_not_fit_are_refused(change, message):
    fields = {
        "values": np.zeros((3, 4)),
        "members": all_pairs(3),
        "groups": np.zeros(3, dtype=np.int64),
        "blocks": np.array([0, 0, 1, 1]),
        "strata": np.zeros(4, dtype=np.int64),
    }
    with pytest.raises(ValueError, match=message):
        Cells(**(fields | change))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    depths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    length=st.integers(1, 40),
    step=st.integers(1, 9),
)
def test_blocks_are_contiguous_of_about_the_length_and_two_or_more(depths, length, step):
    specimen_of = np.concatenate([np.full(len(range(0, depth, step)), n) for n, depth in enumerate(depths)])
    slice_of = np.concatenate([np.arange(0, depth, step) for depth in depths])
    order = np.random.default_rng(0).permutation(len(slice_of))
    blocks = slice_blocks(specimen_of[order], slice_of[order], length)[np.argsort(order)]
    for specimen in range(len(depths)):
        mine = blocks[specimen_of == specimen]
        assert np.all(np.diff(mine) >= 0)
        assert not set(mine) & set(blocks[specimen_of != specimen])
        assert len(set(mine)) >= min(2, len(mine))
        spans = [np.ptp(slice_of[blocks == block]) + 1 for block in set(mine)]
        assert max(spans) <= 1.5 * length + 1


def test_blocks_of_a_stack():
    specimen_of, slice_of = np.repeat([4, 7], [10, 3]), np.concatenate([np.arange(10), [5, 6, 7]])
    assert slice_blocks(specimen_of, slice_of, 5).tolist() == [0] * 5 + [1] * 5 + [2, 2, 3]
    with pytest.raises(ValueError, match="length of 1 or more"):
        slice_blocks(specimen_of, slice_of, 0)
