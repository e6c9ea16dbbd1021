"""A graph of ONNX Runtime on a device, whose buffers stay where they are from batch to batch."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.overlap import overlapped

# While CUDA records, no other thread may allocate memory there, so at least no two record at once.
_RECORDING = threading.Lock()


class Memory(Protocol):
    """Arrays of a device, and two queues of work on it: one that computes, and one that copies.

    What is queued is done in order, some time later. An event is a place in a queue.

    Attributes
    ----------
    device : str
        ONNX Runtime's name of it.
    number : int
        Of the device among those of its kind.
    """

    device: str
    number: int

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array of the device."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of the host that the device copies from and to by itself."""
        ...

    def address(self, array: Any) -> int:
        """Return where an array of the device begins."""
        ...

    def upload(self, host: NDArray[Any], array: Any) -> Any:
        """Queue a copy to the device, and return the event that it is done."""
        ...

    def copy(self, source: Any, target: Any, after: Any = None) -> Any:
        """Queue a copy within the device among what computes, behind an event of the other queue."""
        ...

    def download(self, array: Any, host: NDArray[Any], after: Any) -> Any:
        """Queue a copy from the device, behind an event of the other queue."""
        ...

    def wait(self, event: Any) -> None:
        """Let this thread wait for an event."""
        ...

    def settle(self) -> None:
        """Wait for both queues, and give back what arrays that are no more have had."""
        ...


class _Upload:
    """A batch on its way to the device."""

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.host, self.array = memory.pinned(shape, dtype), memory.empty(shape, dtype)
        self.arrived: Any = None
        self.taken: Any = None  # by what computes, so that both arrays are free
        self.length = 0


class _Results(NamedTuple):
    """Outputs of a batch of `length` slices; `made` is the event that they are there."""

    arrays: dict[str, Any]
    made: Any
    length: int


