"""How the command talks: help, tables, JSON, progress, flags and failures."""

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
from commands import COMMANDS, ENVIRONMENT, ON_A_RUN, QUICK, assert_refused, call, parsed, random_stack
from conftest import quick_settings

from eigenfeatures.eigen.model_file import load_model, save_model
from eigenfeatures.export import agreement, cli, pipeline, precision
from eigenfeatures.export.remarks import remarks
from eigenfeatures.export.tables import read_table


@pytest.fixture(scope="module")
def partly_constant(tmp_path_factory):
    """A run on two samples, of which the second is one grey value throughout."""
    root = tmp_path_factory.mktemp("constant")
    (root / "samples").mkdir()
    tifffile.imwrite(root / "samples" / "a.tif", random_stack())
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
    # How much a network learns in so few iterations depends on the processor.
    of_accuracy = remarks(json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8")))
    notes = [line for line in answer.error.splitlines() if line not in of_accuracy]
    assert len(notes) == 4, answer.error
    assert notes[0] == "samples: ignored README.txt"
    assert re.fullmatch(r"training on '\w+' will need about [\d.]+ GiB of [\d.]+ GiB free", notes[1])
    assert re.fullmatch(r"model\.onnx agrees with torch to [\de.-]+ on 8 slices", notes[2])
    assert re.fullmatch(r"classifying on 'ort-\w+' \(.+\)", notes[3])


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
    monkeypatch.setattr(agreement, "TOLERANCE", 0.0)
    answer = call("export", run)
    assert_refused(answer, "differs from torch by .* no file was written", code=1)
    assert (run / "model.onnx").read_bytes() == (finished_run / "model.onnx").read_bytes()
    assert [path.name for path in run.rglob(".*")] == []


def test_export_makes_the_graph_that_was_asked_for_and_model_info_reads_it(finished_run, tmp_path):
    out = tmp_path / "made" / "features.onnx"
    options = ("--outputs", "relu1, eigenfeatures", "--layer", "relu1", "--rank", "1", "--any-size")
    facts = parsed(call("export", finished_run, *options, "--out", out, "--json"))
    assert facts["model"] == str(out)
    assert facts["slices_compared"] == 8
    assert 0 < facts["largest_difference_of_eigenfeatures"] <= 1e-4
    info = parsed(call("model-info", out, "--json"))
    assert info["outputs"] == ["relu1", "eigenfeatures"]
    assert (info["layer"], info["rank"], info["any_size"]) == ("relu1", 1, True)
    assert list(info["arrays"]) == ["relu1", "eigenfeatures"]
    text = call("model-info", out).output
    assert re.search(r"layer\W+relu1\b", text)
    assert re.search(r"outputs\W+relu1, eigenfeatures\b", text)
    assert info["weights_sha256"] in "".join(re.split(r"\W+", text)), "folded, not cut"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "scan.tif", "folder"])
def test_an_export_takes_the_place_of_no_other_kind_of_file(finished_run, tmp_path, name):
    (tmp_path / "folder").mkdir()
    run = shutil.copytree(finished_run, tmp_path / "run")
    out = tmp_path / "folder" if name == "folder" else run / name
    before = out.read_bytes() if out.is_file() else None
    reason = "is a folder; name the file" if name == "folder" else "name ends with .onnx"
    assert_refused(call("export", run, "--out", out), reason)
    assert (out.read_bytes() if out.is_file() else None) == before


def test_an_export_is_not_computed_where_its_file_can_not_be_made(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "export_step", lambda *_, **__: pytest.fail("computed all the same"))
    (tmp_path / "file").touch()
    refused = call("export", finished_run, "--out", tmp_path / "file" / "new" / "m.onnx")
    assert_refused(refused, "file: Not a directory; check the path", code=1)
    with pytest.raises(pytest.fail.Exception):
        call("export", finished_run, "--out", tmp_path / "new" / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--outputs", "eigenfaces"), "output 'eigenfaces' is unknown; choose among probabilities"),
        (("--outputs", "gap,probabilities", "--any-size"), "'probabilities' needs slices of the size"),
        (("--resolution", "fine"), "resolution 'fine' is unknown"),
        (("--rank", "0"), "--rank is 0; give at least 1"),
        (
            ("--outputs", "gap", "--resolution", "dense", "--any-size"),
            "give --resolution pooled with --any-size",
        ),
    ],
)
def test_an_export_that_can_not_be_had_is_refused(finished_run, tmp_path, options, reason):
    assert_refused(call("export", finished_run, *options, "--out", tmp_path / "m.onnx"), reason)
    assert not list(tmp_path.iterdir())


def test_model_info_refuses_what_is_no_model_of_ours(finished_run, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((finished_run / "model.onnx").read_bytes()[:5000])
    assert_refused(call("model-info", broken), r"broken\.onnx is not an ONNX file")
    assert_refused(call("model-info", tmp_path / "none.onnx"), r"none\.onnx is missing")
    assert_refused(call("model-info", finished_run), "is a folder; give an .onnx file, such as .*model.onnx")


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
