"""How long a call compiles: by Numba for the processor or a GPU, or by `torch.compile`."""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from numba.core import event

# Held to compile, for a GPU too, and to load what is cached; only to compile are passes run.
_LOCK = "numba:compiler_lock"
_PASSES = {"numba.core.event": "numba:run_pass", "numba.cuda.core.event": "numba-cuda:run_pass"}


class Compiling:
    """Seconds of compilation since it was made, while `watching` it."""

    def __init__(self) -> None:
        self._by_numba = 0.0
        self._torch_before = _by_torch()
        self._depth = 0
        self._start = 0.0
        self._has_passes = False

    @property
    def seconds(self) -> float:
        """What was compiled so far; loading from a cache isn't counted."""
        return self._by_numba + _by_torch() - self._torch_before

    def lock(self, _: Any) -> None:
        """Note that Numba's compiler is entered, perhaps from within."""
        if self._depth == 0:
            self._start, self._has_passes = time.perf_counter(), False
        self._depth += 1

    def unlock(self, _: Any) -> None:
        """Count the time since it was entered, if it has compiled."""
        self._depth -= 1
        if self._depth == 0 and self._has_passes:
            self._by_numba += time.perf_counter() - self._start

    def run_pass(self, _: Any) -> None:
        """Note that Numba compiles."""
        self._has_passes = True


@contextmanager
def watching(device: Literal["cpu", "cuda"] = "cpu") -> Iterator[Compiling]:
    """Watch what is compiled in a ``with`` statement, on request for a GPU too."""
    compiling = Compiling()
    modules = list(_PASSES)[: 2 if device == "cuda" else 1]
    with ExitStack() as stack:
        stack.enter_context(_listening(event, _LOCK, compiling.lock, compiling.unlock))
        for name in modules:
            module = importlib.import_module(name)
            stack.enter_context(_listening(module, _PASSES[name], compiling.run_pass, _nothing))
        yield compiling


def _listening(module: Any, kind: str, start: Callable[[Any], None], end: Callable[[Any], None]) -> Any:
    """Return a context in which Numba's events of a kind are heard; numba-cuda has its own module of them."""

    class Listener(module.Listener):
        def on_start(self, happened: Any) -> None:
            start(happened)

        def on_end(self, happened: Any) -> None:
            end(happened)

    return module.install_listener(kind, Listener())


def _nothing(_: Any) -> None:
    pass


def _by_torch() -> float:
    """Return the seconds in which this process has compiled by `torch.compile`."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    spent = getattr(dynamo, "calculate_time_spent", dict)()
    return float(spent.get("total_wall_time", 0.0))
