"""Finished trainings are kept, a kill loses one at most, several at once train the same networks."""

import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from commands import ENVIRONMENT
from folders import content
from safetensors.numpy import load_file

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.trainings import train_runs, unfinished
from eigenfeatures.export.talk import Talk

LAYER, THREADS = "relu2", 2

# Trains as the command does; ends the process when a file is whole and about to take its place for the
# n-th time, n = 0 for never.
PROCESS = """
import os, pickle, signal, sys
from pathlib import Path
from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.talk import Talk
from eigenfeatures.export.study.trainings import train_runs

replace, left = Path.replace, int(sys.argv[1])

def replace_or_die(self, target):
    global left
    left -= target.name == "checkpoint.safetensors"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

if __name__ == "__main__":
    if left:
        Path.replace = replace_or_die
    train_runs(*pickle.load(sys.stdin.buffer), Talk(silent, lambda text: None))
"""


def start_process(times, *arguments):
    """Start `train_runs` in a process of its own, to be killed at the n-th checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(times)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    process.stdin.write(pickle.dumps(arguments))
    process.stdin.close()
    return process


def settings(seed, **changes):
    few = {"preset": "small", "iterations": 5, "batch_size": 16, "device": "cpu", "split_seed": 0}
    return Settings(**{**few, "seed": seed, **changes})


def trained(samples, folder, runs, jobs=1):
    """Train runs; return those that diverged, and what was said."""
    said = []
    return train_runs(samples, folder, runs, LAYER, jobs, THREADS, Talk(silent, said.append)), said


@pytest.fixture(scope="module")
def inputs(samples):
    return {file.name: sha256(file) for file in samples.glob("*.tif")}


@pytest.fixture(scope="module")
def two_runs():
    return {f"small-seed{seed}": settings(seed) for seed in (0, 1)}


@pytest.fixture(scope="module")
def one_by_one(samples, two_runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one by one") / "runs"
    assert trained(samples, folder, two_runs)[0] == {}
    return folder


def test_only_what_is_not_finished_is_left(one_by_one, two_runs, inputs, tmp_path):
    runs = {**two_runs, "small-seed2": settings(2)}
    assert unfinished(one_by_one, two_runs, inputs) == {}
    assert unfinished(one_by_one, runs, inputs) == {"small-seed2": runs["small-seed2"]}
    assert unfinished(tmp_path, runs, inputs) == runs
    shutil.copytree(one_by_one, tmp_path / "runs")
    (tmp_path / "runs" / "small-seed0" / "model.json").unlink()
    assert list(unfinished(tmp_path / "runs", runs, inputs)) == ["small-seed0", "small-seed2"]


def test_runs_of_other_settings_or_stacks_are_refused(one_by_one, two_runs, inputs):
    changed = {**two_runs, "small-seed1": settings(1, l2=0.2)}
    with pytest.raises(InputError, match=r"small-seed1 was made with l2 = 0\.1, and now it is 0\.2"):
        unfinished(one_by_one, changed, inputs)
    assert unfinished(one_by_one, {"small-seed0": two_runs["small-seed0"]}, inputs) == {}
    with pytest.raises(InputError, match=r"small-seed0 was made from other data \(sample2\.tif differs\)"):
        unfinished(one_by_one, two_runs, {**inputs, "sample2.tif": "0" * 64})


def test_seeds_train_different_networks_on_the_same_slices(one_by_one):
    first, second = (load_file(one_by_one / f"small-seed{seed}" / "model.safetensors") for seed in (0, 1))
    assert np.abs(first["conv1.weight"] - second["conv1.weight"]).max() > 0.1
    splits = [(one_by_one / f"small-seed{seed}" / "slices.csv").read_bytes() for seed in (0, 1)]
    assert splits[0] == splits[1]


def test_several_at_once_train_the_same_networks_and_tell_of_one_that_diverges(
    samples, one_by_one, two_runs, tmp_path
):
    runs = {"wild": settings(0, learning_rate=1e30), **two_runs}
    diverged, said = trained(samples, tmp_path, runs, jobs=2)
    assert list(diverged) == ["wild"]
    assert [line.partition(": ")[0] for line in said] == [f"training {k} of 3" for k in (1, 2, 3)]
    told = sorted(line.partition(": ")[2] for line in said)
    assert told[:2] == ["small-seed0 is done", "small-seed1 is done"]
    assert told[2].startswith("wild diverged: the training loss is no longer finite at iteration")
    for name in two_runs:
        assert content(tmp_path / name) == content(one_by_one / name)


def test_a_training_that_diverges_is_told_and_does_not_stop_the_others(samples, tmp_path):
    runs = {"wild": settings(0, learning_rate=1e30), "tame": settings(1)}
    diverged, said = trained(samples, tmp_path, runs)
    assert list(diverged) == ["wild"]
    assert said[0] == f"training 1 of 2: wild diverged: {diverged['wild']}"
    assert said[1] == "training 2 of 2: tame is done"
    assert not (tmp_path / "wild" / "model.json").exists()
    assert (tmp_path / "tame" / "model.json").exists()


def test_another_mistake_stops_all(samples, tmp_path):
    runs = {"far": settings(0, layer="relu9"), "near": settings(1)}
    with pytest.raises(InputError, match="layer 'relu9' is not in the network"):
        trained(samples, tmp_path, runs)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_loses_only_the_training_under_way(finished, tmp_path):
    """Killed as the second of two trainings writes its second checkpoint; the first is then kept as it is."""
    runs = {
        name: RunFolder.open(finished.folder / "runs" / name).settings
        for name in ("small-seed0", "small-seed1")
    }
    process = start_process(5, finished.samples, tmp_path, runs, LAYER, 1, THREADS)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    done, under_way = (tmp_path / name for name in runs)
    assert (under_way / "checkpoint.safetensors").exists()
    assert not (under_way / "model.json").exists()
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in done.rglob("*") if path.is_file()}
    left = unfinished(tmp_path, runs, RunFolder.open(done).inputs)
    assert list(left) == ["small-seed1"]
    trained(finished.samples, tmp_path, left)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == kept
    for name in runs:
        whole = finished.folder / "runs" / name
        assert content(tmp_path / name) == content(whole), "as if it had never been stopped"


def test_a_kill_ends_the_trainings_in_other_processes(samples, tmp_path):
    """Otherwise they would write beside those of a study that goes on."""
    runs = {f"small-seed{seed}": settings(seed, iterations=100_000) for seed in (0, 1)}
    process = start_process(0, samples, tmp_path, runs, LAYER, 2, 1)
    deadline = time.monotonic() + 120
    while not all((tmp_path / name / "checkpoint.safetensors").exists() for name in runs):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(others, timeout=30)
    assert alive == []
