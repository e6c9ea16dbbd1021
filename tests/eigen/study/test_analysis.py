"""Which rows and slices an estimate is made of."""

from dataclasses import asdict

import numpy as np
import pytest
import tifffile
from scipy import stats
from scipy.ndimage import gaussian_filter

from eigenfeatures.eigen.phantom import make_phantom
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.split import guard_length
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.study.analysis import Analysis, Blocks, blocks_of
from eigenfeatures.eigen.study.bootstrap import Cells, crossed_interval, paired_difference
from eigenfeatures.eigen.study.measurement import Measured, all_pairs

# Runs 0, 2, 5 are of one group, 1, 3 of another, 4 of none.
GROUPS = {"fine": [0, 2, 5], "coarse": [3, 1]}
# Runs 0 and 3 have one seed, so have 1 and 2, and 4 and 5.
SEEDS = (0, 1, 1, 0, 2, 2)
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
    return Analysis(measured, GROUPS, BLOCKS, SEEDS)


def pair_of(measured, one, other):
    """The row of two runs, whichever comes first."""
    (row,) = np.flatnonzero((np.sort(measured.pairs) == sorted((one, other))).all(1))
    return row


def sets(measured, rows):
    return sorted(tuple(sorted(pair)) for pair in measured.pairs[rows].tolist())


def cells(values, members):
    return Cells(values, members, np.zeros(6, int), BLOCKS.block_of[SLICES], BLOCKS.sample_of[SLICES])


def test_rows_within_and_between_groups(analysis, measured):
    assert sets(measured, analysis.within("fine")) == [(0, 2), (0, 5), (2, 5)]
    assert sets(measured, analysis.within("coarse")) == [(1, 3)]
    crossed = [(0, 1), (1, 5), (2, 3), (3, 5)]
    for names in (("fine", "coarse"), ("coarse", "fine")):
        assert sets(measured, analysis.between(*names)) == crossed
    alone = Analysis(measured, {"one": [4], "two": [0, 1]}, BLOCKS, SEEDS)
    assert alone.within("one").size == 0
    assert sets(measured, alone.between("one", "two")) == [(0, 4), (1, 4)]


def test_runs_of_one_seed_are_compared_apart_from_the_others(measured):
    """They can share initial weights and the order of slices: no two independent trainings."""
    analysis = Analysis(measured, GROUPS, BLOCKS, SEEDS)
    for names in (("fine", "coarse"), ("coarse", "fine")):
        assert sets(measured, analysis.between(*names, same_seed=True)) == [(0, 3), (1, 2)]
    # Within a group two runs of one seed are two trainings under other settings: both are there.
    assert sets(measured, analysis.within("fine")) == [(0, 2), (0, 5), (2, 5)]
    apart = Analysis(measured, GROUPS, BLOCKS, tuple(range(6)))
    assert apart.between("fine", "coarse", same_seed=True).size == 0
    assert len(apart.between("fine", "coarse")) == 6
    alike = Analysis(measured, GROUPS, BLOCKS, (7,) * 6)
    assert alike.between("fine", "coarse").size == 0
    assert len(alike.between("fine", "coarse", same_seed=True)) == 6


@pytest.mark.parametrize("which", ["within", "between"])
def test_pairs_are_drawn_with_their_runs_and_blocks(analysis, measured, which):
    rows = analysis.within("fine") if which == "within" else analysis.between("fine", "coarse")
    values = measured.of_pairs["u1/pearson"][rows]
    found = analysis.of_pairs("u1/pearson", rows)
    assert found.estimate == pytest.approx(np.nanmean(values))
    # Of whatever group a run is, its seed is what is drawn.
    assert found == crossed_interval(cells(values, np.array(SEEDS)[measured.pairs[rows]]))
    assert found.low < found.estimate < found.high
    assert found.runs == 3


def matched(values, seeds):
    """Two groups of runs with the same seeds; `values` are of each pair of a run of one and of the other."""
    pairs = np.array([(a, seeds + b) for a in range(seeds) for b in range(seeds)])
    slices = np.arange(values.shape[1])
    measured = Measured(tuple(map(str, range(2 * seeds))), pairs, slices, {"activation": values}, {})
    groups = {"trained": range(seeds), "untrained": range(seeds, 2 * seeds)}
    return Analysis(measured, groups, Blocks(1, slices, slices * 0), tuple(range(seeds)) * 2)


