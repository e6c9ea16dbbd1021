"""How the loops are compiled: one source, a serial and a parallel build.

Numba's threads have two traps. After a fork, OpenMP ends the child that enters
a parallel region; and the workqueue layer ends the process where two threads
enter one at a time. So a forked child runs the serial build, as does
``numba.set_num_threads(1)``, and under workqueue a lock lets one call in.
Small arrays have the serial build, too.

Compiled code is cached as `eigenfeatures.kernels.cpu.cache` says.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from types import FunctionType
from typing import Any, TypeVar, cast

import numba
import numpy as np

from eigenfeatures.kernels.cpu.cache import notice_imports, own_folder

F = TypeVar("F", bound=Callable[..., Any])

# What Numba would make parallel besides `prange`, at twice the time to compile.
_IMPLICIT = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")


def _owner_of_threads() -> int:
    """Return the process that may start Numba's threads: this one, or its parent where that already has.

    A worker of `multiprocessing` may be the first to import the kernels, forked from a process whose other
    loops of Numba have run in parallel.
    """
    started = getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False)
    return os.getppid() if started and _is_forked() else os.getpid()


def _is_forked() -> bool:
    """Tell whether this process is a worker that was forked, and not a new one as by ``spawn``."""
    if "multiprocessing.process" not in sys.modules:  # the process is no worker then
        return False
    import multiprocessing

    worker = multiprocessing.current_process()
    method = getattr(worker, "_start_method", None) or multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.parent_process() is not None and method != "spawn"


# Values of the largest array up to which a loop runs on the calling thread: to wake others takes as long as
# such a loop, and some hundred times as long where other processes keep the cores busy.
SMALL = 1 << 16

_IMPORTED_BY = _owner_of_threads()
_ONE_PARALLEL_CALL = threading.Lock()


def cached(jit: Callable[..., Any], function: F, **options: Any) -> F:
    """Compile a function when it is first called, and keep that on the disk where a folder can be written."""
    try:
        with own_folder():
            compiled = jit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no such folder
        _warn_of_no_cache()
        return cast(F, jit(**options)(function))
    notice_imports(compiled, function.__code__.co_filename)
    return cast(F, compiled)


@cache
def _warn_of_no_cache() -> None:
    warnings.warn(
        "no folder for compiled kernels can be written, so each process compiles them anew; "
        "let NUMBA_CACHE_DIR name one that can",
        RuntimeWarning,
        stacklevel=2,
    )


def _compiled(function: F, **options: Any) -> F:
    # Said of each function: Numba lets one that says nothing of it have the fast-math of the caller that is
    # compiled first, for all callers and in the cache, so that bits would depend on the order of calls.
    return cached(numba.njit, function, nogil=True, **{"fastmath": False, **options})


def helper(function: F) -> F:
    """Compile a function that only kernels call."""
    return _compiled(function)


def inlined(function: F) -> F:
    """Compile a helper as lines of its caller, for loops that aren't hot.

    Numba optimises a helper, and all that it calls, once more in each function up to the kernel.
    """
    return _compiled(function, inline="always")


def separate(function: F) -> F:
    """Compile a function that is called by its address alone: Python can't."""
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def reduction(function: F) -> F:
    """Compile a helper whose sums may be reordered into vector lanes.

    Reordering a sum of k terms changes it by at most k·eps of the sum of their
    magnitudes, as any order does; no other licence of fast-math is taken but
    fused multiply-add, which rounds less.
    """
    flags = {"reassoc", "contract", "nsz"}
    return _compiled(function, fastmath=flags)


def thread_count() -> int:
    """Return how many threads a call may use: Numba's for the calling thread, and 1 in a forked child."""
    return 1 if os.getpid() != _IMPORTED_BY else int(numba.get_num_threads())


def is_small(size: int) -> bool:
    """Tell whether the calling thread computes arrays of so many values alone."""
    return size <= SMALL


class Kernel:
    """A loop that fills its last arguments, compiled when first called.

    Each iteration of its ``prange``, or each task of a team, writes only its own results, so both builds
    and every number of threads give the same bits.
    """

    def __init__(self, loop: Callable[..., None]) -> None:
        self._serial = _compiled(_renamed(loop, "serial"))
        explicit = {"prange": True} | dict.fromkeys(_IMPLICIT, False)
        self._parallel = _compiled(_renamed(loop, "parallel"), parallel=explicit)
        self.__doc__ = loop.__doc__
        self.__wrapped__ = loop

    def __call__(self, *arguments: object) -> None:
        """Run the build that is safe where this call comes from, and the serial one on small arrays."""
        if thread_count() == 1 or not any(map(_is_large, arguments)):
            self._serial(*arguments)
            return
        with _ONE_PARALLEL_CALL if _may_be_workqueue() else nullcontext():
            self._parallel(*arguments)


def _is_large(argument: object) -> bool:
    return isinstance(argument, np.ndarray) and not is_small(argument.size)


def _renamed(loop: Callable[..., None], build: str) -> Callable[..., None]:
    """Copy a function under another name: the cache's key leaves out how it was compiled."""
    source = cast(FunctionType, loop)
    copy = FunctionType(source.__code__, source.__globals__, f"{source.__name__}_{build}")
    copy.__qualname__ = copy.__name__
    copy.__module__ = source.__module__
    copy.__doc__ = source.__doc__
    return copy


def _may_be_workqueue() -> bool:
    try:
        return bool(numba.threading_layer() == "workqueue")  # type: ignore[attr-defined]
    except ValueError:  # the first parallel call chooses the layer
        return True
