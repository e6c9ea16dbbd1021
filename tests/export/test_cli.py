"""Bad input gets one line, exit code 2 and leaves nothing; good input gets tables or JSON."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from broken_tiffs import REFUSED_ON_OPENING
from commands import ENVIRONMENT, QUICK, call
from conftest import quick_settings

from eigenfeatures.eigen.model_file import load_model, save_model
from eigenfeatures.eigen.phantom import make_phantom
from eigenfeatures.export import cli, onnx_model, pipeline, steps
from eigenfeatures.export.tables import read_table

COMMANDS = ("run", "stats", "train", "export", "infer", "features", "report", "demo", "phantom")
ON_A_RUN = ("export", "infer", "features", "report")


def assert_refused(answer, *reasons, code=2):
    """One line that starts with "error: ", the last one, and gives each of the reasons."""
    lines = answer.error.splitlines()
    assert answer.code == code, answer.error
    assert answer.output == ""
    assert "Traceback" not in answer.error
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True], answer.error
    for reason in reasons:
        assert re.search(reason, lines[-1]), f"{reason!r} is not in {lines[-1]!r}"


def parsed(answer):
    """The JSON that is all of standard output; ``NaN`` is not JSON."""
    assert answer.code == 0, answer.error

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(answer.output, parse_constant=refuse)


@pytest.fixture(scope="module")
def trained(stacks, tmp_path_factory):
    """A run that stops after the training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert call("train", stacks, "--out", folder, *QUICK).code == 0
    return folder


