"""Arrays, devices and streams of CUDA: the one place that knows CuPy and other libraries' streams.

In Numba's simulator, NumPy arrays stand for those of the device, and there are no streams.
CuPy is imported when it is first used: what only compiles does without it.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import numpy as np
from numba import cuda
from numba.cuda.core.errors import NumbaPerformanceWarning
from numpy.typing import NDArray

from eigenfeatures.kernels.cuda.compile import SIMULATED, Kernel

if SIMULATED:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

# An array of the device: CuPy's, or NumPy's in the simulator.
Array: TypeAlias = Any

Size: TypeAlias = int | tuple[int, int] | tuple[int, int, int]


def xp() -> Any:
    """Return the module of arrays: CuPy, or NumPy in the simulator."""
    return np if SIMULATED else importlib.import_module("cupy")


@contextmanager
def computing(gpu: int | None, stream: object, library: str | None) -> Iterator[None]:
    """Make a device and a stream CuPy's current ones, on which arrays are made and kernels launched.

    Parameters
    ----------
    gpu
        The device's number, or None for the current one.
    stream
        A stream of CuPy or torch, or its address; None for the current one of a library.
    library
        Whose current stream to take: ``"torch"``, or any other for CuPy's.

    Raises
    ------
    OSError
        Where there is no device.
    TypeError
        Where `stream` is none of these.
    """
    if SIMULATED:
        yield
        return
    with _device(gpu) as device, _stream(stream, library, device.id):
        yield


def _device(gpu: int | None) -> Any:
    cupy = xp()
    try:
        cupy.cuda.runtime.getDeviceCount()
        return cupy.cuda.Device(gpu)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise OSError(f"no CUDA device to compute on: {error}") from error


def _stream(stream: object, library: str | None, gpu: int) -> Any:
    """Return a context in which the stream is CuPy's current one of a device."""
    if stream is None and library == "torch":
        stream = sys.modules["torch"].cuda.current_stream(gpu)
    if stream is None:
        return nullcontext()
    address = next(
        (getattr(stream, name) for name in ("ptr", "cuda_stream") if hasattr(stream, name)), stream
    )
    if not isinstance(address, int) or isinstance(address, bool):
        raise TypeError(f"stream is of {type(stream).__name__}; give one of CuPy or torch, or its address")
    cupy = xp()
    return cupy.cuda.ExternalStream(address, gpu) if address else cupy.cuda.Stream.null


def launch(kernel: Kernel, blocks: Size, threads: Size, *arguments: Any, shared: int = 0) -> None:
    """Queue a kernel on CuPy's current stream and device, without waiting for it.

    Parameters
    ----------
    kernel
        The kernel to run.
    blocks, threads
        The grid and the block, along one to three axes: at most 2³¹ − 1 and twice 65,535 blocks.
    *arguments
        C-contiguous arrays of the current device, numbers, and tuples of them.
    shared
        Bytes of dynamic shared memory.
    """
    passed = [_for_kernel(value) if isinstance(value, xp().ndarray) else value for value in arguments]
    with warnings.catch_warnings():
        # Numba warns of fewer than 128 blocks, but few slices are no mistake.
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        configured = kernel.dispatcher[blocks, threads, _launch_stream(), shared]
    configured(*passed)


def _launch_stream() -> Any:
    """Return CuPy's current stream as Numba takes it."""
    return 0 if SIMULATED else cuda.external_stream(xp().cuda.get_current_stream().ptr)


def _for_kernel(array: Array) -> Any:
    """Return an array as Numba takes it: in the simulator not copied in and out, else not waited for."""
    return FakeCUDAArray(array) if SIMULATED else cuda.as_cuda_array(array, sync=False)


def misalignment(array: Array) -> int:
    """Return how many bytes an array starts past a multiple of 16."""
    address = array.ctypes.data if SIMULATED else array.data.ptr
    return int(address % 16)


def to_device(array: NDArray[Any]) -> Array:
    """Copy a NumPy array to the current device."""
    return xp().array(array)


def to_host(array: Array) -> NDArray[Any]:
    """Return an array of the device as NumPy's, once the current stream has filled it."""
    result: NDArray[Any] = array if isinstance(array, np.ndarray) else xp().asnumpy(array)
    return result
