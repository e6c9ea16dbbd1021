"""The same number of threads for every library."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def count() -> int:
    """Return the number of threads: Numba's, which NUMBA_NUM_THREADS sets."""
    return int(numba.get_num_threads())


@cache
def pool() -> ThreadPoolExecutor:
    """Return the pool for libraries that use one thread a call."""
    return ThreadPoolExecutor(count())


def hold() -> None:
    """Give BLAS and torch, where they are loaded, the same number of threads."""
    blas_limiter()(count())
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count())


def blas_limiter() -> Callable[[int], AbstractContextManager[Any]]:
    """Return what sets the number of threads of the BLAS libraries loaded by now.

    In a ``with`` statement the number holds for the block, else for good. Without threadpoolctl
    nothing happens, and BLAS takes a thread a core.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return lambda _: nullcontext()
    controller = ThreadpoolController()
    return lambda limit: controller.limit(limits=limit, user_api="blas")


def in_shares(items: int, one: Callable[..., None], number: int | None = None) -> Callable[..., None]:
    """Return a call that does ``one(share, item, *arguments)`` for all items, each thread its share."""
    shares = np.array_split(np.arange(items), count() if number is None else number)

    def do(k: int, *arguments: Any) -> None:
        for item in shares[k]:
            one(k, item, *arguments)

    def call(*arguments: Any) -> None:
        if len(shares) == 1:
            do(0, *arguments)
        else:
            list(pool().map(lambda k: do(k, *arguments), range(len(shares))))

    return call
