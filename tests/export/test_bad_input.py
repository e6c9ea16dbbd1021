"""Bad stacks and bad arguments get one line and exit code 2, and leave nothing."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from broken_tiffs import REFUSED_ON_OPENING
from commands import QUICK, assert_refused, call, random_stack
from conftest import quick_settings

from eigenfeatures.export import pipeline, steps
from eigenfeatures.export.tables import read_table


def _slices(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"s{number}.tif", image, photometric="rgb" if image.ndim == 3 else None)


def _no_folder(root):
    shutil.rmtree(root)


def _nothing_more(_):
    pass


def _empty_folder(root):
    (root / "b").mkdir()


def _mixed_sizes(root):
    images = list(random_stack())
    _slices(root / "b", [*images[:5], images[5][:30]])


def _not_tiff(root):
    (root / "b.tif").write_text("a table of contents, not an image\n" * 50)


def _no_tiff_among_the_files(root):
    (root / "b").mkdir()
    (root / "b" / "s0.png").write_bytes(b"\x89PNG\r\n")


def _truncated(root):
    tifffile.imwrite(root / "b.tif", random_stack())
    data = (root / "b.tif").read_bytes()
    (root / "b.tif").write_bytes(data[: len(data) // 2])


def _one_bad_value(value):
    def make(root):
        images = random_stack(dtype=np.float32)
        images[11, 39, 39] = value
        tifffile.imwrite(root / "b.tif", images)

    return make


def _second(images):
    return lambda root: tifffile.imwrite(root / "b.tif", images)


BAD_STACKS = {
    "missing folder": (_no_folder, "samples.* no such folder"),
    "one class only": (_nothing_more, "samples.* one class, at least two"),
    "empty folder": (_empty_folder, "samples/b.* no TIFF"),
    "mixed sizes in a stack": (_mixed_sizes, r"b/s5\.tif is 30×40 .*s0\.tif is 40×40"),
    "RGB": (lambda root: _slices(root / "b", random_stack((5, 40, 40, 3))), r"b/s0\.tif.*3 values a pixel"),
    "non-TIFF": (_not_tiff, r"b\.tif: isn't a TIFF"),
    "no TIFF among the files": (_no_tiff_among_the_files, "samples/b: holds no TIFF"),
    "truncated TIFF": (_truncated, r"b\.tif.* past the end.*truncated"),
    "NaN": (_one_bad_value(np.nan), r"b\.tif: slice 11 .*NaN"),
    "infinite": (_one_bad_value(-np.inf), r"b\.tif: slice 11 .*infinite"),
    "one slice": (
        lambda root: tifffile.imwrite(root / "b.tif", random_stack()[0]),
        r"b\.tif: holds one slice",
    ),
    "too few slices": (
        lambda root: tifffile.imwrite(root / "b.tif", random_stack()[:2]),
        "'b' has too few slices",
    ),
    "64-bit": (
        lambda root: tifffile.imwrite(root / "b.tif", random_stack(dtype=np.float64)),
        r"b\.tif.*64-bit",
    ),
}


@pytest.mark.parametrize("command", ["run", "stats"])
@pytest.mark.parametrize("what", BAD_STACKS)
def test_a_bad_stack_is_named_and_nothing_is_left(what, command, tmp_path):
    make, reason = BAD_STACKS[what]
    root = tmp_path / "samples"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", random_stack())
    make(root)
    assert_refused(call(command, root, "--out", tmp_path / "out", *QUICK), reason)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_any_class_is_refused(tmp_path):
    assert_refused(call("run", tmp_path, "--out", tmp_path / "out"), "has no class")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", REFUSED_ON_OPENING)
def test_broken_page_directories_are_named_and_nothing_is_left(what, tmp_path):
    make, reason = REFUSED_ON_OPENING[what]
    root = tmp_path / "samples"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", random_stack((5, 20, 30)))
    make(root / "b.tif")
    assert_refused(call("run", root, "--out", tmp_path / "out", *QUICK), rf"b\.tif.*{reason}")
    assert not (tmp_path / "out").exists()


def test_damage_that_shows_on_decoding_leaves_nothing(tmp_path):
    """The directories are sound here, so that only reading the last slice meets the damage."""
    root = tmp_path / "samples"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", random_stack())
    tifffile.imwrite(root / "b.tif", random_stack(), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(root / "b.tif") as tiff:
        offset = tiff.pages[11].dataoffsets[0]
    data = bytearray((root / "b.tif").read_bytes())
    data[offset : offset + 40] = bytes(40)
    (root / "b.tif").write_bytes(data)
    assert_refused(call("run", root, "--out", tmp_path / "out", *QUICK), r"b\.tif.*slice 11|b\.tif.*page 11")
    assert not (tmp_path / "out").exists()


BAD_ARGUMENTS = {
    "preset": (["--preset", "huge"], "--preset 'huge' is unknown.*paper, reduced, alexnet, small"),
    "operator": (["--operator", "roberts"], "--operator 'roberts' is unknown.*forward.*scharr"),
    "split": (["--split", "odd"], "--split 'odd' is unknown.*random, block, specimen"),
    "augmentation": (["--augment", "rotate"], "--augment 'rotate' is unknown.*flips, none"),
    "normalisation": (["--normalise", "max"], "--normalise 'max' is unknown.*slice, dataset"),
    "resolution": (["--resolution", "full"], "--resolution 'full' is unknown.*pooled, dense"),
    "unknown device": (["--device", "tpu"], "--device 'tpu' is unknown.*auto, cpu, cuda"),
    "layer": (["--layer", "relu9"], "layer 'relu9' is not in the network 'small'.*conv1, relu1"),
    "layer of another network": (["--layer", "pool1"], "layer 'pool1' is not in the network"),
    "size too large": (["--size", "41"], r"sample1.*size 41 exceeds its slices of 40×40"),
    "size too small": (["--size", "8"], "8×8 pixels are too small"),
    "region of three numbers": (["--roi", "0,0,32"], "region '0,0,32'.*top,left,height,width"),
    "region of words": (["--roi", "a,b,c,d"], "region 'a,b,c,d'"),
    "region outside": (["--roi", "0,9,32,32"], "sample1.*region 0,9,32,32 leaves its 40×40 slices"),
    "unequal regions": (["--roi", "0,0,32,32", "--roi", "0,0,32,33"], "0,0,32,32 and 0,0,32,33 differ"),
    "too many rank": (["--rank", "9"], "--rank is 9; give at most 8"),
    "no iterations": (["--iterations", "0"], "--iterations is 0; give at least 1"),
    "iterations of a word": (["--iterations", "x"], "'--iterations'.*integer"),
    "voxel of a word": (["--voxel-size", "big"], "'--voxel-size'.*number"),
    "voxel of no size": (["--voxel-size", "0"], "--voxel-size is 0.*at least"),
    "endless voxel": (["--voxel-size", "inf"], "--voxel-size is inf"),
    "learning rate NaN": (["--learning-rate", "nan"], "--learning-rate is nan"),
    "negative seed": (["--seed", "-1"], "--seed is -1; give at least 0"),
    "batch too large": (
        ["--batch-size", "500"],
        r"batch size 500 is larger than the \d+ slices.*--batch-size \d+ or less",
    ),
    "one specimen": (["--split", "specimen"], "'sample1' has one specimen only"),
    "unknown option": (["--colour", "red"], "No such option: --colour"),
    "option without value": (["--seed"], "--seed.* requires an argument"),
    "missing config": (["--config", "none.toml"], r"none\.toml can't be read"),
}


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_and_nothing_is_left(what, stacks, tmp_path):
    arguments, reason = BAD_ARGUMENTS[what]
    assert_refused(call("run", stacks, "--out", tmp_path / "out", *QUICK, *arguments), reason)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused_and_never_replaced_by_the_cpu(stacks, tmp_path):
    answer = call("run", stacks, "--out", tmp_path / "out", *QUICK, "--device", "cuda")
    assert_refused(answer, "device 'cuda' .* no GPU; use --device cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["runn"], "No such command 'runn'"),
        (["run"], "Missing argument 'samples'"),
        (["run", "samples"], "Missing option '--out'"),
        (["infer"], "Missing argument 'model'"),
        (["--colour"], "No such option: --colour"),
        (["demo", "--slices", "3"], "'--slices'.* 10"),
        (["demo", "--size", "3"], "'--size'.* 32"),
    ],
)
def test_a_mistyped_command_is_refused(arguments, reason):
    assert_refused(call(*arguments), reason)


BAD_CONFIGS = {
    "not TOML": ("preset = = 3", r"config\.toml is not valid TOML.*line 1"),
    "unknown key": ("colour = 3", r"config\.toml .*unknown setting 'colour'; known are preset"),
    "wrong type": ('iterations = "many"', r"config\.toml: 'iterations' must be int"),
    "true as a number": ("iterations = true", r"config\.toml: 'iterations' must be int"),
    "out of range": ("rank = 0", "--rank is 0; give at least 1"),
    "unknown choice": ('operator = "roberts"', "--operator 'roberts' is unknown"),
    "region of a wrong type": ("roi = 3", r"config\.toml: 'roi' must be a list"),
    "region of an unknown sample": ('[roi]\nsample9 = ["0,0,32,32"]', "'sample9', which is no class"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_bad_config_is_named_and_nothing_is_left(what, stacks, tmp_path):
    text, reason = BAD_CONFIGS[what]
    config = tmp_path / "config.toml"
    config.write_text(text)
    answer = call("run", stacks, "--out", tmp_path / "out", "--config", config, "--batch-size", "8")
    assert_refused(answer, reason)
    assert not (tmp_path / "out").exists()


def test_the_record_of_a_run_is_a_config(stacks, finished_run, tmp_path):
    config = ("--config", finished_run / "run.toml")
    answer = call("stats", stacks, "--out", tmp_path / "out", *config, "--operator", "prewitt")
    assert answer.code == 0, answer.error
    found = pipeline.RunFolder.open(tmp_path / "out").settings
    assert found == replace(pipeline.RunFolder.open(finished_run).settings, operator="prewitt")


def test_a_batch_that_nobody_set_is_made_to_fit_and_recorded(stacks, tmp_path):
    few = shutil.copytree(stacks, tmp_path / "few")
    for number in (3, 4):
        (few / f"sample{number}.tif").unlink()
    run = ("train", few, "--out", tmp_path / "out", "--preset", "small", "--iterations", "1")
    answer = call(*run)
    assert answer.code == 0, answer.error
    slices = read_table(tmp_path / "out" / "slices.csv")["split"].count("train")
    assert f"the usual batch of 64 is more than the {slices} slices to train on" in answer.error
    assert pipeline.RunFolder.open(tmp_path / "out").settings.batch_size == slices // 2
    assert call(*run, "--resume").code == 0
    # Nor does `stats`, which has no batches, bar a training.
    measured = ("--out", tmp_path / "measured", "--preset", "small", "--iterations", "1")
    assert call("stats", few, *measured).code == 0
    assert_refused(call("train", few, *measured, "--resume", "--seed", "1"), "was made with seed = 0")
    answer = call("train", few, *measured, "--resume")
    assert answer.code == 0, answer.error
    asked = ("--out", tmp_path / "other", *QUICK, "--iterations", "1", "--batch-size")
    assert_refused(call("train", few, *asked, slices + 1), f"use --batch-size {slices} or less")
    assert call("train", few, *asked, slices).code == 0


def test_copies_of_a_sample_are_noted(stacks, tmp_path):
    twice = shutil.copytree(stacks, tmp_path / "twice")
    shutil.copy(twice / "sample2.tif", twice / "sample5.tif")
    answer = call("stats", twice, "--out", tmp_path / "out")
    assert answer.code == 0, answer.error
    assert answer.error.count("hold the same bytes") == 1
    assert "sample2.tif and sample5.tif hold the same bytes" in answer.error


def test_slices_that_two_samples_share_are_noted(tmp_path):
    """Slices 3, 4 and 5 of a are slices 0, 1 and 2 of b; c is all of a and is noted as that only."""
    images = random_stack((30, 40, 40))
    for name, chosen in {"a": images[:12], "b": np.concatenate([images[3:6], images[12:]])}.items():
        _slices(tmp_path / "samples" / name, chosen)
    shutil.copytree(tmp_path / "samples" / "a", tmp_path / "samples" / "c")
    answer = call("stats", tmp_path / "samples", "--out", tmp_path / "out")
    assert answer.code == 0, answer.error
    assert "samples 'a' and 'b' share slices (files with the same bytes: 3)" in answer.error
    assert answer.error.count("share") == 1
    assert answer.error.count("a and c hold the same bytes") == 1


def test_an_option_wins_over_the_config(stacks, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('preset = "small"\nbatch-size = 8\nseed = 3\noperator = "scharr"\n')
    answer = call("stats", stacks, "--out", tmp_path / "out", "--config", config, "--operator", "prewitt")
    assert answer.code == 0, answer.error
    found = pipeline.RunFolder.open(tmp_path / "out").settings
    assert found == quick_settings(operator="prewitt", seed=3, iterations=70, rank=1)


def test_an_option_equal_to_its_default_wins_over_the_config(stacks, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('preset = "small"\nbatch_size = 8\noperator = "scharr"\n')
    call("stats", stacks, "--out", tmp_path / "out", "--config", config, "--operator", "sobel")
    assert pipeline.RunFolder.open(tmp_path / "out").settings.operator == "sobel"


def test_regions_by_sample_come_from_the_config(stacks, tmp_path):
    config = tmp_path / "config.toml"
    regions = [f'sample{k} = ["{k},0,32,32", "8,{k},32,32"]' for k in (1, 2, 3, 4)]
    config.write_text("\n".join(["[roi]", *regions]))
    answer = call("stats", stacks, "--out", tmp_path / "out", "--config", config, *QUICK)
    assert answer.code == 0, answer.error
    table = read_table(tmp_path / "out" / "slices.csv")
    row = table["specimen"].index("sample3#2")
    with tifffile.TiffFile(stacks / "sample3.tif") as tiff:
        expected = tiff.pages[0].asarray()[8:40, 3:35].mean()
    assert float(table["mean"][row]) == pytest.approx(expected, rel=1e-6)


def test_a_batch_that_does_not_fit_the_memory_is_refused_with_one_that_does(stacks, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "available_memory", lambda _: 5 * 2**20)
    answer = call("run", stacks, "--out", tmp_path / "out", *QUICK, "--batch-size", "30")
    assert_refused(answer, r"batch size 30 needs about 0\.0 GiB and 0\.0 GiB are free; use --batch-size \d+$")
    assert list(tmp_path.iterdir()) == []
    fits = answer.error.split()[-1]
    answer = call(
        "train", stacks, "--out", tmp_path / "out", *QUICK, "--iterations", "1", "--batch-size", fits
    )
    assert answer.code == 0, answer.error
