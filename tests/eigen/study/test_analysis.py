"""Which rows and slices an estimate is made of."""

from dataclasses import asdict

import numpy as np
import pytest

from eigenfeatures.eigen.phantom import make_phantom
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.split import guard_length
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.study.analysis import Analysis, Blocks, blocks_of
from eigenfeatures.eigen.study.bootstrap import Cells, crossed_interval, paired_difference
from eigenfeatures.eigen.study.measurement import Measured, all_pairs

# Runs 0, 2, 5 are of one group, 1, 3 of another, 4 of none.
GROUPS = {"fine": [0, 2, 5], "coarse": [3, 1]}
GROUP_OF = np.array([0, 1, 0, 1, 2, 0])
# Every second of 40 slices of two samples, in blocks of five.
SLICES = np.arange(0, 40, 2)
BLOCKS = Blocks(5, np.arange(40) // 5, np.arange(40) // 20)


@pytest.fixture(scope="module")
def measured():
    random = np.random.default_rng(0)
    pairs = all_pairs(6)[random.permutation(15)]
    pairs[::2] = pairs[::2, ::-1]  # in any order, either run first
    effect = random.normal(size=(6, 1)) * 0.1
    of_pairs = {
        name: shift + effect[pairs].sum(1) + 0.1 * random.normal(size=(15, 20))
        for name, shift in (("u1/pearson", 0.3), ("alpha/pearson", 0.1))
    }
    of_pairs["u1/pearson"][3, 4] = np.nan
    of_runs = {
        "activation": 30 + effect + random.normal(size=(6, 20)),
        "u1/repeatability": 0.9 + 0.02 * random.normal(size=(6, 20)),
        "alpha/repeatability": 0.7 + 0.02 * random.normal(size=(6, 20)),
    }
    return Measured(tuple("abcdef"), pairs, SLICES, of_pairs, of_runs)


@pytest.fixture(scope="module")
def analysis(measured):
    return Analysis(measured, GROUPS, BLOCKS)


def cells(values, members):
    return Cells(values, members, GROUP_OF, BLOCKS.block_of[SLICES], BLOCKS.sample_of[SLICES])


def test_rows_within_and_between_groups(analysis, measured):
    def sets(rows):
        return sorted(tuple(sorted(pair)) for pair in measured.pairs[rows].tolist())

    assert sets(analysis.within("fine")) == [(0, 2), (0, 5), (2, 5)]
    assert sets(analysis.within("coarse")) == [(1, 3)]
    crossed = [(0, 1), (0, 3), (1, 2), (1, 5), (2, 3), (3, 5)]
    assert sets(analysis.between("fine", "coarse")) == sets(analysis.between("coarse", "fine")) == crossed
    alone = Analysis(measured, {"one": [4], "two": [0, 1]}, BLOCKS)
    assert alone.within("one").size == 0
    assert sets(alone.between("one", "two")) == [(0, 4), (1, 4)]


@pytest.mark.parametrize("which", ["within", "between"])
def test_pairs_are_drawn_with_their_runs_and_blocks(analysis, measured, which):
    rows = analysis.within("fine") if which == "within" else analysis.between("fine", "coarse")
    values = measured.of_pairs["u1/pearson"][rows]
    found = analysis.of_pairs("u1/pearson", rows)
    assert found.estimate == pytest.approx(np.nanmean(values))
    assert found == crossed_interval(cells(values, measured.pairs[rows]))
    assert found.low < found.estimate < found.high
    assert found.runs == (3 if which == "within" else 5)


def test_runs_are_drawn_with_blocks(analysis, measured):
    values = measured.of_runs["u1/repeatability"][[3, 1]]
    found = analysis.of_runs("u1/repeatability", "coarse")
    assert found.estimate == pytest.approx(values.mean())
    assert asdict(found) == pytest.approx(asdict(crossed_interval(cells(values, np.array([[3], [1]])))))
    assert found.runs == 2


def test_measures_are_compared_row_by_row(analysis, measured):
    rows = analysis.within("fine")
    first, second = (measured.of_pairs[f"{kind}/pearson"][rows] for kind in ("u1", "alpha"))
    found = analysis.paired_pairs("u1/pearson", "alpha/pearson", rows)
    members = measured.pairs[rows]
    assert found == paired_difference(cells(first, members), cells(second, members))
    assert found.difference.estimate == pytest.approx(np.nanmean(first - second))
    reverse = analysis.paired_pairs("alpha/pearson", "u1/pearson", rows)
    assert reverse.difference.estimate == pytest.approx(-found.difference.estimate)
    assert reverse.p == pytest.approx(found.p)
    of_runs = analysis.paired_runs("u1/repeatability", "alpha/repeatability", "fine")
    chosen = [measured.of_runs[f"{kind}/repeatability"][[0, 2, 5]] for kind in ("u1", "alpha")]
    assert of_runs == paired_difference(*(cells(values, np.array([[0], [2], [5]])) for values in chosen))
    assert of_runs.superiority == 1


def test_a_group_without_values_is_nan_and_one_pair_speaks_of_slices_only(analysis, measured):
    empty = Analysis(measured, {"none": []}, BLOCKS)
    assert np.isnan(empty.of_runs("activation", "none").estimate)
    assert np.isnan(empty.of_pairs("u1/pearson", empty.within("none")).estimate)
    assert analysis.of_pairs("u1/pearson", analysis.within("coarse")).runs == 0


NEAR_THE_END = {
    "u1/pearson": (-1, 1), "u1/ssim": (-1, 1), "u1/beyond_image": (-1, 1), "alpha/inside": (-1, 1),
    "u1/repeatability": (-1, 1), "u1/image4": (-1, 1), "u1/iou": (0, 1), "agreement/iou": (0, 1),
    "overlap4": (0, 1), "energy": (0, 1), "gap": (0, 1), "angle8": (0, 90),
}  # fmt: skip


@pytest.mark.parametrize(("name", "limits"), NEAR_THE_END.items())
def test_intervals_are_cut_to_what_a_measure_can_be(name, limits):
    """Runs that differ by much, close to either end: Student's t reaches beyond."""
    low, high = limits
    for end, inwards in ((low, 1), (high, -1)):
        distances = np.array([0.001, 0.002, 0.3])[:, None] * (high - low) * np.ones((1, 20))
        values = end + inwards * distances
        measured = Measured(("a", "b", "c"), all_pairs(3), SLICES, {name: values}, {name: values})
        analysis = Analysis(measured, {"all": [0, 1, 2]}, BLOCKS)
        whole = crossed_interval(
            Cells(values, np.arange(3)[:, None], np.zeros(3, int), BLOCKS.block_of[SLICES], SLICES // 20)
        )
        assert not low <= (whole.low if inwards > 0 else whole.high) <= high
        for found in (analysis.of_runs(name, "all"), analysis.of_pairs(name, analysis.within("all"))):
            assert found.estimate == pytest.approx(values.mean())
            assert (found.low if inwards > 0 else found.high) == end
            assert low <= found.low <= found.estimate <= found.high <= high


@pytest.mark.parametrize("name", ["activation", "u1/contrast_to_noise"])
def test_what_has_no_end_is_not_cut(measured, name):
    values = measured.of_runs["activation"]
    whole = Analysis(
        Measured(measured.runs, measured.pairs, SLICES, {}, {name: values}), GROUPS, BLOCKS
    ).of_runs(name, "fine")
    assert 25 < whole.low < whole.estimate < whole.high < 35


def test_blocks_are_as_long_as_slices_resemble_each_other(tmp_path):
    make_phantom(tmp_path / "samples", slices=40, size=24, layout="stacks")
    with open_samples(tmp_path / "samples") as samples:
        blocks = blocks_of(samples)
        stacks = np.split(np.arange(160), 4)
        assert blocks.length == max(guard_length(samples, members) for members in stacks) > 1
        np.testing.assert_array_equal(blocks.sample_of, samples.label)
        for members in stacks:
            numbers = blocks.block_of[members]
            assert (np.diff(numbers) >= 0).all()
            assert len(np.unique(numbers)) == max(2, round(40 / blocks.length))
        assert sum(len(np.unique(blocks.block_of[members])) for members in stacks) == len(
            np.unique(blocks.block_of)
        )


def test_regions_of_one_stack_share_their_blocks(tmp_path):
    make_phantom(tmp_path / "samples", slices=20, size=24, layout="stacks")
    regions = {"sample2": [Region(0, 0, 12, 12), Region(12, 12, 12, 12)]}
    with open_samples(tmp_path / "samples", regions=regions, size=12) as samples:
        blocks = blocks_of(samples)
        first, second = (np.flatnonzero(samples.specimen_of == specimen) for specimen in (1, 2))
        assert {samples.specimens[k].source for k in (1, 2)} == {"sample2"}
        np.testing.assert_array_equal(blocks.block_of[first], blocks.block_of[second])
        assert not set(blocks.block_of[first]) & set(blocks.block_of[samples.label != 1])
