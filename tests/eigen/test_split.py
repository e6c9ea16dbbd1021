"""Splits hold out what they say, and nothing leaks past the guard."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.split import GUARD, TRAIN, VALIDATION, guard_length, split_slices
from eigenfeatures.eigen.stacks import Region


def write_samples(folder: Path, depths: dict[str, list[int]]) -> Path:
    """One class a key, one specimen a number: its depth."""
    for sample, specimens in depths.items():
        for number, depth in enumerate(specimens):
            path = folder / sample / f"specimen{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.zeros((depth, 12, 16), np.uint8), photometric="minisblack")
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = write_samples(tmp_path_factory.mktemp("split"), {"a": [100], "b": [60, 40, 50], "c": [81, 20]})
    with open_samples(folder) as opened:
        yield opened


@pytest.mark.parametrize("seed", [0, 1])
def test_random_holds_out_thirty_percent_of_each_class(samples, seed):
    split = split_slices(samples, "random", seed)
    assert set(split) == {TRAIN, VALIDATION}
    for label, held_out in enumerate((30, 45, 30)):
        assert np.sum(split[samples.label == label] == VALIDATION) == held_out


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_block_is_contiguous_and_guarded_on_both_sides(samples, seed):
    split = split_slices(samples, "block", seed)
    for number, specimen in enumerate(samples.specimens):
        parts = split[samples.specimen_of == number]
        depth = specimen.stack.shape[0]
        held_out = np.flatnonzero(parts == VALIDATION)
        assert len(held_out) == round(0.3 * depth)
        assert np.all(np.diff(held_out) == 1)
        distance = np.abs(np.flatnonzero(parts == TRAIN)[:, None] - held_out).min()
        assert distance == guard_length(samples, np.flatnonzero(samples.specimen_of == number))[0] + 1
        assert set(parts) == {TRAIN, VALIDATION, GUARD}


@pytest.mark.parametrize(("repeats", "guard", "enough"), [(1, 1, True), (4, 4, True), (40, 15, False)])
def test_guard_ends_where_slices_no_longer_correlate(tmp_path, repeats, guard, enough):
    """Each random slice stands `repeats` times in a stack of 100, of which the guard is 15 at most."""
    for name in "ab":
        slices = np.random.default_rng(0).integers(0, 255, (100 // repeats + 1, 24, 24), np.uint8)
        stack = np.repeat(slices, repeats, axis=0)[:100]
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    with open_samples(tmp_path) as samples:
        assert guard_length(samples, np.arange(100)) == (guard, enough)


def test_specimens_are_held_out_whole(tmp_path):
    folder = write_samples(tmp_path, {"a": [9, 8], "b": [7, 6, 5, 4, 3, 2, 3]})
    with open_samples(folder) as samples:
        split = split_slices(samples, "specimen", 0)
        held_out = [set(split[samples.specimen_of == number]) for number in range(len(samples.specimens))]
    assert all(len(parts) == 1 for parts in held_out)
    assert [{VALIDATION} in held_out[:2], held_out[2:].count({VALIDATION})] == [True, 2]


def test_regions_of_one_stack_share_its_block_and_its_side(tmp_path):
    folder = write_samples(tmp_path, {"a": [40, 40], "b": [40, 40]})
    regions = [Region(0, 0, 12, 8), Region(0, 8, 12, 8)]
    with open_samples(folder, regions=regions) as samples:
        for how in ("block", "specimen"):
            split = split_slices(samples, how, 3)
            parts = [split[samples.specimen_of == number] for number in range(len(samples.specimens))]
            for left, right in zip(parts[::2], parts[1::2], strict=True):
                assert np.array_equal(left, right)


def test_what_cannot_be_split_is_refused(samples, tmp_path):
    with pytest.raises(InputError, match="sample 'a' has one specimen only"):
        split_slices(samples, "specimen", 0)
    with pytest.raises(InputError, match="split 'thirds' is unknown"):
        split_slices(samples, "thirds", 0)
    with (
        open_samples(write_samples(tmp_path, {"a": [2], "b": [9]})) as few,
        pytest.raises(InputError, match=r"too few.*, or another split$"),
    ):
        split_slices(few, "block", 0)
    for name in ("a", "b"):
        (tmp_path / "single" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "single" / name / "s0.tif", np.eye(16, dtype=np.uint8))
    with (
        open_samples(tmp_path / "single") as few,
        pytest.raises(InputError, match=r"too few.* of at least 10 slices$"),
    ):
        split_slices(few, "random", 0)


def test_paper_sizes_give_the_papers_iterations_an_epoch(tmp_path):
    """Fig. 6 and 12: 11 iterations at batch 64, 23 at 32, of 70 % of 1,064 slices."""
    folder = write_samples(tmp_path, {name: [266] for name in "abcd"})
    with open_samples(folder) as samples:
        training = int(np.sum(split_slices(samples, "random", 0) == TRAIN))
    assert (training // 64, training // 32) == (11, 23)
