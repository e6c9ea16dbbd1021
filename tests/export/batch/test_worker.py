"""A worker in this process: its blocks overlap, are few at once, and none is left behind by an error."""

import asyncio
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import tifffile
from commands import random_stack
from distributed import LocalCluster, Reschedule
from fake_engine import QUIET, FakeEngine
from folders import content

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.batch import opening, tasks, worker
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import WORKER_BLOCKS
from eigenfeatures.export.batch.to_folder import infer_to_folder
from eigenfeatures.export.talk import Talk

# Of 8 slices each.
BLOCKS = 12
OPTIONS = {"batch": 1, "max_memory": "100GB", "threads": 1}

# What a worker calls in each stage.
STAGES = {"read": "read_part", "prepare": "prepare_part", "infer": "infer_part", "write": "write_block"}

# For what must happen; a test that passes doesn't wait for it.
PATIENCE = 60


class Events:
    """How often each stage has begun and ended, for those who wait until one has."""

    def __init__(self):
        self._counts, self._change = {}, threading.Condition()

    def add(self, event):
        with self._change:
            self._counts[event] = self._counts.get(event, 0) + 1
            self._change.notify_all()
            return self._counts[event]

    def count(self, event):
        with self._change:
            return self._counts.get(event, 0)

    def wait(self, event, count, seconds=PATIENCE):
        with self._change:
            return self._change.wait_for(lambda: self._counts.get(event, 0) >= count, seconds)


@pytest.fixture
def events(monkeypatch):
    """Those of all blocks that workers in this process do."""
    events = Events()
    for stage in STAGES:
        within(monkeypatch, stage, lambda stage=stage: events.add(f"{stage} begins"), lambda: None)
    return events


def within(monkeypatch, stage, before, after):
    """Do something more in a stage, in its thread."""
    inner = getattr(worker, STAGES[stage])

    def outer(*given):
        before()
        result = inner(*given)
        after()
        return result

    monkeypatch.setattr(worker, STAGES[stage], outer)


@contextmanager
def cluster(threads):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=threads,
        processes=False,
        protocol="tcp://",
        dashboard_address=":0",
        silence_logs=50,
    ) as started:
        yield started.scheduler_address


@pytest.fixture(scope="module")
def address():
    """A worker of as many threads as it may have blocks in hand."""
    with cluster(WORKER_BLOCKS) as address:
        yield address


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "scan.tif"
    tifffile.imwrite(path, random_stack((BLOCKS * 8, 32, 32)), photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def alone(stack, tmp_path_factory):
    """The same job without a cluster."""
    out = tmp_path_factory.mktemp("alone") / "out"
    run(stack, out)
    return content(out)


def run(stack, out, engine=None, talk=QUIET, **options):
    with mock.patch.object(opening, "open_engine", return_value=engine or FakeEngine()):
        return infer_to_folder(Path("fake"), [stack], out, Options(**{**OPTIONS, **options}), talk)


def test_a_block_is_inferred_while_one_is_read_and_one_is_written(
    address, stack, alone, events, tmp_path, monkeypatch
):
    """Each stage waits for the one before to have the next block: in turn, they would wait for ever."""

    def wait_for(stage, count):
        assert events.wait(f"{stage} begins", min(count, BLOCKS)), f"no block is in '{stage}' meanwhile"

    for stage, before in (("infer", "read"), ("write", "infer")):
        within(
            monkeypatch,
            stage,
            lambda: None,
            lambda stage=stage, before=before: wait_for(before, events.count(f"{stage} begins") + 1),
        )
    facts = run(stack, tmp_path / "out", cluster=address)
    assert content(tmp_path / "out") == alone
    assert set(facts["seconds"]) == {*STAGES, "finish"}


@pytest.mark.parametrize("threads", [1, 8])
def test_few_blocks_are_in_hand_whatever_the_threads(threads, stack, alone, events, tmp_path, monkeypatch):
    most = min(threads, WORKER_BLOCKS)
    in_hand = []

    def look():
        # Would begin at once, since no other stage waits.
        events.wait("read begins", events.count("write ends") + most + 1, 0.1)
        in_hand.append(events.count("read begins") - events.count("write ends"))

    within(monkeypatch, "infer", look, lambda: None)
    within(monkeypatch, "write", lambda: None, lambda: events.add("write ends"))
    with cluster(threads) as address:
        run(stack, tmp_path / "out", cluster=address)
    assert max(in_hand) == most
    assert content(tmp_path / "out") == alone


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_a_stage_is_told_and_the_job_goes_on_there(
    stage, address, stack, alone, events, tmp_path, monkeypatch
):
    def fail():
        if events.count(f"{stage} begins") > 3:
            raise InputError(f"{stage} breaks")

    with monkeypatch.context() as patch:
        within(patch, stage, fail, lambda: None)
        with pytest.raises(InputError, match=f"{stage} breaks"):
            run(stack, tmp_path / "out", cluster=address)
    run(stack, tmp_path / "out", cluster=address, resume=True)
    assert content(tmp_path / "out") == alone


def test_the_engine_is_closed_when_no_stage_has_a_block(address, stack, alone, events, tmp_path, monkeypatch):
    """Ctrl-C comes while a block is inferred, which goes on until the worker closes the job."""
    close, engine, blocks_at_close = worker.StageThreads.close, FakeEngine(), []

    def close_job(threads):
        events.add("close begins")
        close(threads)

    def interrupt(items, *_):
        for item in items:
            yield item
            assert events.wait("block held", 3)
            raise KeyboardInterrupt

    def hold_the_third():
        if events.add("block held") == 3:
            assert events.wait("close begins", 1)
            time.sleep(0.1)  # in which the engine would be closed

    monkeypatch.setattr(worker.StageThreads, "close", close_job)
    monkeypatch.setattr(engine, "close", lambda: blocks_at_close.append(events.count("infer ends")))
    with monkeypatch.context() as patch:
        within(patch, "infer", hold_the_third, lambda: events.add("infer ends"))
        with pytest.raises(InterruptedError):
            run(stack, tmp_path / "out", engine, Talk(interrupt, lambda _: None), cluster=address)
    assert blocks_at_close == [3], "the third ended, and a fourth did not begin"
    assert events.count("write begins") <= 2, "nor was the third written"
    run(stack, tmp_path / "out", cluster=address, resume=True)
    assert content(tmp_path / "out") == alone


@pytest.mark.parametrize("task", [tasks.survey_task, tasks.block_task])
def test_a_worker_that_has_closed_leaves_its_tasks_to_others(task, monkeypatch):
    desk = worker.Desk(Path("fake"), [], Options())
    desk.setup(None)
    asyncio.run(desk.teardown(None))
    monkeypatch.setattr(tasks, "_desk", lambda _: desk)
    with pytest.raises(Reschedule):
        task("job", *[None] * (task.__code__.co_argcount - 1))


def test_what_a_worker_has_to_say_is_told_once(address, stack, tmp_path):
    said = []
    run(stack, tmp_path / "out", FakeEngine(room=1), Talk(silent, said.append), cluster=address, batch=2)
    assert [line for line in said if "too small" in line] == [
        "the memory is too small for the batch: going on with 1 slices at once"
    ]
