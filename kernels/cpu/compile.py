"""How the loops are compiled: one source, a serial and a parallel build.

Numba's threads have two traps. After a fork, OpenMP ends the child that enters
a parallel region; and the workqueue layer ends the process where two threads
enter one at a time. So a forked child runs the serial build, as does
``numba.set_num_threads(1)``, and under workqueue a lock lets one call in.

Compiled code is cached beside the source. Numba's cache notices a change of the
file of a kernel, not of a helper that the kernel imports from another file.
"""

import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from types import FunctionType
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

# What Numba would make parallel besides `prange`, at twice the time to compile.
_IMPLICIT = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")

_IMPORTED_BY = os.getpid()
_ONE_PARALLEL_CALL = threading.Lock()


def helper(function: F) -> F:
    """Compile a function that only kernels call."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


def reduction(function: F) -> F:
    """Compile a helper whose sums may be reordered into vector lanes.

    Reordering a sum of k terms changes it by at most k·eps of the sum of their
    magnitudes, as any order does; no other licence of fast-math is taken but
    fused multiply-add, which rounds less.
    """
    flags = {"reassoc", "contract", "nsz"}
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=flags)(function))


class Kernel:
    """A loop that fills its last arguments, compiled when first called.

    Each iteration of its ``prange`` writes only its own results, so both builds
    and every number of threads give the same bits.
    """

    def __init__(self, loop: Callable[..., None]) -> None:
        self._serial = numba.njit(cache=True, nogil=True)(_renamed(loop, "serial"))
        explicit: dict[str, Any] = {"parallel": {"prange": True} | dict.fromkeys(_IMPLICIT, False)}
        self._parallel = numba.njit(cache=True, nogil=True, **explicit)(_renamed(loop, "parallel"))
        self.__doc__ = loop.__doc__
        self.__wrapped__ = loop

    def __call__(self, *arguments: object) -> None:
        """Run the build that is safe where this call comes from."""
        if numba.get_num_threads() == 1 or os.getpid() != _IMPORTED_BY:
            self._serial(*arguments)
            return
        with _ONE_PARALLEL_CALL if _may_be_workqueue() else nullcontext():
            self._parallel(*arguments)


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
