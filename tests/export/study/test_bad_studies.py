"""A mistake in a study gets one line and exit code 2 before any work, and leaves nothing."""

import shutil

import numpy as np
import pytest
import studies
import tifffile
import torch
from commands import assert_refused, call
from folders import content

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.memory import training_memory
from eigenfeatures.eigen.network import build_network
from eigenfeatures.export import steps
from eigenfeatures.export.study import estimate

SMALL = ("--presets", "small", "--seeds", "2", "--also-preset", "small")

BAD_ARGUMENTS = {
    "unknown plan": (
        ["--also", "nulls,null"],
        "--also 'null' is unknown; choose from nulls, splits, operators, claims",
    ),
    "plan named twice": (["--also", "nulls,nulls"], "--also names 'nulls' twice"),
    "unknown network": (
        ["--presets", "small,huge"],
        "--presets 'huge' is unknown; choose from paper, reduced",
    ),
    "network named twice": (["--presets", "small, small"], "--presets names 'small' twice"),
    "no network": (["--presets", " ,"], "--presets is empty; name at least one"),
    "unknown network of plans": (["--also-preset", "huge"], "--also-preset 'huge' is unknown"),
    "one seed": (["--seeds", "1"], "--seeds is 1; stability needs at least 2 trainings"),
    "no seed of plans": (["--also-seeds", "0"], "--also-seeds is 0; stability needs at least 2"),
    "seeds of a word": (["--seeds", "many"], "'--seeds'.*integer"),
    "seeds past the largest": (["--seed", "4294967295"], "--seed is 4294967296; give at most"),
    "no job": (["--jobs", "0"], "--jobs is 0; give at least 1"),
    "no thread": (["--threads", "0"], "--threads is 0; give at least 1"),
    "preset as an option": (["--preset", "small"], "No such option: --preset"),
    "labels as an option": (["--labels", "shuffled"], "No such option: --labels"),
    "unknown layer": (["--layer", "relu9"], "layer 'relu9' is not in the network 'small'"),
    "layer that one network lacks": (
        ["--presets", "small,reduced", "--layer", "relu5"],
        "layer 'relu5' is not in the network 'reduced'",
    ),
    "unknown operator": (["--operator", "roberts"], "--operator 'roberts' is unknown"),
    "split that the stacks don't allow": (["--split", "specimen"], "'sample1' has one specimen only"),
    "batch too large": (["--batch-size", "100"], r"batch size 100 is larger than the \d+ slices"),
    "size too large": (["--size", "99"], "size 99 exceeds its slices"),
    "no table": (["--properties", "none.csv"], r"none\.csv: no such file"),
    "no config": (["--config", "none.toml"], r"none\.toml can't be read"),
}


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_and_nothing_is_left(what, samples, tmp_path):
    arguments, reason = BAD_ARGUMENTS[what]
    assert_refused(studies.study(samples, tmp_path / "out", *SMALL, *arguments), reason)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def not_timed(monkeypatch):
    """A training that is timed fails the test."""
    monkeypatch.setattr(estimate, "train", lambda *_, **__: pytest.fail("a training was timed"))


