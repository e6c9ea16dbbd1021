"""Buffers that ONNX Runtime is bound to, in whatever order a device gets to its work."""

import threading
from collections import deque

import numpy as np
import onnxruntime
import pytest
from at_once import AtOnce

from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.bound_batch import BoundBatch
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import open_engine

OUTPUTS = ("probabilities", "eigenfeatures", "gap")


class Queues:
    """The host's memory in place of a device's: what is queued in `late` queues is done late, else at once.

    A late queue is worked off only up to an event that is waited for, so that an array that is used again
    too early has the wrong values.
    """

    device, number = "cpu", 0

    def __init__(self, late):
        self.queues = {"compute": deque(), "copies": deque()}
        self.late = late
        self.lock = threading.RLock()

    def queue(self, name, work, after=None):
        event = (name, object())
        with self.lock:
            self.queues[name].append((event, lambda: (self.wait(after), work())))
            if name not in self.late:
                self.wait(event)
        return event

    def wait(self, event):
        if event is None:
            return
        queue = self.queues[event[0]]
        with self.lock:
            while any(event is queued for queued, _ in queue):
                queue.popleft()[1]()

    def empty(self, shape, dtype):
        return np.full(shape, 77, dtype)

    pinned = empty

    def address(self, array):
        return array.ctypes.data

    def upload(self, host, array):
        return self.queue("copies", lambda: array.__setitem__(..., host))

    def copy(self, source, target, after=None):
        return self.queue("compute", lambda: target.__setitem__(..., source), after)

    def download(self, array, host, after):
        return self.queue("copies", lambda: host.__setitem__(..., array), after)

    def settle(self):
        for name, queue in self.queues.items():
            if queue:
                self.wait(queue[-1][0])
            assert not self.queues[name]


LATE = [(), ("compute",), ("copies",), ("compute", "copies")]


class QueuedSession:
    """A session that queues its runs, but for those that wait."""

    def __init__(self, session, memory):
        self._session, self._memory = session, memory
        self.recordings = []

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, binding, options):
        self.recordings.append(options.get_run_config_entry("gpu_graph_id"))
        done = self._memory.queue("compute", lambda: self._session.run_with_iobinding(binding, options))
        try:
            options.get_run_config_entry("disable_synchronize_execution_providers")
        except RuntimeError:  # there is none
            self._memory.wait(done)


@pytest.fixture(scope="module")
def session(finished_run):
    return onnxruntime.InferenceSession(finished_run / "model.onnx", providers=["CPUExecutionProvider"])


def assert_as_plain(found, session, batch):
    expected = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"slices": batch}), strict=True))
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("keep", [True, False])
def test_bound_buffers_give_the_same_batch_after_batch(late, keep, session, raw, worker):
    """No batch changes what another one has or gave; twice, since buffers are used again."""
    memory = Queues(late)
    queued = QueuedSession(session, memory)
    bound = BoundBatch(queued, OUTPUTS, raw[:8].shape, raw.dtype, memory, recording=4)
    batches = [raw[:8], raw[8:16], raw[16:24], raw[24:32], raw[32:35]]
    for _ in range(2):
        found = list(bound.run(batches, Clock(), worker, keep=keep))
        assert [len(results["gap"]) for results in found] == [8, 8, 8, 8, 3]
        for batch, results in zip(batches, found, strict=True):
            assert_as_plain(results, session, batch)
    # The search for convolutions isn't recorded.
    assert queued.recordings == ["-1", "4", *["4"] * 10]
    assert bound.takes(raw[:5])
    assert not bound.takes(raw[:9])
    assert not bound.takes(raw[:8, :20])


def test_arrays_that_are_used_too_early_are_seen(session, raw):
    """The negative control: one place for results in place of two."""
    memory = Queues(late=("copies",))
    bound = BoundBatch(QueuedSession(session, memory), OUTPUTS, raw[:8].shape, raw.dtype, memory)
    bound._copies = [bound._copies[0]] * 2
    first, _ = bound.run([raw[:8], raw[8:16]], Clock(), AtOnce())
    with pytest.raises(AssertionError, match="Not equal"):
        assert_as_plain(first, session, raw[:8])


@pytest.fixture
def bound_engine(finished_run):
    """`OrtEngine` as for CUDA, on the CPU's memory."""
    engine = open_engine(finished_run, OUTPUTS, "ort-cpu")
    engine._of_maps, engine._asked = frozenset(), OUTPUTS
    engine._memory = Queues(late=("compute", "copies"))
    plain = onnxruntime.InferenceSession(finished_run / "model.onnx", providers=["CPUExecutionProvider"])
    engine._session = QueuedSession(plain, engine._memory)
    return engine


def test_blocks_through_bound_buffers(bound_engine, session, raw):
    run = Batches(bound_engine, 4, pytest.fail)
    for block in (raw[:10], raw[10:12], raw[:10]):
        assert_as_plain(run(block), session, block)


def test_each_shape_is_recorded_apart(bound_engine, raw):
    for count in (1, 4, 2):
        bound_engine(raw[:count])
    assert bound_engine._session.recordings == ["-1", "0", "0", "-1", "1", "1", "1"]


def test_a_device_without_room_gets_smaller_buffers(bound_engine, session, raw):
    class Small(Queues):
        def empty(self, shape, dtype):
            if shape[0] > 2:
                raise RuntimeError("Out of memory allocating 9 bytes")
            return super().empty(shape, dtype)

    bound_engine._memory = bound_engine._session._memory = Small(late=())
    said = []
    assert_as_plain(Batches(bound_engine, 8, said.append)(raw[:9]), session, raw[:9])
    assert [line.rsplit(" with ")[1] for line in said] == ["4 slices at once", "2 slices at once"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_batch_that_runs_out_of_memory_leaves_nothing_queued(keep, bound_engine, session, raw):
    """With `keep` each batch takes memory, also where the buffers are there."""

    class Full(Queues):
        left = 0

        def copy(self, source, target, after=None):
            if source.shape[0] > 2 and source.shape == target.shape and self.left > 0:
                self.left -= 1
                if self.left == 0:
                    raise MemoryError
            return super().copy(source, target, after)

    memory = bound_engine._memory = bound_engine._session._memory = Full(late=("compute", "copies"))
    bound_engine._keep = keep
    run = Batches(bound_engine, 4, said_settled(memory))
    assert_as_plain(run(raw[:8]), session, raw[:8])
    memory.left = 6
    assert_as_plain(run(raw[:20]), session, raw[:20])
    assert run.size == 2
    bound_engine.close()
    assert not any(memory.queues.values())


def said_settled(memory):
    """What is told of a halved batch, when nothing may be queued any more."""

    def say(_):
        assert not any(memory.queues.values())

    return say