def test_pairs_of_one_seed_are_as_many_draws_as_there_are_seeds():
    """Five independent rows: Student's interval of five, and not of five and five runs."""
    own = np.array([0.3, 0.5, 0.9, 0.4, 0.7])
    values = np.zeros((25, 6))
    values[::6] = own[:, None]
    analysis = matched(values, 5)
    found = analysis.of_pairs("activation", analysis.between("trained", "untrained", same_seed=True))
    expected = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    assert (found.runs, found.degrees_of_freedom) == (5, pytest.approx(4))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)


@pytest.mark.parametrize(("seeds", "same_seed"), [(3, True), (5, True), (3, False), (5, False)])
def test_intervals_of_matched_groups_cover_as_often_as_they_say(seeds, same_seed):
    """A seed has one effect on all of its runs, as the initial weights and the order of slices have."""
    random = np.random.default_rng(11)
    repetitions, hits = 300, 0
    for _ in range(repetitions):
        effects = random.standard_normal(seeds)
        values = np.add.outer(effects, effects).reshape(-1, 1) + 0.3 * random.standard_normal((seeds**2, 8))
        analysis = matched(values, seeds)
        rows = analysis.between("trained", "untrained", same_seed=same_seed)
        found = analysis.of_pairs("activation", rows)
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / repetitions <= 0.985


def test_of_the_slices_that_are_marked_alone(analysis, measured):
    """The slices of a validation part: their values, drawn in their blocks."""
    rows = analysis.within("fine")
    marked = np.zeros(40, bool)
    marked[4:13] = marked[30:36] = True
    columns = np.flatnonzero(marked[SLICES])
    assert SLICES[columns].tolist() == [4, 6, 8, 10, 12, 30, 32, 34]
    values = measured.of_pairs["u1/pearson"][rows]
    found = analysis.of_pairs("u1/pearson", rows, marked)
    assert found.estimate == pytest.approx(np.nanmean(values[:, columns]))
    alone = Cells(
        values[:, columns],
        measured.pairs[rows],
        np.zeros(6, int),
        BLOCKS.block_of[SLICES[columns]],
        BLOCKS.sample_of[SLICES[columns]],
    )
    assert found == crossed_interval(alone)
    whole = analysis.of_pairs("u1/pearson", rows)
    assert found.estimate != whole.estimate
    assert found.high - found.low > whole.high - whole.low
    assert analysis.of_pairs("u1/pearson", rows, np.ones(40, bool)) == whole
    assert np.isnan(analysis.of_pairs("u1/pearson", rows, np.zeros(40, bool)).estimate)


def test_runs_are_drawn_with_blocks(analysis, measured):
    values = measured.of_runs["u1/repeatability"][[3, 1]]
    found = analysis.of_runs("u1/repeatability", "coarse")
    assert found.estimate == pytest.approx(values.mean())
    assert asdict(found) == pytest.approx(asdict(crossed_interval(cells(values, np.array([[0], [1]])))))
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
    empty = Analysis(measured, {"none": []}, BLOCKS, SEEDS)
    assert np.isnan(empty.of_runs("activation", "none").estimate)
    assert np.isnan(empty.of_pairs("u1/pearson", empty.within("none")).estimate)
    assert analysis.of_pairs("u1/pearson", analysis.within("coarse")).runs == 0


TRAINED, UNTRAINED = (0, 2, 5), (1, 3, 4)


@pytest.fixture(scope="module")
def nulls(measured):
    return Analysis(measured, {"trained": TRAINED, "untrained": UNTRAINED}, BLOCKS, SEEDS)


