"""Folders of runs are made, continued, refused and left alone as they should be."""

import errno
import re
import shutil
from contextlib import contextmanager

import pytest
import tifffile
from commands import ON_A_RUN, QUICK, assert_refused, call, with_layer
from folders import content

from eigenfeatures.eigen.phantom import make_phantom
from eigenfeatures.export import pipeline, steps
from eigenfeatures.export.run_lock import alone_in
from eigenfeatures.export.system_errors import in_words


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


def test_a_folder_that_holds_another_run_is_left_alone(stacks, finished_run):
    before = content(finished_run)
    for command in ("run", "train", "stats"):
        answer = call(command, stacks, "--out", finished_run, *QUICK)
        assert_refused(answer, "holds another run.*choose another folder for --out")
    assert content(finished_run) == before


@pytest.mark.parametrize("command", ["run", "demo", "infer"])
def test_a_folder_that_holds_other_files_is_left_alone(command, stacks, finished_run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = {"run": ["run", stacks, *QUICK], "demo": ["demo"], "infer": ["infer", finished_run, stacks]}
    answer = call(*arguments[command], "--out", tmp_path)
    assert_refused(answer, f"{tmp_path.name} is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_demo_leaves_another_run_alone(finished_run):
    before = content(finished_run)
    assert_refused(call("demo", "--out", finished_run), "is not empty")
    assert content(finished_run) == before


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
    assert not (tmp_path / "none").exists()
    assert_refused(call(command, stacks), "samples is not the folder of a run")
    (tmp_path / "run.toml").write_text('title = "my own"')
    assert_refused(call(command, tmp_path), r"run\.toml is not the record of a run")
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_run_without_a_model_is_refused(command, measured):
    before = content(measured)
    assert_refused(call(command, measured), r"model\.json is missing; train")
    assert content(measured) == before


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
    before = content(finished_run)
    assert_refused(call(command, finished_run, *option), reason)
    assert content(finished_run) == before


def test_only_the_same_run_is_resumed(stacks, trained, tmp_path):
    before = content(trained)
    answer = call("run", stacks, "--out", trained, *QUICK, "--seed", "1", "--resume")
    assert_refused(answer, "made with seed = 0, and now it is 1")
    changed = shutil.copytree(stacks, tmp_path / "samples")
    images = tifffile.imread(changed / "sample2.tif")
    images[3, 4, 5] ^= 1
    tifffile.imwrite(changed / "sample2.tif", images, imagej=True)
    answer = call("run", changed, "--out", trained, *QUICK, "--resume")
    assert_refused(answer, r"made from other data \(sample2\.tif differs\)")
    assert content(trained) == before


def test_a_run_whose_features_were_changed_is_resumed_as_it_is_now(stacks, finished_run):
    before = content(finished_run)
    answer = call("train", stacks, "--out", finished_run, *QUICK, "--layer", "relu1", "--resume")
    assert_refused(answer, r"features of layer = relu2, and now .* relu1; .* features \S+ --layer relu1'$")
    assert content(finished_run) == before


def test_a_folder_in_which_a_run_is_at_work_is_refused(stacks, tmp_path):
    with alone_in(tmp_path / "run"):
        answer = call("train", stacks, "--out", tmp_path / "run", *QUICK, "--iterations", "1")
    assert_refused(answer, "belongs to a run that is at work")
    assert list((tmp_path / "run").iterdir()) == []
    assert call("train", stacks, "--out", tmp_path / "run", *QUICK, "--iterations", "1").code == 0


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_step_waits_for_no_other_in_the_same_run(finished_run, command):
    before = content(finished_run)
    with alone_in(finished_run):
        assert_refused(call(command, finished_run), "belongs to a run that is at work; wait for its end")
    assert content(finished_run) == before


def test_settings_are_those_that_another_step_left_just_before(finished_run, tmp_path, monkeypatch):
    """Another `features` ends after this one was called and before it has the lock."""
    run = with_layer(finished_run, tmp_path / "run", "relu2")

    @contextmanager
    def outrun(folder):
        text = (folder / "run.toml").read_text(encoding="utf-8")
        (folder / "run.toml").write_text(text.replace('layer = "relu2"', 'layer = "relu1"'), encoding="utf-8")
        with alone_in(folder):
            yield

    monkeypatch.setattr(steps, "alone_in", outrun)
    answer = call("features", run)
    assert answer.code == 0, answer.error
    assert pipeline.RunFolder.open(run).settings.layer == "relu1"
    assert "still have" not in answer.error, "nothing is outdated by this step"


def test_a_run_that_another_one_outran_is_refused(stacks, trained, tmp_path, monkeypatch):
    """Both found the folder empty; the other one was done before this one had read all slices."""
    out, hashed = tmp_path / "run", steps.hash_inputs

    def slowly(*given):
        shutil.copytree(trained, out)
        return hashed(*given)

    monkeypatch.setattr(steps, "hash_inputs", slowly)
    assert_refused(call("train", stacks, "--out", out, *QUICK), "holds another run; add --resume")
    assert content(out) == content(trained)


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_folder_that_the_system_refuses_is_told_with_a_remedy(place, stacks):
    answer = call("train", stacks, "--out", f"{place}/x", *QUICK, "--iterations", "1")
    assert answer.code in (1, 2)
    assert re.search(
        rf"^error: {place}.*(choose another folder|check the path and its permissions)", answer.error, re.M
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk of --out: no space is left; free some"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b.tif"), "a/b.tif: no space is left; free some"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space is left; free some"),
        (OSError("1000 requested and 300 written"), "no space is left; free some"),
        (
            OSError(errno.EROFS, "Read-only file system", "a/.run.e3feca6d.toml"),
            "^a: Read-only file system; ch",
        ),
        (ValueError("else"), "^else$"),
    ],
)
def test_errors_of_the_system_are_told_with_place_and_remedy(error, text):
    assert re.search(text, in_words(error))


def test_a_run_is_not_compared_with_itself(finished_run):
    before = content(finished_run)
    assert_refused(call("report", finished_run, "--compare", finished_run), "is the run itself")
    assert content(finished_run) == before


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
    before = content(run)
    assert_refused(call(command, run), r"sample2\.tif differs")
    shutil.rmtree(moved)
    assert_refused(
        call(command, run), r"from .*samples, and there is no such .* set 'samples' in .*run\.toml"
    )
    assert content(run) == before


def test_samples_and_out_go_together(stacks, finished_run, tmp_path):
    assert_refused(call("infer", finished_run, stacks), "STACKS and --out go together")
    assert_refused(call("infer", finished_run, "--out", tmp_path / "out"), "STACKS and --out go together")
    assert not (tmp_path / "out").exists()


def test_runs_on_other_samples_are_not_compared(finished_run, tmp_path):
    make_phantom(tmp_path / "samples", slices=16, size=40, seed=9, layout="stacks")
    assert (
        call("train", tmp_path / "samples", "--out", tmp_path / "run", *QUICK, "--iterations", "1").code == 0
    )
    before = content(finished_run)
    answer = call("report", finished_run, "--compare", tmp_path / "run")
    assert_refused(answer, "run is a run on other samples")
    assert_refused(call("report", finished_run, "--compare", tmp_path), "not the folder of a run")
    assert content(finished_run) == before
