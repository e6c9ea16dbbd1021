"""Batches are copied beside the work on their neighbours, in whatever order a device gets to it."""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import onnxruntime
import pytest
import torch

from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.bound_batch import BoundBatch
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, open_engine
from eigenfeatures.export.batch.overlap import overlapped
from eigenfeatures.export.batch.torch_copies import Upload

OUTPUTS = ("probabilities", "eigenfeatures", "gap")


class AtOnce:
    """An executor without a thread."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except DeviceMemoryError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def worker():
    with ThreadPoolExecutor(1) as made:
        yield made


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


class HostCopies:
    """In place of copies to a GPU."""

    def __init__(self):
        self.steps = []

    def upload(self, slices):
        self.steps.append("upload")
        return Upload(torch.from_numpy(slices), None)

    def arrived(self, upload):
        self.steps.append("compute")
        return upload.tensor

    def made(self):
        self.steps.append("made")
        return len(self.steps)

    def download(self, tensors, made):
        assert self.steps[made - 1] == "made"
        self.steps.append("download")
        return lambda: {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("keep", [True, False])
def test_torch_copies_beside_its_work(keep, finished_run, raw):
    engine = open_engine(finished_run, OUTPUTS, "torch", "cpu", keep=keep)
    expected = engine(raw[:7])
    copies = HostCopies()
    engine._copies = copies
    found = Batches(engine, 3, pytest.fail)(raw[:7])
    for name in OUTPUTS:
        assert isinstance(found[name], torch.Tensor) == keep
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert copies.steps.count("upload") == 3
    assert copies.steps.count("download") == (0 if keep else 3)
    assert [step for step in copies.steps if step in ("compute", "made")] == ["compute", "made"] * 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError], ids=["torch", "CuPy or NumPy"])
def test_a_batch_that_torch_has_no_room_for_is_halved(error, finished_run, raw, monkeypatch):
    engine = open_engine(finished_run, OUTPUTS, "torch", "cpu")
    expected = engine(raw[:7])
    evaluate, sizes = engine._evaluate, []

    def evaluate_few(slices):
        sizes.append(len(slices))
        if len(slices) > 2:
            raise error("out of memory")
        return evaluate(slices)

    monkeypatch.setattr(engine, "_evaluate", evaluate_few)
    found = Batches(engine, 5, lambda _: None)(raw[:7])
    assert sizes == [5, 2, 2, 2, 1]
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("engine", ["torch", "ort-cuda"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(engine, keep, finished_run, raw):
    if engine == "ort-cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    expected = open_engine(finished_run, OUTPUTS, "ort-cpu")(raw[:50])
    opened = open_engine(finished_run, OUTPUTS, engine, "cuda", keep=keep)
    for size in (16, 7):
        found = Batches(opened, size, pytest.fail)(raw[:50])
        for name in OUTPUTS:
            array = (
                found[name].get()
                if hasattr(found[name], "get")
                else np.asarray(torch.as_tensor(found[name]).cpu())
            )
            np.testing.assert_allclose(array, expected[name], atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_where_a_gpu_lacks_memory_the_batch_is_halved(finished_run, raw):
    """Of torch, which is left as much as it needed for a fraction of the batch, and some more."""
    slices = np.concatenate([raw] * (1 + 4096 // len(raw)))[:4096]
    opened = open_engine(finished_run, OUTPUTS, "torch", "cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    expected = Batches(opened, 512, pytest.fail)(slices)
    enough = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    said = []
    torch.cuda.set_per_process_memory_fraction(1.2 * enough / torch.cuda.mem_get_info()[1])
    try:
        batches = Batches(opened, 4096, said.append)
        found = batches(slices)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= len(said) <= 6
    assert batches.size == 4096 >> len(said)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
