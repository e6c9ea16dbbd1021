"""A run that was killed or interrupted goes on to the very result of one that was not."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from commands import ENVIRONMENT, QUICK, call, spawn
from folders import assert_same_files
from run_oracles import RESULTS

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.run_folder import check_empty, check_vacant

# Checkpoints are written at iterations 5, 10 and 12.
OPTIONS = (*QUICK, "--iterations", "12")

# Ends the process when a file is whole and about to take its place for the n-th time.
KILLED = """
import os, signal, sys
from pathlib import Path
from eigenfeatures.export.cli import main

replace, (name, times, *arguments) = Path.replace, sys.argv[1:]
left = int(times)

def replace_or_die(self, target):
    global left
    left -= target.name == name
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = replace_or_die
sys.argv[1:] = arguments
main()
"""


def test_a_kill_before_the_record_is_there_bars_no_folder(tmp_path):
    (tmp_path / ".run.0123abcd.toml").write_bytes(b"half")
    check_vacant(tmp_path, False)
    check_empty(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        check_vacant(tmp_path, False)


def hidden(run):
    return [path.name for path in run.rglob(".*")]


def assert_equal_runs(run, other):
    names = {path.relative_to(run) for path in run.rglob("*")}
    assert names == {path.relative_to(other) for path in other.rglob("*")}
    assert_same_files(run, other, [*RESULTS, *(f"eigenfeatures/sample{k}.tif" for k in (1, 2, 3, 4))])


@pytest.fixture(scope="module")
def unbroken(stacks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    answer = call("run", stacks, "--out", folder, *OPTIONS)
    assert answer.code == 0, answer.error
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "times", "there", "missing"),
    [
        ("train", "checkpoint.safetensors", 2, "checkpoint.safetensors", "model.json"),
        ("run", "sample2.tif", 1, "eigenfeatures/sample1.tif", "report.html"),
    ],
)
def test_a_killed_run_is_resumed(command, name, times, there, missing, unbroken, stacks, tmp_path):
    """In the midst of training, and of the eigenfeatures."""
    run = tmp_path / "run"
    arguments = [command, stacks, "--out", run, *OPTIONS]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, name, str(times), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [file.startswith(f".{Path(name).stem}.") for file in hidden(run)] == [True]
    assert (run / there).exists()
    assert not (run / missing).exists()
    answer = call(*arguments)
    assert (answer.code, "add --resume" in answer.error) == (2, True)
    answer = call(*arguments, "--resume")
    assert answer.code == 0, answer.error
    assert hidden(run) == []
    if command == "run":
        assert_equal_runs(run, unbroken)
    assert_same_files(run, unbroken, ["training.csv", "model.json", "model.safetensors"])


def test_ctrl_c_is_one_line_and_the_run_is_resumed(unbroken, stacks, tmp_path):
    run = tmp_path / "run"
    process = spawn("run", stacks, "--out", run, *OPTIONS)
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert error.splitlines()[-1] == "error: interrupted; 'run' continues with --resume"
    assert "Traceback" not in error
    assert hidden(run) == []
    answer = call("run", stacks, "--out", run, *OPTIONS, "--resume")
    assert answer.code == 0, answer.error
    assert_equal_runs(run, unbroken)


@pytest.mark.parametrize(
    ("place", "arguments", "text"),
    [
        ("steps.start", ["train", "stacks", "--out", "run"], "interrupted; 'train' continues with --resume"),
        (
            "study.study.run_study",
            ["study", "stacks", "--out", "s"],
            "interrupted; 'study' continues with --resume",
        ),
        ("steps.measure", ["stats", "stacks", "--out", "run"], "interrupted"),
        ("infer_command._infer_own", ["infer", "run"], "interrupted"),
    ],
)
def test_ctrl_c_names_resume_where_there_is_one(place, arguments, text):
    with mock.patch(f"eigenfeatures.export.{place}", side_effect=KeyboardInterrupt):
        answer = call(*arguments)
    assert (answer.code, answer.error.splitlines()[-1]) == (1, f"error: {text}")


def _interrupting(name):
    """`Path.replace`, interrupted the first time that a file is about to get this name."""
    replace, names = Path.replace, [name]

    def replace_or_stop(self, target):
        if target.name in names:
            names.clear()
            raise KeyboardInterrupt
        return replace(self, target)

    return mock.patch.object(Path, "replace", replace_or_stop)


@pytest.mark.slow
def test_a_run_is_resumed_from_between_any_two_files(finished_run, stacks, tmp_path):
    """Interrupted again and again, each time at the next file; what is there is not made anew."""
    run, resume = tmp_path / "run", []
    for name in ("slices.csv", "model.json", "metrics.json", "report.html"):
        with _interrupting(name):
            answer = call("run", stacks, "--out", run, *QUICK, *resume)
        assert answer.code == 1
        assert not (run / name).exists()
        assert hidden(run) == []
        resume = ["--resume"]
    # As if a kill had come between saving the model and removing the checkpoint.
    shutil.copy(run / "model.safetensors", run / "checkpoint.safetensors")
    kept = ("slices.csv", "model.safetensors", "model.onnx", "metrics.json")
    changed = {name: (run / name).stat().st_mtime_ns for name in kept}
    answer = call("run", stacks, "--out", run, *QUICK, *resume)
    assert answer.code == 0, answer.error
    assert_equal_runs(run, finished_run)
    assert {name: (run / name).stat().st_mtime_ns for name in kept} == changed
