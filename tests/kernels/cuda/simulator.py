"""Numba's simulator of CUDA, made strict, repeatable and quick enough for many barriers.

As it comes, the threads of a block run as the interpreter pleases: two may each make what
should be one shared array, and a barrier opens once all threads wait, at whichever barrier. Here
they run in turn, each up to its next barrier, in an order that is drawn anew after each barrier
from a fixed seed: what depends on the order, for want of a barrier, shows. That a
thread has left or waits elsewhere is an error. Shared and local memory that nothing was
written to holds NaN, or the lowest integer.
"""

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel, kernelapi

END = "its end"


class DivergedError(RuntimeError):
    """The threads of a block did not all come to the same barrier."""


class Turn(threading.Thread):
    """A thread that runs while it has the turn, for one block after another: to start one takes long."""

    block: "Block"
    blockIdx: Any
    threadIdx: Any
    barrier: object
    exception: Exception | None

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Lock()
        self.turn.acquire()
        self.start()

    def enter(self, block: "Block", place: Any, point: Any) -> None:
        self.block, self.barrier, self.exception = block, None, None
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*place), kernelapi.Dim3(*point)

    def run(self) -> None:
        while True:
            self.turn.acquire()
            try:
                if not self.block.failed:
                    self.block.work()
            except DivergedError:
                pass
            except Exception as error:  # raised by the thread that launched the kernel
                self.exception = error
                self.block.failed = True
            self.barrier = END
            self.block.pass_on()

    def syncthreads(self) -> None:
        self.barrier = _place_of_caller()
        self.block.pass_on()
        self.turn.acquire()
        if self.block.failed:
            raise DivergedError


_TURNS: list[Turn] = []


class Block:
    """Stands for the simulator's `BlockManager`."""

    def __init__(self, function: Callable[..., None], _grid: Any, block: Any, _debug: bool) -> None:
        self.function, self.shape = function, block
        self.work: Callable[[], None]
        self.threads: list[Turn] = []
        self.waiting: list[Turn] = []
        self.failed = False
        self.diverged = ""
        self.over = threading.Event()
        self.draw = random.Random(0)  # noqa: S311

    def run(self, place: Any, *arguments: Any) -> None:
        kernel._get_kernel_context().shared._allocations.clear()
        points = list(np.ndindex(*self.shape))
        _TURNS.extend(Turn() for _ in range(len(_TURNS), len(points)))
        self.threads = _TURNS[: len(points)]
        for thread, point in zip(self.threads, points, strict=True):
            thread.enter(self, place, point)
        self.work = lambda: self.function(*arguments)
        self._next_round()
        self.over.wait()
        for thread in self.threads:
            if thread.exception is not None:
                raise thread.exception
        if self.diverged:
            raise DivergedError(self.diverged)

    def pass_on(self) -> None:
        """Give the turn to the next thread of this round, or begin another."""
        if self.waiting:
            self.waiting.pop().turn.release()
        else:
            self._next_round()

    def _next_round(self) -> None:
        barriers = {thread.barrier for thread in self.threads}
        if len(barriers) > 1 and not self.failed:
            self.failed, self.diverged = True, f"threads came to {barriers}"
        self.waiting = [thread for thread in self.threads if thread.barrier != END]
        if not self.waiting:
            self.over.set()
            return
        self.draw.shuffle(self.waiting)
        self.pass_on()


def _place_of_caller() -> object:
    """Return the lines of the kernel and its functions that led to a barrier."""
    frame, lines = sys._getframe(3), []
    while frame is not None and frame.f_code.co_filename != __file__:
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)


def _poisoned(shape: Any, dtype: Any) -> Any:
    if isinstance(dtype, types.Type):
        dtype = numpy_support.as_dtype(dtype)
    array = np.empty(shape, dtype)
    array.fill(np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min)
    return array


def _local_array(_: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:  # noqa: ARG001
    return _poisoned(shape, dtype)


def _shared_array(shared: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:  # noqa: ARG001
    made = shared._allocations
    if shape == 0:  # the one array of dynamic memory, under each type that a kernel asks for
        memory = made.setdefault(0, np.full(shared._dynshared_size, 0xFF, np.uint8))
        dtype = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else np.dtype(dtype)
        return memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
    caller = sys._getframe(1)
    place = caller.f_code, caller.f_lineno
    if place not in made:
        made[place] = _poisoned(shape, dtype)
    return made[place]


def _called(function: Any, *arguments: Any) -> Any:
    """Call a function; for one on the device, its module's `cuda` is the simulator's till the kernel ends."""
    simulated = kernel._kernel_context
    if simulated is None:
        try:
            return _launch(function, *arguments)
        finally:
            for module in _SWAPPED:
                module["cuda"] = cuda
            _SWAPPED.clear()
    module = function.fn.__globals__
    if module.get("cuda") is cuda:
        module["cuda"] = simulated
        _SWAPPED.append(module)
    return function.fn(*arguments)


_launch = kernel.FakeCUDAKernel.__call__
_SWAPPED: list[dict[str, Any]] = []


def install() -> None:
    """Put these in place of the simulator's own."""
    kernel.BlockManager = Block
    kernel.FakeCUDAKernel.__call__ = _called
    kernelapi.FakeCUDAShared.array = _shared_array
    kernelapi.FakeCUDALocal.array = _local_array
