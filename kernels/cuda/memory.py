"""Arrays, devices and streams of CUDA: the one place that knows CuPy and other libraries' streams.

In Numba's simulator, NumPy arrays stand for those of the device, and there are no streams.
CuPy is imported when it is first used: what only compiles does without it.
"""

import ctypes
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.call import LEAST_CAPABILITY
from eigenfeatures.kernels.cuda.compile import SIMULATED, Kernel
from eigenfeatures.kernels.cuda.parameters import Parameters

if SIMULATED:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

# An array of the device: CuPy's, or NumPy's in the simulator.
Array: TypeAlias = Any

# How the CUDA driver is told where the parameters are: CU_LAUNCH_PARAM_BUFFER_POINTER and _SIZE, and the end.
_BUFFER, _BUFFER_SIZE = 1, 2
_Extra = ctypes.c_void_p * 5

# Held by the one of many threads that loads a kernel.
_LOADING = threading.Lock()

Size: TypeAlias = int | tuple[int, int] | tuple[int, int, int]


def xp() -> Any:
    """Return the module of arrays: CuPy, or NumPy in the simulator."""
    # Looked up, since each call asks several times and an import statement's lookup takes a microsecond.
    return np if SIMULATED else sys.modules.get("cupy") or importlib.import_module("cupy")


@contextmanager
def computing(gpu: int | None, stream: object, library: str | None) -> Iterator[None]:
    """Make a device and a stream CuPy's current ones, on which arrays are made and kernels launched.

    Parameters
    ----------
    gpu
        The number of the device where the arrays lie, or None for those of the host and the current device.
    stream
        A stream of CuPy or torch, or its address; None for the current one of a library.
    library
        Whose current stream to take where the arrays lie on a GPU: ``"torch"``, or any other for CuPy's.

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
    # A torch without CUDA has no streams to ask for, and arrays of the host wait for none.
    with _device(gpu) as device:
        # The driver launches in the context of the calling thread. A new thread has none until it asks for
        # its device, and to enter the current one CuPy doesn't ask.
        device.use()
        with _stream(stream, None if gpu is None else library, device.id):
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
    return cupy.cuda.Stream.from_external(_Stream(address)) if address else cupy.cuda.Stream.null


class _Stream:
    """A stream by its address, in the protocol by which libraries hand streams to each other."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the protocol's version and the address."""
        return 0, self._address


def launch(kernel: Kernel, blocks: Size, threads: Size, *arguments: Any, shared: int = 0) -> None:
    """Queue a kernel on CuPy's current stream and device, without waiting for it.

    Numba compiles the kernel and CuPy launches it, which takes a fraction of the time that Numba's
    own launch takes.

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
    prepared(kernel, blocks, threads, *arguments, shared=shared)()


def prepared(
    kernel: Kernel, blocks: Size, threads: Size, *arguments: Any, shared: int = 0
) -> Callable[[], None]:
    """Return what launches a kernel on the same arguments again and again, as `launch` does once."""
    if SIMULATED:
        # Not copied in and out.
        passed = [FakeCUDAArray(value) if isinstance(value, np.ndarray) else value for value in arguments]
        configured = kernel.dispatcher[blocks, threads, 0, shared]
        return lambda: configured(*passed)
    cupy = xp()
    arrays = cupy.ndarray
    dtypes = tuple(value.dtype for value in arguments if isinstance(value, arrays))
    place = (cupy.cuda.runtime.getDevice(), *dtypes)
    if place not in kernel.loaded:
        with _LOADING:
            if place not in kernel.loaded:
                kernel.loaded[place] = _load(kernel, dtypes)
    function, parameters = kernel.loaded[place]
    packed = parameters.packed(arguments, arrays)
    # CuPy's own way to call a kernel makes an object of each parameter, which takes several times as long.
    buffer, size = ctypes.create_string_buffer(packed, len(packed)), ctypes.c_size_t(len(packed))
    extra = _Extra(_BUFFER, ctypes.addressof(buffer), _BUFFER_SIZE, ctypes.addressof(size), 0)
    stream = cupy.cuda.get_current_stream().ptr
    place_of_work = *_three_axes(blocks), *_three_axes(threads), shared, stream

    def queue(_kept: Any = (arguments, buffer, size)) -> None:
        cupy.cuda.driver.launchKernel(function.ptr, *place_of_work, 0, ctypes.addressof(extra))

    return queue


def _three_axes(size: Size) -> tuple[int, ...]:
    given = size if isinstance(size, tuple) else (size,)
    return (*given, 1, 1)[:3]


def _load(kernel: Kernel, dtypes: tuple[np.dtype[Any], ...]) -> tuple[Any, Parameters]:
    """Compile a kernel for arrays of these types, and load it to the current device.

    Raises
    ------
    OSError
        Where the device lacks what the kernels need.
    """
    capability = divmod(int(xp().cuda.Device().compute_capability), 10)
    if capability < LEAST_CAPABILITY:
        raise OSError(
            "the GPU is of compute capability {}.{}, and the kernels need {}.{} or later; "
            "compute on the CPU".format(*capability, *LEAST_CAPABILITY)
        )
    signature = kernel.signature_of(dtypes)
    kernel.dispatcher.compile(signature.args)
    ptx = kernel.dispatcher.inspect_asm(signature.args)
    module = xp().cuda.function.Module()
    module.load(ptx.encode())
    return module.get_function(entry_of(ptx)), Parameters(signature)


def entry_of(ptx: str) -> str:
    """Return the name of the one kernel in a PTX source.

    Raises
    ------
    RuntimeError
        Where there is not one.
    """
    names = re.findall(r"^\s*(?:\.visible\s+)?\.entry\s+([\w$]+)", ptx, re.MULTILINE)
    if len(names) != 1:
        raise RuntimeError(f"PTX of one kernel was expected, and it has {len(names)}")
    return str(names[0])


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
