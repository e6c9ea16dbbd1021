"""Memory of a GPU by CuPy, with two streams."""

from typing import Any

import cupy
import cupyx
import numpy as np
from numpy.typing import DTypeLike, NDArray


class CudaMemory:
    """CuPy's arrays on what is now its current device; see `eigenfeatures.export.batch.bound_batch.Memory`.

    Neither stream waits for the default one, on which others work. Any thread can use it, whatever device is
    the current one there.

    Attributes
    ----------
    name : str
        Of the GPU, for people.
    """

    device = "cuda"

    def __init__(self) -> None:
        cupy.cuda.runtime.getDeviceCount()  # fails where there is none, and says so
        self._gpu = cupy.cuda.Device()
        self.number = int(self._gpu.id)
        self.name = str(cupy.cuda.runtime.getDeviceProperties(self.number)["name"].decode())
        self._compute = cupy.cuda.Stream(non_blocking=True)
        self._copies = cupy.cuda.Stream(non_blocking=True)

    @property
    def stream(self) -> int:
        """Address of the stream that computes."""
        return int(self._compute.ptr)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array; what is queued on the caller's stream is done before one of ours touches it.

        CuPy gives memory again that others have just let go of and whose work may still be queued.
        """
        with self._gpu:
            array = cupy.empty(shape, dtype)
            queued = cupy.cuda.get_current_stream().record()
            self._compute.wait_event(queued)
            self._copies.wait_event(queued)
            return array

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of the host in pages that stay in memory."""
        with self._gpu:
            return np.asarray(cupyx.empty_pinned(shape, dtype))

    def address(self, array: Any) -> int:
        """Return where an array begins."""
        return int(array.data.ptr)

    def upload(self, host: NDArray[Any], array: Any) -> Any:
        """Queue a copy to the GPU on the stream that copies."""
        with self._gpu:
            array.set(host, stream=self._copies)
            return self._copies.record(_event())

    def copy(self, source: Any, target: Any, after: Any = None) -> Any:
        """Queue a copy on the stream that computes."""
        with self._gpu:
            if after is not None:
                self._compute.wait_event(after)
            target.data.copy_from_device_async(source.data, source.nbytes, self._compute)
            return self._compute.record(_event())

    def download(self, array: Any, host: NDArray[Any], after: Any) -> Any:
        """Queue a copy from the GPU on the stream that copies."""
        with self._gpu:
            self._copies.wait_event(after)
            array.get(stream=self._copies, out=host, blocking=False)
            return self._copies.record(_event())

    def wait(self, event: Any) -> None:
        """Let this thread wait for an event."""
        event.synchronize()

    def settle(self) -> None:
        """Wait for both streams, and give back what arrays that are no more have had."""
        with self._gpu:
            self._compute.synchronize()
            self._copies.synchronize()
            cupy.get_default_memory_pool().free_all_blocks()


def _event() -> Any:
    """Return an event for which a thread sleeps, since other stages need the cores."""
    return cupy.cuda.Event(block=True, disable_timing=True)