class BoundBatch:
    """Buffers on a device for batches of one shape: nothing is allocated from batch to batch.

    A shorter batch, the last one, is filled up with zeros, so that the shapes stay. Since the addresses stay
    as well, CUDA can record all kernels of the graph once and launch them together ever after (a CUDA graph).
    It records for the thread that makes this object, which should be the worker's, and again for another
    one that runs it first. Where another thread allocates memory of the GPU meanwhile, recording fails.
    What is uploaded and downloaded has two places, since one batch is copied while another is computed.

    Parameters
    ----------
    session
        Of ONNX Runtime, which queues its work where `memory` computes.
    outputs
        Their names.
    shape, dtype
        Of the largest batch.
    memory
        Of the device.
    recording
        A number that no other recording of the session has; None where it records nothing.
    """

    def __init__(
        self,
        session: Any,
        outputs: Sequence[str],
        shape: tuple[int, ...],
        dtype: DTypeLike,
        memory: Memory,
        recording: int | None = None,
    ) -> None:
        self._session, self._memory, self._shape = session, memory, shape
        self._options = _run_options(recording)
        self._uploads = [_Upload(memory, shape, dtype) for _ in range(2)]
        self._input = memory.empty(shape, dtype)
        self._binding = session.io_binding()
        name, element = session.get_inputs()[0].name, np.dtype(dtype).type
        where = (memory.device, memory.number)
        self._binding.bind_input(name, *where, element, shape, memory.address(self._input))
        with _RECORDING:
            self._kinds = self._first_run(outputs)
            self._outputs = self._arrays(memory.empty)
            for name, array in self._outputs.items():
                place, element = memory.address(array), np.dtype(array.dtype).type
                self._binding.bind_output(name, *where, element, array.shape, place)
            session.run_with_iobinding(self._binding, _run_options(recording, waits=True))
        self._copies = [self._arrays(memory.empty) for _ in range(2)]
        self._hosts = [self._arrays(memory.pinned) for _ in range(2)]

    def takes(self, slices: NDArray[Any]) -> bool:
        """Tell whether a batch fits into the buffers."""
        return len(slices) <= self._shape[0] and slices.shape[1:] == self._shape[1:]

    def run(
        self,
        batches: Iterable[NDArray[Any]],
        clock: Clock,
        worker: Executor,
        *,
        keep: bool = False,
        content: str = "graph",
    ) -> Iterator[dict[str, Any]]:
        """Yield the outputs of batches that fit, as arrays of the host.

        Parameters
        ----------
        batches
            Raw slices ``(n, H, W)``.
        clock
            Measures ``upload``, `content` and ``download``, as far as a thread spends time on them.
        worker
            Launches the graph. A recorded one seems to keep its thread until its work is done (`SCALING.md`).
        keep
            Give arrays of the device in place of the host's.
        content
            What the graph computes, for the clock.
        """

        def compute(uploaded: _Upload) -> _Results:
            with clock.span(content):
                # Whoever keeps arrays has them for good.
                self._copies.reverse()
                return self._compute(uploaded, self._arrays(self._memory.empty) if keep else self._copies[0])

        def download(results: _Results) -> Callable[[], dict[str, Any]]:
            finish = self._kept(results) if keep else self._downloaded(results)

            def measured() -> dict[str, Any]:
                with clock.span(content):  # which was only queued
                    self._memory.wait(results.made)
                return finish()

            return measured

        return overlapped(batches, self._upload, compute, download, clock, worker)

    def close(self) -> None:
        """Wait for what is queued, then give the buffers back; nothing can be run any more."""
        self._memory.settle()
        del self._binding, self._input, self._uploads, self._outputs, self._copies, self._hosts
        self._memory.settle()

    def _arrays(self, make: Callable[[tuple[int, ...], DTypeLike], Any]) -> dict[str, Any]:
        return {name: make(*kind) for name, kind in self._kinds.items()}

    def _first_run(self, outputs: Sequence[str]) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
        """Run once, which finds the fastest convolutions, and return the outputs' shapes and dtypes."""
        for name in outputs:
            self._binding.bind_output(name, self._memory.device, self._memory.number)
        zeros = self._uploads[0]
        zeros.host[:] = 0
        arrived = self._memory.upload(zeros.host, zeros.array)
        self._memory.wait(self._memory.copy(zeros.array, self._input, arrived))
        self._session.run_with_iobinding(self._binding, _run_options(None, waits=True))
        made = self._binding.copy_outputs_to_cpu()
        return {name: (array.shape, array.dtype) for name, array in zip(outputs, made, strict=True)}

    def _upload(self, slices: NDArray[Any]) -> _Upload:
        self._uploads.reverse()
        upload = self._uploads[0]
        if upload.taken is not None:
            self._memory.wait(upload.taken)
        upload.length = len(slices)
        upload.host[: len(slices)] = slices
        upload.host[len(slices) :] = 0
        upload.arrived = self._memory.upload(upload.host, upload.array)
        return upload

    def _compute(self, upload: _Upload, arrays: dict[str, Any]) -> _Results:
        upload.taken = self._memory.copy(upload.array, self._input, upload.arrived)
        self._session.run_with_iobinding(self._binding, self._options)
        # The next batch overwrites the outputs.
        made = [self._memory.copy(self._outputs[name], array) for name, array in arrays.items()]
        return _Results(arrays, made[-1], upload.length)

    def _downloaded(self, results: _Results) -> Callable[[], dict[str, NDArray[Any]]]:
        self._hosts.reverse()
        hosts, memory = self._hosts[0], self._memory
        copied = [memory.download(array, hosts[name], results.made) for name, array in results.arrays.items()]

        def finish() -> dict[str, NDArray[Any]]:
            memory.wait(copied[-1])
            return {name: np.array(host[: results.length]) for name, host in hosts.items()}

        return finish

    def _kept(self, results: _Results) -> Callable[[], dict[str, Any]]:
        return lambda: {name: array[: results.length] for name, array in results.arrays.items()}


def _run_options(recording: int | None, *, waits: bool = False) -> Any:
    options = onnxruntime.RunOptions()
    if not waits:  # who needs the outputs waits for the queue
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(-1 if recording is None else recording))
    return options