@pytest.mark.usefixtures("not_timed")
@pytest.mark.parametrize(
    ("jobs", "advice"),
    [
        (1, r"GiB are free; use --batch-size \d+$"),
        (2, r"GiB are free for each of 2 at once; use --batch-size \d+ or fewer --jobs$"),
    ],
)
def test_trainings_that_do_not_fit_the_memory_are_refused_untimed(
    jobs, advice, samples, tmp_path, monkeypatch
):
    network = build_network("small", len(studies.LENGTHS), (studies.SIZE, studies.SIZE))
    too_little = jobs * training_memory(network, studies.CHANGED["batch_size"] // 2, activation_bytes=2)
    monkeypatch.setattr(steps, "available_memory", lambda _: too_little)
    assert_refused(studies.study(samples, tmp_path / "out", *SMALL, "--jobs", jobs), advice)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("not_timed")
def test_intensities_beyond_float32s_squares_are_refused_untimed(samples, tmp_path):
    root = shutil.copytree(samples, tmp_path / "samples")
    images = tifffile.imread(root / "sample2.tif").astype(np.float32) * np.float32(1e25)
    tifffile.imwrite(root / "sample2.tif", images, photometric="minisblack")
    reason = r"sample2\.tif: slice 0 \(counted from 0\) has intensities too large or too small"
    assert_refused(studies.study(root, tmp_path / "out", *SMALL), reason)
    assert not (tmp_path / "out").exists()


def test_trainings_are_timed_with_the_threads_that_they_will_have(samples, tmp_path, monkeypatch):
    before, seen = torch.get_num_threads(), []

    def stop(*_, **__):
        seen.append(torch.get_num_threads())
        raise InputError("stopped")

    monkeypatch.setattr(estimate, "train", stop)
    try:
        assert_refused(studies.study(samples, tmp_path / "out", *SMALL, "--threads", before + 1), "stopped")
    finally:
        torch.set_num_threads(before)
    assert seen == [before + 1]


BAD_CONFIGS = {
    "preset": ('preset = "small"', r"config\.toml sets 'preset', which 'study' chooses itself; remove it"),
    "labels": ('labels = "shuffled"', r"config\.toml sets 'labels', which 'study' chooses itself"),
    "rank": ("rank = 4", r"config\.toml sets 'rank', which 'study' chooses itself"),
    "options of the command": ("seeds = 3", r"config\.toml holds the unknown setting 'seeds'"),
    "value out of range": ("iterations = 0", "--iterations is 0; give at least 1"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_bad_config_is_named_and_nothing_is_left(what, samples, tmp_path):
    text, reason = BAD_CONFIGS[what]
    config = tmp_path / "config.toml"
    config.write_text(text)
    assert_refused(call("study", samples, "--out", tmp_path / "out", *SMALL, "--config", config), reason)
    assert not (tmp_path / "out").exists()


BAD_TABLES = {
    "a sample that is not there": (
        "sample,age\nsample1,1\nsample2,2\nsample3,3\nsample4,4\n",
        "sample 'sample4' is unknown",
    ),
    "a sample that is missing": ("sample,age\nsample1,1\nsample3,3\n", "sample 'sample2' has no row"),
    "a word": (
        "sample,age\nsample1,1\nsample2,old\nsample3,3\n",
        r"'old' \(age of sample2\) isn't a finite number",
    ),
    "no property": ("sample\nsample1\nsample2\nsample3\n", "isn't a table of properties"),
    "nothing": ("", "isn't a table of properties"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_a_bad_table_of_properties_is_named_and_nothing_is_left(what, samples, tmp_path):
    text, reason = BAD_TABLES[what]
    known = tmp_path / "known.csv"
    known.write_text(text)
    assert_refused(
        studies.study(samples, tmp_path / "out", *SMALL, "--properties", known), rf"known\.csv: .*{reason}"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_inside_the_samples_is_refused(samples):
    before = sorted(samples.iterdir())
    answer = studies.study(samples, samples / "out", *SMALL)
    assert_refused(answer, "lies inside the samples .*; choose a folder outside")
    assert_refused(studies.study(samples, samples, *SMALL), "lies inside the samples")
    assert sorted(samples.iterdir()) == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_folder_of_something_else_is_refused(resume, samples, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    assert_refused(
        studies.study(samples, tmp_path / "out", *SMALL, *resume), "out is not empty; choose another folder"
    )
    assert content(tmp_path) == {"out/letter.txt": b"mine"}


def test_a_file_in_place_of_the_folder_is_refused(samples, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert_refused(studies.study(samples, tmp_path / "out", *SMALL), "out is a file; choose another folder")
    assert content(tmp_path) == {"out": b"mine"}


ANOTHER_STUDY = {
    "threads": (["--resume", "--threads", "1"], "made with --threads 2, and now it is 1"),
    "no --resume": ([], "holds another study; add --resume to go on with it"),
    "iterations": (
        ["--resume", "--iterations", "16"],
        "small-seed0 was made with iterations = 15, and now it is 16",
    ),
    "operator": (["--resume", "--operator", "scharr"], "made with operator = sobel, and now it is scharr"),
    "split": (["--resume", "--split", "random"], "made with split = block, and now it is random"),
    "split seed": (["--resume", "--split-seed", "3"], "made with split_seed = 0, and now it is 3"),
    "layer": (["--resume", "--layer", "relu1"], "made with layer = relu2, and now it is relu1"),
}


@pytest.mark.parametrize("what", ANOTHER_STUDY)
def test_a_study_of_other_settings_is_not_gone_on_with(what, finished, tmp_path):
    arguments, reason = ANOTHER_STUDY[what]
    out = studies.copy_study(finished.folder, tmp_path / "out", measured=False)
    before = content(tmp_path)
    assert_refused(studies.study(finished.samples, out, *SMALL, *arguments), reason)
    assert content(tmp_path) == before


def test_a_study_of_other_stacks_is_not_gone_on_with(finished, tmp_path):
    """Its networks would be shown slices that they have never had a part in."""
    out = studies.copy_study(finished.folder, tmp_path / "out", measured=False)
    changed = shutil.copytree(finished.samples, tmp_path / "samples")
    images = tifffile.imread(changed / "sample2.tif")
    images[-1] = np.flipud(images[-1])
    tifffile.imwrite(changed / "sample2.tif", images, photometric="minisblack")
    before = content(out)
    answer = studies.study(changed, out, *SMALL, "--resume")
    assert_refused(answer, r"small-seed0 was made from other data \(sample2\.tif differs\)")
    assert content(out) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda root: shutil.rmtree(root), "samples.* no such folder"),
        (lambda root: [(root / f"sample{k}.tif").unlink() for k in (2, 3)], "one class, at least two"),
        (lambda root: (root / "sample2.tif").write_bytes(b""), r"sample2\.tif.*empty"),
        (lambda root: (root / "sample2.tif").write_text("no image"), r"sample2\.tif: isn't a TIFF"),
    ],
)
def test_bad_stacks_are_named_and_nothing_is_left(change, reason, samples, tmp_path):
    root = shutil.copytree(samples, tmp_path / "samples")
    change(root)
    assert_refused(studies.study(root, tmp_path / "out", *SMALL), reason)
    assert not (tmp_path / "out").exists()
