"""Roofs: what the memory allows to the same number of threads that do nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from peers.checks import CloseTo
from peers.table import Library

Array = NDArray[Any]

_BLOCK = 65_536


@njit(parallel=True, cache=True)
def _copy(source: Any, out: Any) -> None:
    for i in prange(source.size):
        out[i] = source[i]


@njit(parallel=True, cache=True)
def _copy_twice(source: Any, first: Any, second: Any) -> None:
    for i in prange(source.size):
        first[i] = source[i]
        second[i] = source[i]


@njit(fastmath={"reassoc"}, cache=True)
def _total(values: Any, start: Any) -> Any:
    total = start
    for i in range(values.size):
        total += values[i]
    return total


@njit(parallel=True, cache=True)
def _totals(values: Any, start: Any, out: Any) -> None:
    for k in prange(out.size):
        out[k] = _total(values[k * _BLOCK : (k + 1) * _BLOCK], start)


def _copying(images: Array) -> Callable[[], Array]:
    out = np.empty(images.shape, np.float32)

    def call() -> Array:
        _copy(images.reshape(-1), out.reshape(-1))
        return out

    return call


def _copying_twice(images: Array) -> Callable[[], tuple[Array, Array]]:
    first, second = np.empty(images.shape, np.float32), np.empty(images.shape, np.float32)

    def call() -> tuple[Array, Array]:
        _copy_twice(images.reshape(-1), first.reshape(-1), second.reshape(-1))
        return first, second

    return call


def _reading(values: Array) -> Callable[[], float]:
    flat = values.reshape(-1)
    start = np.float32(0) if flat.dtype == np.float32 else np.int32(0)
    shares = np.empty(-(-flat.size // _BLOCK), np.float64)

    def call() -> float:
        _totals(flat, start, shares)
        return float(shares.sum())

    return call


def _copied(images: Array) -> CloseTo:
    return CloseTo(images.astype(np.float32), bound=0.0)


def _copied_twice(images: Array) -> CloseTo:
    return CloseTo(images, images, bound=0.0)


def _read(values: Array) -> CloseTo:
    return CloseTo(np.array(values.sum(dtype=np.float64)), bound=1e-4)


COPY = Library("copy", "", "numba", _copying, "roof", check=_copied)
COPY_TWICE = Library("copy to two", "", "numba", _copying_twice, "roof", check=_copied_twice)
CONVERSION = Library("conversion to float32", "", "numba", _copying, "roof", check=_copied)
READ = Library("one read", "", "numba", _reading, "roof", check=_read)
