"""A job that is killed at any moment loses the blocks in flight, and ends with the same bytes."""

import multiprocessing
import random
import shutil
import signal
import time
from multiprocessing import forkserver

import numpy as np
import pytest
import tifffile
from commands import ENVIRONMENT, call, random_stack, spawn
from fake_engine import run_job
from folders import content

# Forked from a server that has imported all but started no threads: a process as new as by a command, in
# a fraction of the time.
PROCESSES = multiprocessing.get_context("forkserver")

# Of eight slices each.
BLOCKS = 20

# A block of one slice takes at least as long.
SECONDS = 0.005
OPTIONS = {"seconds": SECONDS, "batch": 1, "max_memory": "100GB"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "scan.tif"
    tifffile.imwrite(path, random_stack((160, 32, 32)), photometric="minisblack")
    return path


@pytest.fixture(scope="module", autouse=True)
def server():
    """The server of processes, which gets its paths from the environment alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        PROCESSES.set_forkserver_preload(["fake_engine"])
        forkserver.ensure_running()
        yield


def start(stack, out, **options):
    process = PROCESSES.Process(target=run_job, args=(stack, out), kwargs={**OPTIONS, **options})
    process.start()
    return process


def killed(process, out, blocks, seconds):
    """Kill a process some seconds after it has done so many blocks; tell whether it was still at work."""
    while process.is_alive() and blocks_done(out) < blocks:
        time.sleep(0.001)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def blocks_done(folder):
    """The lines of the journal, which goes when the job is finished, at any moment."""
    try:
        lines = (folder / "journal.txt").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return BLOCKS if (folder / "slices.csv").exists() else 0
    return sum(line.endswith("\n") for line in lines)


@pytest.mark.parametrize(
    ("form", "times"),
    [("zarr", 6), *(pytest.param(form, 20, marks=pytest.mark.slow) for form in ("zarr", "tiff"))],
)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(form, times, stack, tmp_path):
    whole = start(stack, tmp_path / "whole", format=form)
    whole.join()
    assert whole.exitcode == 0
    moments = random.Random(7)  # noqa: S311
    kills = jobs = in_midst = 0
    while kills < times:
        out, done = tmp_path / f"out{jobs}", 0
        jobs += 1
        while True:
            process = start(stack, out, format=form, resume=True)
            # A block takes 0.04 s, and what stands between start and first block some tenths.
            if not killed(process, out, done + moments.randrange(8), moments.uniform(0, 0.1)):
                break
            kills += 1
            now = blocks_done(out)
            assert now >= done, "what was done is never lost"
            files = [file for file in out.glob("blocks/*") if not file.name.startswith(".")]
            if not (out / "slices.csv").exists():
                assert len(files) - now in (0, 1), "a block is in the journal as soon as it is there"
            in_midst += done < now < BLOCKS
            done = now
        assert process.exitcode == 0
        assert content(out) == content(tmp_path / "whole")
    assert in_midst >= times // 4, "the kills must hit the work, not the start"


def test_a_job_with_another_stack_is_not_resumed(stack, tmp_path):
    """A negative control: the same bytes are no matter of course."""
    process = start(stack, tmp_path / "out")
    process.join()
    other = tmp_path / "scan.tif"
    images = random_stack((160, 32, 32))
    images[-1] = 0
    tifffile.imwrite(other, images, photometric="minisblack")
    process = start(other, tmp_path / "out", resume=True)
    process.join()
    assert process.exitcode == 1
    process = start(other, tmp_path / "other")
    process.join()
    assert content(tmp_path / "other").keys() == content(tmp_path / "out").keys()
    assert content(tmp_path / "other")["slices.csv"] != content(tmp_path / "out")["slices.csv"]


def test_a_trained_model_on_the_processor_ends_with_the_same_bytes_too(finished_run, tmp_path):
    """The command itself, killed while ONNX Runtime and the kernels are at work."""
    np.save(tmp_path / "scan.npy", random_stack((320, 40, 40)))
    job = ["infer", finished_run, tmp_path / "scan.npy", "--engine", "ort-cpu", "--batch-size", "1"]
    job += ["--max-memory", "100GB", "--out"]
    out = tmp_path / "out"
    for _ in range(20):  # the kill may come after the end
        shutil.rmtree(out, ignore_errors=True)
        process = spawn(*job, out)
        while process.poll() is None and not blocks_done(out):
            time.sleep(0.001)
        process.kill()
        _, error = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), error
        if not (out / "slices.csv").exists():
            break
    else:
        pytest.fail("no kill came before the end of a job")
    whole, resumed = call(*job, tmp_path / "whole"), call(*job, out, "--resume")
    assert (whole.code, resumed.code) == (0, 0), whole.error + resumed.error
    assert "of 40 blocks are done already" in resumed.error
    assert content(out) == content(tmp_path / "whole")
