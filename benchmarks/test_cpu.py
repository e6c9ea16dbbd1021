"""Kernels on the processor against their peers: `python -m pytest benchmarks`."""

from collections.abc import Callable
from typing import Any

import pytest
from measure import Effort, Measured, measure
from peers import OPERATIONS
from peers.table import Operation


@pytest.mark.parametrize(
    "operation", [operation for operation in OPERATIONS if operation.device == "cpu"], ids=lambda op: op.name
)
def test_cpu(
    operation: Operation, benchmark: Any, effort: Effort, record: Callable[[Measured], None]
) -> None:
    if effort.name == "quick" and not operation.libraries[0].in_quick:
        pytest.skip("only in a full run")
    record(measure(benchmark, operation, effort))
