"""Batches are copied beside the work on their neighbours."""

import threading
import time
from contextlib import contextmanager

import pytest
from at_once import AtOnce

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError
from eigenfeatures.export.batch.overlap import overlapped


def steps_of(count, fails_at=None):
    """What is begun, in order, and the results of so many batches."""
    steps = []

    def upload(batch):
        steps.append(f"upload {batch}")
        return batch

    def compute(batch):
        steps.append(f"compute {batch}")
        if batch == fails_at:
            raise DeviceMemoryError("no room")
        return batch

    def download(batch):
        steps.append(f"download {batch}")
        return lambda: steps.append(f"wait {batch}") or batch

    results = []
    try:
        for result in overlapped(range(count), upload, compute, download, Clock(), AtOnce()):
            results.append(result)
    except DeviceMemoryError:
        steps.append("stopped")
    return steps, results


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_batch_comes_once_and_in_order(count):
    steps, results = steps_of(count)
    assert results == list(range(count))
    assert len(steps) == len(set(steps)) == 4 * count


def test_a_batch_is_copied_beside_the_work_on_its_neighbours():
    """What is uploaded is begun first; then come the copies of the batches before and after it."""
    steps, _ = steps_of(4)
    assert steps == [
        *("upload 0", "compute 0", "upload 1"),
        *("compute 1", "download 0", "upload 2", "wait 0"),
        *("compute 2", "download 1", "upload 3", "wait 1"),
        *("compute 3", "download 2", "wait 2"),
        *("download 3", "wait 3"),
    ]


def test_an_error_ends_it_and_what_was_given_is_right():
    steps, results = steps_of(5, fails_at=2)
    assert steps[-5:] == ["compute 2", "download 1", "upload 3", "wait 1", "stopped"]
    assert results == [0, 1]


def test_a_batch_is_used_beside_the_work_on_the_next(worker):
    """Each batch but the last is computed only until the one before it is in the reader's hands."""
    read = [threading.Event() for _ in range(5)]

    def compute(batch):
        if batch > 0:
            assert read[batch - 1].wait(timeout=20)
        return batch

    given = overlapped(range(5), lambda batch: batch, compute, lambda batch: lambda: batch, Clock(), worker)
    for batch in given:
        read[batch].set()
    assert all(event.is_set() for event in read)


def test_a_reader_who_stops_leaves_nothing_at_work(worker):
    done = []

    def compute(batch):
        time.sleep(0.05)
        done.append(batch)
        return batch

    given = overlapped(range(5), lambda batch: batch, compute, lambda batch: lambda: batch, Clock(), worker)
    assert next(given) == 0
    given.close()
    assert done == [0, 1]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_an_upload_that_fails_leaves_nothing_at_work(fails_at, worker):
    """Buffers of what is still computed would be given back."""
    done = []

    def upload(batch):
        if batch == fails_at:
            raise DeviceMemoryError("no room")
        return batch

    def compute(batch):
        time.sleep(0.05)
        done.append(batch)
        return batch

    with pytest.raises(DeviceMemoryError):
        list(overlapped(range(5), upload, compute, lambda batch: lambda: batch, Clock(), worker))
    assert done == list(range(fails_at))


def test_what_is_waited_for_is_measured_where_it_is_done(worker, monkeypatch):
    """A second passes whenever a batch is computed, which begins once the other thread waits for it."""
    now, waiting = [0.0], threading.Event()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Watched(Clock):
        @contextmanager
        def unmeasured(self):
            with super().unmeasured():
                waiting.set()
                yield

    clock = Watched()

    def compute(batch):
        assert waiting.wait(timeout=20)
        waiting.clear()
        with clock.span("network"):
            now[0] += 1
        return batch

    with clock.span("infer"):
        list(overlapped(range(3), lambda batch: batch, compute, lambda batch: lambda: batch, clock, worker))
    assert clock.seconds == {"upload": 0, "network": 3, "download": 0, "infer": 0}
