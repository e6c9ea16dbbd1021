"""Which device and stream a call computes on, with a stand-in for CuPy."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import Kernel
from eigenfeatures.kernels.cuda.gradient import fill_gradient


class Entered:
    """A device or stream that notes when it is entered and left."""

    def __init__(self, log, name, number):
        self.log, self.name, self.id = log, name, number

    def __enter__(self):
        self.log.append(f"enter {self.name}")
        return self

    def __exit__(self, *_):
        self.log.append(f"leave {self.name}")

    def use(self):
        self.log.append(f"use {self.name}")


class CUDARuntimeError(RuntimeError):
    pass


@pytest.fixture
def log(monkeypatch):
    """What is entered of a stand-in for CuPy with one device, where number 3 is the current one."""
    log = []
    cuda = SimpleNamespace(
        Device=lambda gpu: Entered(log, f"device {gpu}", 3 if gpu is None else gpu),
        Stream=SimpleNamespace(
            from_external=lambda stream: Entered(
                log, "stream {1} by protocol {0}".format(*stream.__cuda_stream__()), None
            ),
            null=Entered(log, "null stream", None),
        ),
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    return log


def test_the_current_device_and_stream(log):
    with memory.computing(None, None, None):
        assert log == ["enter device None", "use device None"]
    assert log == ["enter device None", "use device None", "leave device None"]


@pytest.mark.parametrize(
    ("stream", "entered"),
    [
        (77, "stream 77 by protocol 0"),
        (SimpleNamespace(ptr=78), "stream 78 by protocol 0"),
        (SimpleNamespace(cuda_stream=79), "stream 79 by protocol 0"),
        (SimpleNamespace(ptr=0), "null stream"),
    ],
)
def test_a_given_stream(log, stream, entered):
    with memory.computing(1, stream, "torch"):
        pass
    assert log == ["enter device 1", "use device 1", f"enter {entered}", f"leave {entered}", "leave device 1"]


def test_the_current_stream_of_torch(log, monkeypatch):
    streams = SimpleNamespace(current_stream=lambda gpu: SimpleNamespace(cuda_stream=100 + gpu))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=streams))
    with memory.computing(1, None, "torch"):
        assert log == ["enter device 1", "use device 1", "enter stream 101 by protocol 0"]


def test_no_stream_of_torch_for_tensors_of_the_host(log, monkeypatch):
    """A build of torch for the CPU has none to ask for."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    with memory.computing(None, None, "torch"):
        assert log == ["enter device None", "use device None"]


@pytest.mark.parametrize("stream", ["fast", True, 1.5])
def test_what_is_no_stream(log, stream):
    with pytest.raises(TypeError, match="give one of CuPy or torch"), memory.computing(0, stream, None):
        pass
    assert log == ["enter device 0", "use device 0", "leave device 0"]


def test_no_device(log, monkeypatch):
    def missing():
        raise CUDARuntimeError("cudaErrorNoDevice")

    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", missing)
    message = "no CUDA device to compute on: cudaErrorNoDevice"
    with pytest.raises(OSError, match=message), memory.computing(None, None, None):
        pass
    assert log == []


def test_a_device_without_asynchronous_copies_is_refused(monkeypatch):
    """Before anything is compiled for it, for which a GPU would be needed."""
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDevice=lambda: 0), Device=lambda: SimpleNamespace(compute_capability="75")
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, ndarray=list))
    with pytest.raises(OSError, match=r"compute capability 7\.5, and the kernels need 8\.0"):
        memory.launch(fill_gradient, 1, 32, 1.0)


def test_threads_that_come_at_once_load_a_kernel_once(monkeypatch):
    """Compiling takes seconds, and what one thread has loaded no other may lose."""
    threads, loads, launched = 8, [], []
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDevice=lambda: 0),
        get_current_stream=lambda: SimpleNamespace(ptr=0),
        driver=SimpleNamespace(launchKernel=lambda function, *_: launched.append(function)),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, ndarray=list))

    def load(kernel, dtypes):
        loads.append((kernel.name, dtypes))
        time.sleep(0.05)  # so that the others come meanwhile
        return SimpleNamespace(ptr=len(loads)), SimpleNamespace(packed=lambda *_: b"parameters")

    monkeypatch.setattr(memory, "_load", load)
    kernel, together = Kernel(fill_gradient.function, (), 32, None, ""), Barrier(threads)

    def launch(_):
        together.wait(10)
        memory.launch(kernel, 1, 32, 1.0)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(launch, range(threads)))
    assert loads == [("gradient.fill_gradient", ())]
    assert launched == [1] * threads