@pytest.fixture(scope="module")
def measured(stacks, tmp_path_factory):
    """A run that stops after the statistics."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    assert call("stats", stacks, "--out", folder, *QUICK).code == 0
    return folder


# --- stacks -------------------------------------------------------------------------------------


def _good(shape=(12, 40, 40), dtype=np.uint8):
    return np.random.default_rng(5).integers(0, 255, shape).astype(dtype)


def _slices(folder, images):
    folder.mkdir()
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"s{number}.tif", image, photometric="rgb" if image.ndim == 3 else None)


def _no_folder(root):
    shutil.rmtree(root)


def _nothing_more(_):
    pass


def _empty_folder(root):
    (root / "b").mkdir()


def _mixed_sizes(root):
    images = list(_good())
    _slices(root / "b", [*images[:5], images[5][:30]])


def _not_tiff(root):
    (root / "b.tif").write_text("a table of contents, not an image\n" * 50)


def _no_tiff_among_the_files(root):
    (root / "b").mkdir()
    (root / "b" / "s0.png").write_bytes(b"\x89PNG\r\n")


def _truncated(root):
    tifffile.imwrite(root / "b.tif", _good())
    data = (root / "b.tif").read_bytes()
    (root / "b.tif").write_bytes(data[: len(data) // 2])


def _one_bad_value(value):
    def make(root):
        images = _good(dtype=np.float32)
        images[11, 39, 39] = value
        tifffile.imwrite(root / "b.tif", images)

    return make


BAD_STACKS = {
    "missing folder": (_no_folder, "samples.* no such folder"),
    "one class only": (_nothing_more, "samples.* one class, at least two"),
    "empty folder": (_empty_folder, "samples/b.* no TIFF"),
    "mixed sizes in a stack": (_mixed_sizes, r"b/s5\.tif is 30×40 .*s0\.tif is 40×40"),
    "RGB": (lambda root: _slices(root / "b", _good((5, 40, 40, 3))), r"b/s0\.tif.*3 values a pixel"),
    "non-TIFF": (_not_tiff, r"b\.tif: isn't a TIFF"),
    "no TIFF among the files": (_no_tiff_among_the_files, "samples/b: holds no TIFF"),
    "truncated TIFF": (_truncated, r"b\.tif.* past the end.*truncated"),
    "NaN": (_one_bad_value(np.nan), r"b\.tif: slice 11 .*NaN"),
    "infinite": (_one_bad_value(-np.inf), r"b\.tif: slice 11 .*infinite"),
    "one slice": (lambda root: tifffile.imwrite(root / "b.tif", _good()[0]), r"b\.tif: holds one slice"),
    "too few slices": (lambda root: tifffile.imwrite(root / "b.tif", _good()[:2]), "'b' has too few slices"),
    "64-bit": (lambda root: tifffile.imwrite(root / "b.tif", _good(dtype=np.float64)), r"b\.tif.*64-bit"),
}


@pytest.mark.parametrize("command", ["run", "stats"])
@pytest.mark.parametrize("what", BAD_STACKS)
def test_a_bad_stack_is_named_and_nothing_is_left(what, command, tmp_path):
    make, reason = BAD_STACKS[what]
    root = tmp_path / "samples"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", _good())
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
    tifffile.imwrite(root / "a.tif", _good((5, 20, 30)))
    make(root / "b.tif")
    assert_refused(call("run", root, "--out", tmp_path / "out", *QUICK), rf"b\.tif.*{reason}")
    assert not (tmp_path / "out").exists()


def test_damage_that_shows_on_decoding_leaves_nothing(tmp_path):
    """The directories are sound here, so that only reading the last slice meets the damage."""
    root = tmp_path / "samples"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", _good())
    tifffile.imwrite(root / "b.tif", _good(), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(root / "b.tif") as tiff:
        offset = tiff.pages[11].dataoffsets[0]
    data = bytearray((root / "b.tif").read_bytes())
    data[offset : offset + 40] = bytes(40)
    (root / "b.tif").write_bytes(data)
    assert_refused(call("run", root, "--out", tmp_path / "out", *QUICK), r"b\.tif.*slice 11|b\.tif.*page 11")
    assert not (tmp_path / "out").exists()


# --- arguments ----------------------------------------------------------------------------------

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
        (["infer"], "Missing argument 'run'"),
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


# --- folders ------------------------------------------------------------------------------------


def _content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_that_holds_another_run_is_left_alone(stacks, finished_run):
    before = _content(finished_run)
    for command in ("run", "train", "stats"):
        answer = call(command, stacks, "--out", finished_run, *QUICK)
        assert_refused(answer, "holds another run.*choose another folder for --out")
    assert _content(finished_run) == before


@pytest.mark.parametrize("command", ["run", "demo", "infer"])
def test_a_folder_that_holds_other_files_is_left_alone(command, stacks, finished_run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = {"run": ["run", stacks, *QUICK], "demo": ["demo"], "infer": ["infer", finished_run, stacks]}
    answer = call(*arguments[command], "--out", tmp_path)
    assert_refused(answer, f"{tmp_path.name} is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_demo_leaves_another_run_alone(finished_run):
    before = _content(finished_run)
    assert_refused(call("demo", "--out", finished_run), "is not empty")
    assert _content(finished_run) == before


@pytest.mark.parametrize("command", ["run", "demo", "infer"])
@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_in_the_place_of_the_folder_is_refused(command, below, stacks, finished_run, tmp_path):
    (tmp_path / "file").write_text("mine")
    arguments = {"run": ["run", stacks, *QUICK], "demo": ["demo"], "infer": ["infer", finished_run, stacks]}
    answer = call(*arguments[command], "--out", tmp_path / "file" / below)
    assert_refused(answer, r"/file is a file; choose another folder")
    assert "training" not in answer.error, "it must be refused before any work"
    assert (tmp_path / "file").read_text() == "mine"


def test_statistics_may_be_measured_again_with_other_settings(stacks, tmp_path):
    for operator in ("sobel", "forward"):
        assert call("stats", stacks, "--out", tmp_path, *QUICK, "--operator", operator).code == 0
    assert pipeline.RunFolder.open(tmp_path).settings.operator == "forward"


def test_statistics_need_no_room_for_a_training(stacks, tmp_path):
    """The default batch of 64 is more than this set can train on, and nothing is trained."""
    answer = call("stats", stacks, "--out", tmp_path / "out", "--preset", "small")
    assert answer.code == 0, answer.error
    assert "training" not in answer.error


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_folder_that_is_no_run_is_refused(command, stacks, tmp_path):
    assert_refused(call(command, tmp_path / "none"), "none is not the folder of a run")
    assert_refused(call(command, stacks), "samples is not the folder of a run")
    (tmp_path / "run.toml").write_text('title = "my own"')
    assert_refused(call(command, tmp_path), r"run\.toml is not the record of a run")
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_run_without_a_model_is_refused(command, measured):
    before = _content(measured)
    assert_refused(call(command, measured), r"model\.json is missing; train")
    assert _content(measured) == before


def test_steps_say_which_step_is_missing(trained):
    assert_refused(call("infer", trained), r"model\.onnx is missing; export")
    assert_refused(
        call("report", trained), r"slices\.csv has no column 'predicted'; run 'eigenfeatures infer'"
    )
    assert not (trained / "report.html").exists()
    assert not (trained / "figures").exists()


def test_report_wants_the_features(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    assert call("export", run).code == 0
    assert call("infer", run).code == 0
    assert_refused(call("report", run), "no column 'residual'; run 'eigenfeatures features'")
    assert not (run / "figures").exists()


@pytest.mark.parametrize(
    ("command", "option", "reason"),
    [
        ("features", ["--layer", "relu9"], "layer 'relu9' is not in the network 'small'"),
        ("features", ["--resolution", "full"], "--resolution 'full' is unknown"),
        ("features", ["--rank", "9"], "--rank is 9; give at most 8"),
        ("export", ["--layer", "relu9"], "layer 'relu9' is not in the network 'small'"),
    ],
)
def test_a_bad_option_of_a_step_leaves_the_run_alone(command, option, reason, finished_run):
    before = _content(finished_run)
    assert_refused(call(command, finished_run, *option), reason)
    assert _content(finished_run) == before


def test_only_the_same_run_is_resumed(stacks, trained, tmp_path):
    before = _content(trained)
    answer = call("run", stacks, "--out", trained, *QUICK, "--seed", "1", "--resume")
    assert_refused(answer, "made with seed = 0, and now it is 1")
    changed = shutil.copytree(stacks, tmp_path / "samples")
    images = tifffile.imread(changed / "sample2.tif")
    images[3, 4, 5] ^= 1
    tifffile.imwrite(changed / "sample2.tif", images, imagej=True)
    answer = call("run", changed, "--out", trained, *QUICK, "--resume")
    assert_refused(answer, r"made from other data \(sample2\.tif differs\)")
    assert _content(trained) == before


@pytest.mark.parametrize("command", ON_A_RUN)
def test_stacks_that_changed_after_the_run_are_refused(command, stacks, finished_run, tmp_path):
    """Otherwise rows of `slices.csv` would speak of other slices than those measured."""
    moved = shutil.copytree(stacks, tmp_path / "samples")
    run = shutil.copytree(finished_run, tmp_path / "run")
    record = (run / "run.toml").read_text(encoding="utf-8")
    (run / "run.toml").write_text(record.replace(str(stacks), str(moved)), encoding="utf-8")
    assert call("export", run).code == 0
    images = tifffile.imread(moved / "sample2.tif")
    tifffile.imwrite(moved / "sample2.tif", images[:-1], imagej=True)
    before = _content(run)
    assert_refused(call(command, run), r"sample2\.tif differs")
    shutil.rmtree(moved)
    assert_refused(call(command, run), "samples: no such folder")
    assert _content(run) == before


# --- other stacks for a model -------------------------------------------------------------------


def test_samples_and_out_go_together(stacks, finished_run, tmp_path):
    assert_refused(call("infer", finished_run, stacks), "SAMPLES and --out go together")
    assert_refused(call("infer", finished_run, "--out", tmp_path / "out"), "SAMPLES and --out go together")
    assert not (tmp_path / "out").exists()


def _renamed(root):
    (root / "sample4.tif").rename(root / "steel.tif")


def _fewer(root):
    (root / "sample4.tif").unlink()


def _rewritten(change):
    def rewrite(root):
        for path in root.glob("*.tif"):
            tifffile.imwrite(path, change(tifffile.imread(path)), imagej=True)

    return rewrite


OTHER_STACKS = {
    "other classes": (_renamed, "holds the samples .*steel, but the model was made for .*sample4"),
    "fewer classes": (_fewer, "sample3, but the model was made for .*sample4"),
    "other size": (_rewritten(lambda a: a[:, :36]), "36×40 pixels, but the model was made for 40×40"),
    "other dtype": (_rewritten(lambda a: a.astype(np.uint16)), "uint16 slices, but the model takes uint8"),
}


@pytest.mark.parametrize("what", OTHER_STACKS)
def test_stacks_that_do_not_suit_the_model_are_refused(what, stacks, finished_run, tmp_path):
    change, reason = OTHER_STACKS[what]
    change(shutil.copytree(stacks, tmp_path / "samples"))
    answer = call("infer", finished_run, tmp_path / "samples", "--out", tmp_path / "out")
    assert_refused(answer, rf"samples .*{reason}")
    assert not (tmp_path / "out").exists()


def test_other_stacks_are_classified_as_the_runs_own(stacks, finished_run, tmp_path):
    """The same slices under another path get the very answers of the run."""
    shutil.copytree(stacks, tmp_path / "samples")
    answer = call("infer", finished_run, tmp_path / "samples", "--out", tmp_path / "out", "--json")
    ours, theirs = read_table(finished_run / "slices.csv"), read_table(tmp_path / "out" / "predictions.csv")
    assert list(theirs) == ["sample", "specimen", "slice", "predicted", "probability"]
    assert all(theirs[column] == ours[column] for column in theirs)
    right = np.mean(np.array(ours["sample"]) == np.array(ours["predicted"]))
    assert parsed(answer)["accuracy"] == pytest.approx(right)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"] == pytest.approx(right)


def test_runs_on_other_samples_are_not_compared(finished_run, tmp_path):
    make_phantom(tmp_path / "samples", slices=16, size=40, seed=9, layout="stacks")
    assert (
        call("train", tmp_path / "samples", "--out", tmp_path / "run", *QUICK, "--iterations", "1").code == 0
    )
    before = _content(finished_run)
    answer = call("report", finished_run, "--compare", tmp_path / "run")
    assert_refused(answer, "run is a run on other samples")
    assert_refused(call("report", finished_run, "--compare", tmp_path), "not the folder of a run")
    assert _content(finished_run) == before


# --- slices without content ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def partly_constant(tmp_path_factory):
    """A run on two samples, of which the second is one grey value throughout."""
    root = tmp_path_factory.mktemp("constant")
    (root / "samples").mkdir()
    tifffile.imwrite(root / "samples" / "a.tif", _good())
    tifffile.imwrite(root / "samples" / "b.tif", np.full((12, 40, 40), 7, np.uint8))
    answer = call("run", root / "samples", "--out", root / "run", *QUICK)
    assert answer.code == 0, answer.error
    return root / "run"


def test_constant_slices_are_admitted_and_flagged(partly_constant):
    table = read_table(partly_constant / "slices.csv")
    assert table["flag"][:12] == [""] * 12
    assert {float(gradient) for gradient in table["mean_gradient"][12:]} == {0.0}
    for flag, largest in zip(table["flag"][12:], table["sigma1"][12:], strict=True):
        assert flag.split(";")[0] == "constant"
        assert ("zero" in flag.split(";")) == (float(largest) == 0)
    assert (partly_constant / "report.html").is_file()


def test_slices_without_response_are_flagged_and_still_reported(partly_constant, tmp_path):
    """A bias far below zero closes every ReLU of the layer."""
    run = shutil.copytree(partly_constant, tmp_path / "run")
    model = load_model(run)
    with torch.no_grad():
        model.network.norm2.bias.fill_(-1e4)
    save_model(model, run)
    facts = parsed(call("features", run, "--json"))
    table = read_table(run / "slices.csv")
    assert table["flag"] == ["zero"] * 12 + ["constant;zero"] * 12
    assert {float(value) for value in table["sigma1"]} == {0.0}
    assert set(table["sigma2_over_sigma1"]) == set(table["energy1"]) == {""}
    assert facts["flagged_slices"] == 24
    assert np.all(tifffile.imread(run / "eigenfeatures" / "a.tif") == 0)
    assert call("report", run).code == 0


# --- how the command talks ----------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command):
    answer = call(command, "--help")
    assert answer.code == 0
    assert f"Example: eigenfeatures {command}" in " ".join(answer.output.split())
    assert "--json" in answer.output
    assert "--debug" in answer.output


def test_help_of_the_main_job_has_every_option():
    text = call("run", "--help").output
    promised = "preset operator split size roi augment normalise voxel-size iterations batch-size seed layer"
    further = "resolution device resume config out json debug learning-rate l2 early-stop rank"
    for name in f"{promised} {further}".split():
        assert re.search(rf"--{name}\b(?!-)", text), name
    for setting in quick_settings().__dataclass_fields__:
        assert f"--{setting.replace('_', '-')}" in text


def test_no_arguments_show_the_help():
    answer = call()
    assert (answer.code, answer.error) == (0, "")
    assert all(command in answer.output for command in COMMANDS)


@pytest.mark.parametrize("command", ["stats", "train", *ON_A_RUN, "phantom"])
def test_json_is_all_that_is_on_standard_output(command, stacks, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run") if command in ON_A_RUN else tmp_path / "run"
    arguments = {
        "stats": [stacks, "--out", run, *QUICK],
        "train": [stacks, "--out", run, *QUICK, "--iterations", "1"],
        "phantom": [run, "--slices", "2", "--size", "16"],
    }
    facts = parsed(call(command, *arguments.get(command, [run]), "--json"))
    assert isinstance(facts, dict)
    assert facts
    if "slices" in facts:
        assert facts["slices"] == (8 if command == "phantom" else 64)


def test_json_survives_a_terminal_without_greek(finished_run, tmp_path):
    """The names of a summary hold σ, which not every encoding knows."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    for option in ("--json", "--debug"):
        done = subprocess.run(
            [sys.executable, "-m", "eigenfeatures.export", "infer", run, option],
            env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        if option == "--json":
            assert json.loads(done.stdout)["slices"] == 64


def test_the_summary_table_has_the_results(finished_run, tmp_path):
    text = call("infer", shutil.copytree(finished_run, tmp_path / "run")).output
    accuracy = json.loads((finished_run / "metrics.json").read_text())["validation"]["accuracy"]
    assert re.search(rf"validation accuracy\W+{accuracy:.4g}\b", text)
    assert re.search(r"slices\W+64\b", text)


def test_a_run_that_nobody_watches_prints_notes_and_json_only(stacks, tmp_path, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    answer = call("run", stacks, "--out", tmp_path / "run", *QUICK, "--json")
    assert parsed(answer)["report"] == str(tmp_path / "run" / "report.html")
    assert "\x1b" not in answer.error + answer.output
    assert "\r" not in answer.error + answer.output
    notes = answer.error.splitlines()
    assert len(notes) == 4, answer.error
    assert notes[0] == "samples: ignored README.txt"
    assert re.fullmatch(r"training on '\w+' will need about [\d.]+ GiB of [\d.]+ GiB free", notes[1])
    assert re.fullmatch(r"model\.onnx agrees with torch to [\de.-]+ on 8 slices", notes[2])
    assert re.fullmatch(r"classifying on '\w+' with ONNX Runtime", notes[3])


def test_a_terminal_gets_a_progress_bar_with_the_time_left(tmp_path):
    """Standard error is a pseudo-terminal here, and what it shows comes out at the other end."""
    other_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "eigenfeatures.export", "phantom", tmp_path / "stacks", "--slices", "4"]
    process = subprocess.Popen(
        [*command, "--size", "32"],
        stderr=terminal,
        stdout=subprocess.DEVNULL,
        env={**ENVIRONMENT, "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(other_end, 4096):
            shown += piece
    except OSError:  # how Linux tells that the process closed its end
        pass
    os.close(other_end)
    assert process.wait() == 0
    assert re.search(rb"making the phantom.*/4.*left", shown, re.DOTALL)


def test_an_unexpected_failure_is_one_line_and_exit_code_1(stacks, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr(pipeline, "train_step", fail)
    answer = call("run", stacks, "--out", tmp_path / "run", *QUICK)
    assert_refused(answer, "error: the disk is on fire", code=1)


def test_debug_shows_the_traceback(stacks, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("on fire")

    monkeypatch.setattr(pipeline, "train_step", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        call("run", stacks, "--out", tmp_path / "run", *QUICK, "--debug")
    with pytest.raises(cli.InputError, match="no such folder"):
        call("run", tmp_path / "none", "--out", tmp_path / "out", "--debug")


def test_an_export_that_differs_from_torch_fails_and_leaves_the_old_model(
    finished_run, tmp_path, monkeypatch
):
    run = shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(onnx_model, "TOLERANCE", 0.0)
    answer = call("export", run)
    assert_refused(answer, "differs from torch by .* no file was written", code=1)
    assert (run / "model.onnx").read_bytes() == (finished_run / "model.onnx").read_bytes()
    assert [path.name for path in run.rglob(".*")] == []


def test_an_interrupt_is_one_line_and_exit_code_1(stacks, tmp_path, monkeypatch):
    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline, "train_step", interrupt)
    answer = call("run", stacks, "--out", tmp_path / "run", *QUICK)
    assert_refused(answer, "interrupted.*--resume", code=1)


def test_a_phantom_is_written_whole_or_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    assert_refused(call("phantom", tmp_path, "--slices", "2", "--size", "16"), "is not empty")
    assert_refused(call("phantom", tmp_path / "mine.txt" / "x", "--slices", "2"), "mine.txt is a file")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    facts = parsed(call("phantom", tmp_path / "stacks", "--slices", "3", "--size", "16", "--hard", "--json"))
    assert facts["slices"] == 12
    assert {p.name for p in Path(facts["samples"]).iterdir()} == {
        *(f"sample{k}" for k in range(1, 5)),
        "README.txt",
    }
    assert tifffile.imread(tmp_path / "stacks" / "sample2" / "slice_2.tif").shape == (16, 16)
