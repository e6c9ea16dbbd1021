"""Kernels on a GPU against their peers: `python -m pytest benchmarks -m cuda`."""

from collections.abc import Callable
from typing import Any

import pytest
from measure import Effort, Measured, measure
from peers import OPERATIONS, cuda
from peers.table import Operation

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    if (reason := cuda.missing()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(
    "operation", [operation for operation in OPERATIONS if operation.device == "cuda"], ids=lambda op: op.name
)
def test_cuda(
    operation: Operation, benchmark: Any, effort: Effort, record: Callable[[Measured], None]
) -> None:
    record(measure(benchmark, operation, effort))