def test_runs_of_two_groups_are_compared_one_by_one(nulls, measured):
    own, other = (
        measured.of_runs[f"{kind}/repeatability"][list(runs)]
        for kind, runs in (("u1", TRAINED), ("alpha", UNTRAINED))
    )
    found = nulls.paired_groups_of_runs(("u1/repeatability", "trained"), ("alpha/repeatability", "untrained"))
    assert found.difference.estimate == pytest.approx(np.mean(own - other))
    assert found.superiority == 1
    crossed = crossed_interval(
        Cells(
            own - other,
            np.array(TRAINED)[:, None],
            np.zeros(6, int),
            BLOCKS.block_of[SLICES],
            BLOCKS.sample_of[SLICES],
        )
    )
    assert asdict(found.difference) == pytest.approx(asdict(crossed))


def test_groups_that_do_not_match_are_refused(measured):
    analysis = Analysis(measured, {"trained": [0, 2, 5], "untrained": [1, 3]}, BLOCKS, SEEDS)
    with pytest.raises(ValueError, match="rows"):
        analysis.paired_groups_of_runs(("activation", "trained"), ("activation", "untrained"))


NEAR_THE_END = {
    "u1/other_sample": (-1, 1), "u1/image": (0, 1), "alpha/image": (0, 1), "alpha/image0": (-1, 1),
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
        analysis = Analysis(measured, {"all": [0, 1, 2]}, BLOCKS, (0, 1, 2))
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
        Measured(measured.runs, measured.pairs, SLICES, {}, {name: values}), GROUPS, BLOCKS, SEEDS
    ).of_runs(name, "fine")
    assert 25 < whole.low < whole.estimate < whole.high < 35


def test_blocks_are_as_long_as_slices_resemble_each_other(tmp_path):
    make_phantom(tmp_path / "samples", slices=40, size=24, layout="stacks")
    with open_samples(tmp_path / "samples") as samples:
        blocks = blocks_of(samples)
        stacks = np.split(np.arange(160), 4)
        assert blocks.length == max(guard_length(samples, members)[0] for members in stacks) > 1
        np.testing.assert_array_equal(blocks.sample_of, samples.label)
        for members in stacks:
            numbers = blocks.block_of[members]
            assert (np.diff(numbers) >= 0).all()
            assert len(np.unique(numbers)) == max(2, round(40 / guard_length(samples, members)[0]))
        # No block is of two stacks, and numbers leave none out.
        of_stacks = [np.unique(blocks.block_of[members]) for members in stacks]
        np.testing.assert_array_equal(np.concatenate(of_stacks), np.arange(blocks.count))


def test_each_stack_has_blocks_as_long_as_its_own_slices_resemble_each_other(tmp_path):
    """One that hardly changes, one of unlike slices: the second isn't cut as coarsely as the first."""
    random = np.random.default_rng(0)
    for name, depth in (("even", 60), ("noise", 0)):
        field = gaussian_filter(random.standard_normal((40, 24, 24)), (depth, 1, 1), mode="wrap")
        scaled = 128 + 40 * field / field.std()
        tifffile.imwrite(tmp_path / f"{name}.tif", np.clip(scaled, 0, 255).astype(np.uint8), imagej=True)
    with open_samples(tmp_path) as samples:
        blocks = blocks_of(samples)
        assert samples.classes == ("even", "noise")
    even, noise = np.split(blocks.block_of, 2)
    assert even.tolist() == [position * 7 // 40 for position in range(40)]
    assert noise.tolist() == [7 + position for position in range(40)]
    assert (blocks.length, blocks.count) == (6, 47)
    assert blocks.too_short == (0,)  # over six slices the even one still resembles itself


def test_regions_of_one_stack_share_their_blocks(tmp_path):
    make_phantom(tmp_path / "samples", slices=20, size=24, layout="stacks")
    regions = {"sample2": [Region(0, 0, 12, 12), Region(12, 12, 12, 12)]}
    with open_samples(tmp_path / "samples", regions=regions, size=12) as samples:
        blocks = blocks_of(samples)
        first, second = (np.flatnonzero(samples.specimen_of == specimen) for specimen in (1, 2))
        assert {samples.specimens[k].source for k in (1, 2)} == {"sample2"}
        np.testing.assert_array_equal(blocks.block_of[first], blocks.block_of[second])
        assert not set(blocks.block_of[first]) & set(blocks.block_of[samples.label != 1])
