"""Functions that kernels call by their address."""

from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel
from eigenfeatures.kernels.cpu.separate import Separate, call


class Pair(NamedTuple):
    """Two arrays, as kernels hand them on."""

    values: Any
    sums: Any


@Separate
def add_row(row: int, factor: float, pair: Any) -> None:
    """Sum a row of the values, which must not be negative."""
    for j in range(pair.values.shape[1]):
        if pair.values[row, j] < 0:
            raise ValueError("negative")
        pair.sums[row] += factor * pair.values[row, j]


@Kernel
def add_rows(address: int, factor: float, pair: Any) -> None:
    """Sum all rows."""
    for row in prange(len(pair.sums)):
        call(address, (row, factor, pair))


def add(values: Any) -> Any:
    pair = Pair(values, np.zeros(len(values)))
    add_rows(add_row.address(values.dtype, 0, 2.0, pair), 2.0, pair)
    return pair.sums


@pytest.fixture(params=[1, 2])
def _threads(request):
    before = numba.get_num_threads()
    numba.set_num_threads(min(request.param, before))
    yield
    numba.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_calls_by_address_do_what_the_function_does():
    for _ in range(2):
        for dtype in (np.float32, np.float64, np.float32):
            values = np.arange(21, dtype=dtype).reshape(7, 3)
            assert add(values).tolist() == (2 * values.sum(axis=1)).tolist()


def test_an_error_reaches_the_caller():
    """In the serial build; a parallel loop tells of errors in its own way."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with pytest.raises(ValueError, match="negative"):
            add(np.array([[1.0, -1.0]]))
    finally:
        numba.set_num_threads(before)


def test_views_with_gaps_are_refused():
    """The address is of code for contiguous arrays."""
    values = np.zeros((4, 4))
    address = add_row.address(values.dtype, 0, 2.0, Pair(values, np.zeros(4)))
    with pytest.raises(numba.TypingError, match="arrays must be contiguous"):
        add_rows(address, 2.0, Pair(values[:, ::2], np.zeros(4)))
