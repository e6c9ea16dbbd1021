"""Copies between host and GPU by torch, on a stream of their own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor


def this_device(name: str) -> torch.device:
    """Return ``cpu``, or of ``cuda`` the GPU that is torch's current one in this thread, for all threads."""
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


class Upload(NamedTuple):
    """A tensor on its way to the GPU, and the event that it is there."""

    tensor: Tensor
    arrived: Any


class Copies:
    """Copies that are queued beside the work of the current stream, and that wait for it where they must.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def upload(self, slices: NDArray[Any]) -> Upload:
        """Begin a copy to the GPU."""
        # A GPU copies by itself only from pages that stay in memory.
        pinned = torch.from_numpy(slices).pin_memory()
        with torch.cuda.stream(self._stream):
            tensor = pinned.to(self._device, non_blocking=True)
            return Upload(tensor, self._stream.record_event())

    def arrived(self, upload: Upload) -> Tensor:
        """Return the tensor; work on it in the current stream comes behind the copy."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(upload.arrived)
        upload.tensor.record_stream(current)
        return upload.tensor

    def made(self) -> Any:
        """Return the event that what the current stream has been told to do is done."""
        return torch.cuda.current_stream(self._device).record_event()

    def download(self, tensors: dict[str, Tensor], made: Any) -> Callable[[], dict[str, NDArray[Any]]]:
        """Begin copies from the GPU behind an event of what computes; the function waits for them."""
        self._stream.wait_event(made)
        with torch.cuda.stream(self._stream):
            hosts = {}
            for name, tensor in tensors.items():
                host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                hosts[name] = host.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._stream)
            copied = self._stream.record_event()

        def finish() -> dict[str, NDArray[Any]]:
            copied.synchronize()
            return {name: host.numpy() for name, host in hosts.items()}

        return finish
