"""Jobs on real clusters of Dask, whose workers are processes of their own."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import dask
import numpy as np
import psutil
import pytest
import tifffile
from commands import call, random_stack, spawn
from distributed import Future, LocalCluster
from fake_engine import computing, hold, run_job
from folders import content

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch import cluster as clusters
from eigenfeatures.export.batch import worker
from eigenfeatures.export.batch.plan import WORKER_BLOCKS
from eigenfeatures.export.talk import Talk

# Blocks of 8 slices.
OPTIONS = {"batch": 1, "max_memory": "100GB", "threads": 1}
SLICES = 160

# A slice in the midst of the stack.
HELD = 83

# Of two workers: those in hand, and for each another one.
TASKS = 2 * (WORKER_BLOCKS + 1)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A line for each opening, call and closing of an engine in a worker."""
    path = tmp_path_factory.mktemp("log") / "calls"
    path.touch()
    return path


@pytest.fixture(scope="module")
def cluster(log):
    """Two workers with an engine of NumPy that takes 0.01 s a slice."""
    with (
        dask.config.set({"distributed.nanny.environ.FAKE_ENGINE_LOG": str(log)}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=WORKER_BLOCKS,
            dashboard_address=":0",
            preload=["fake_engine"],
            silence_logs=50,
        ) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "scan.tif"
    tifffile.imwrite(path, random_stack((SLICES, 32, 32)), photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def alone(stack, tmp_path_factory):
    """The same job without a cluster."""
    out = tmp_path_factory.mktemp("alone") / "out"
    run_job(stack, out, **OPTIONS)
    return content(out)


def noted(log, start=0):
    """The lines of the log as pairs: which process, and what it did."""
    lines = (line.partition(" ") for line in log.read_text().splitlines()[start:])
    return [(int(process), event) for process, _, event in lines]


def blocks_done(out):
    journal = out / "journal.txt"
    lines = journal.read_text().splitlines(keepends=True) if journal.is_file() else []
    return {int(line.split()[0]) for line in lines if line.endswith("\n")}


def when_blocks_are_done(out, blocks, action):
    """Start a thread that acts once the journal has so many lines."""

    def watch():
        while len(blocks_done(out)) < blocks:
            time.sleep(0.002)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_the_bytes_are_those_of_one_process_and_each_worker_opens_the_model_once(
    cluster, stack, alone, log, tmp_path
):
    before = len(noted(log))
    facts = run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    assert content(tmp_path / "out") == alone
    assert facts["slices"] == SLICES
    assert set(facts["seconds"]) == {"read", "prepare", "infer", "write", "finish"}
    events = noted(log, before)
    at_work = {process for process, event in events if event.startswith("computes")}
    for what in ("opens", "closes"):
        assert Counter(process for process, event in events if event == what) == dict.fromkeys(at_work, 1)


def test_another_stack_gives_other_bytes(cluster, alone, tmp_path):
    """A negative control."""
    images = random_stack((SLICES, 32, 32))
    images[-1] = 0
    tifffile.imwrite(tmp_path / "scan.tif", images, photometric="minisblack")
    run_job(tmp_path / "scan.tif", tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    found = content(tmp_path / "out")
    assert found.keys() == alone.keys()
    assert found["slices.csv"] != alone["slices.csv"]


@pytest.fixture
def held(stack, log):
    """What a worker waits in until the test lets it: the work on a slice in the midst of the stack."""
    event = computing(tifffile.imread(stack)[HELD : HELD + 1])
    hold(log).write_text(event)
    yield event
    hold(log).unlink(missing_ok=True)


def test_a_killed_command_leaves_no_model_in_the_workers_and_the_job_goes_on(
    cluster, stack, alone, log, held, tmp_path
):
    """Scheduler and workers live on, and it can't close its job there."""
    before, out = len(noted(log)), tmp_path / "out"
    (tmp_path / "m.onnx").touch()
    options = ["--threads", "1", "--batch-size", "1", "--max-memory", "100GB"]
    command = ["infer", tmp_path / "m.onnx", stack, "--out", out, *options, "--cluster"]
    process = spawn(*command, cluster.scheduler_address)
    while process.poll() is None and (
        len(blocks_done(out)) < 3 or held not in dict(noted(log, before)).values()
    ):
        time.sleep(0.002)
    process.kill()
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error
    assert 3 <= len(blocks_done(out)) < SLICES // 8
    hold(log).unlink()
    answer = call(*command, cluster.scheduler_address, "--resume")
    assert answer.code == 0, answer.error
    assert content(out) == alone
    events = [pair for pair in noted(log, before) if pair[1] in ("opens", "closes")]
    for worker_process in dict(events):
        own = [event for process, event in events if process == worker_process]
        assert own == ["opens", "closes"] * (len(own) // 2), "one model at a time, and none is left"


def test_a_killed_worker_costs_its_blocks_in_flight(cluster, stack, alone, log, held, tmp_path):
    """Those of the other worker are done once, and of its own at most what it had in hand or just ended."""
    before, out = len(noted(log)), tmp_path / "out"
    victims, heard, written = [], set(), set()
    # But for the first, which the survey runs too.
    slices = {computing(image[np.newaxis]): k for k, image in enumerate(tifffile.imread(stack)) if k}

    def kill():
        # Both at work: the other one does what this one, held, does not.
        at_work = {}
        while held not in at_work.values() or len(at_work) < 2:
            time.sleep(0.002)
            at_work = dict(pair for pair in noted(log, before) if pair[1] in slices)
        victims.extend(process for process, event in at_work.items() if event == held)
        heard.update(blocks_done(out))
        os.kill(victims[0], signal.SIGKILL)
        while psutil.pid_exists(victims[0]):
            time.sleep(0.002)
        written.update(int(file.stem) for file in out.glob("blocks/[0-9]*.npz"))
        hold(log).unlink()

    killing = when_blocks_are_done(out, 5, kill)
    run_job(stack, out, cluster=cluster.scheduler_address, **OPTIONS)
    killing.join()
    assert content(out) == alone
    calls = [(process, slices[event]) for process, event in noted(log, before) if event in slices]
    of_others = Counter(number for process, number in calls if process != victims[0])
    assert set(of_others.values()) == {1}
    again = {number // 8 for process, number in calls if process == victims[0] and number in of_others}
    assert HELD // 8 in again
    assert len(again) <= WORKER_BLOCKS + len(written - heard)


def test_a_job_begins_once_those_of_lost_commands_are_closed():
    async def scenario():
        told, may_close = [], asyncio.Event()

        async def close(_, name):
            told.append(f"{name} closes")
            await may_close.wait()
            told.append(f"{name} is closed")

        plugins = {name: clusters.Watch(f"client of {name}", name) for name in ("lost", "at work")}
        scheduler = SimpleNamespace(
            plugins=plugins,
            worker_plugins=set(plugins),
            unregister_worker_plugin=close,
            remove_plugin=plugins.pop,
        )
        for watch in list(plugins.values()):
            watch.remove_client(scheduler, "client of lost")
        beginning = asyncio.create_task(clusters.Watch("client", "new").start(scheduler))
        beginning.add_done_callback(lambda _: told.append("new begins"))
        for _ in range(10):  # turns, in which all that doesn't wait would end
            await asyncio.sleep(0)
        may_close.set()
        await beginning
        await asyncio.sleep(0)
        assert told == ["lost closes", "lost is closed", "new begins"]
        assert set(plugins) == {"at work"}

    asyncio.run(scenario())


def test_cores_are_counted_where_a_system_tells_none_of_a_process(monkeypatch):
    """As macOS."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert clusters._describe_worker()[1] == os.cpu_count()


def test_ctrl_c_stops_and_the_job_goes_on_anywhere(cluster, stack, alone, tmp_path):
    interrupting = when_blocks_are_done(tmp_path / "out", 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(InterruptedError, match="continues with --resume"):
        run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    interrupting.join()
    done = (tmp_path / "out" / "journal.txt").read_text().splitlines()
    assert 4 <= len(done) < 20
    interrupting = when_blocks_are_done(
        tmp_path / "out", len(done) + 2, lambda: os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(InterruptedError):
        run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, resume=True, **OPTIONS)
    interrupting.join()
    with pytest.raises(InputError, match="with threads = 1, and now it is 2"):
        run_job(stack, tmp_path / "out", resume=True, **{**OPTIONS, "threads": 2})
    run_job(stack, tmp_path / "out", resume=True, **OPTIONS)
    assert content(tmp_path / "out") == alone


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_while_a_future_is_deleted_stops_too(cluster, stack, tmp_path, monkeypatch):
    """Python drops an exception there; a job of many blocks deletes many."""
    release, deleted = Future.release, 0

    def interrupted(future):
        nonlocal deleted
        if sys._getframe(1).f_code.co_name == "__del__":
            deleted += 1
            if deleted == 3:
                signal.raise_signal(signal.SIGINT)
        release(future)

    monkeypatch.setattr(Future, "release", interrupted)
    with pytest.raises(InterruptedError, match="continues with --resume"):
        run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    assert (tmp_path / "out" / "journal.txt").read_text().count("\n") < 20


def test_few_tasks_exist_at_once_and_their_names_can_be_read(cluster, stack, tmp_path, monkeypatch):
    names, most = set(), 0

    def track(items, *_):
        nonlocal most
        for item in items:
            tasks = list(cluster.scheduler.tasks.values())
            most = max(most, len(tasks))
            names.update(task.prefix.name for task in tasks)
            yield item

    monkeypatch.setattr("fake_engine.QUIET", Talk(track, lambda _: None))
    run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    assert names == {"infer-scan-block"}
    # And one whose result is in hand.
    assert 2 <= most <= TASKS + 1


def test_a_worker_that_sees_other_files_is_refused(cluster, stack, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "fingerprint", lambda _: "0" * 64)
    with pytest.raises(InputError, match=r"the worker on .* sees another model or other stacks"):
        run_job(stack, tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "versions", lambda: {"onnxruntime": "0.1"})
        with pytest.raises(InputError, match=r"the worker on .* has .*install the same versions"):
            run_job(stack, tmp_path / "other", cluster=cluster.scheduler_address, **OPTIONS)


def test_a_mistake_found_by_a_worker_is_told_as_any(cluster, tmp_path):
    with pytest.raises(InputError, match=r"none\.tif"):
        run_job(tmp_path / "none.tif", tmp_path / "out", cluster=cluster.scheduler_address, **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_local_workers_from_the_command_line(finished_run, tmp_path):
    """Ctrl-C reaches the workers too, as it does in a terminal; then the job goes on to the same bytes."""
    stack = tmp_path / "scan.tif"
    tifffile.imwrite(stack, random_stack((600, 40, 40)), photometric="minisblack")
    options = ["--threads", "1", "--batch-size", "1", "--max-memory", "100GB"]
    assert call("infer", finished_run, stack, "--out", tmp_path / "alone", *options).code == 0
    options += ["--out", tmp_path / "out", "--resume", "--cluster"]
    process = spawn("infer", finished_run, stack, *options, "local:2", start_new_session=True)
    when_blocks_are_done(tmp_path / "out", 1, lambda: os.killpg(process.pid, signal.SIGINT)).join()
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert error.splitlines()[-1] == "error: interrupted; 'infer' continues with --resume"
    assert "Traceback" not in error
    # Python's tracker of shared resources ends just after the command.
    _, left = psutil.wait_procs([p for p in psutil.process_iter() if _group(p) == process.pid], timeout=10)
    assert not left, "no worker is left"
    answer = call("infer", finished_run, stack, *options, "local:1")
    assert answer.code == 0, answer.error
    assert "1 worker, each computing with 1 thread\n" in answer.error
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def _group(process):
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None
