"""Kernels against their peers: `python -m pytest benchmarks`, ratios in brackets, none of a wrong answer."""

import pytest
from peers import operations

OPERATIONS = operations()


@pytest.mark.parametrize(
    ("operation", "library"),
    [(name, library) for name, operation in OPERATIONS.items() for library in operation.calls],
)
def test_speed(benchmark, operation, library):
    work, call = OPERATIONS[operation].work, OPERATIONS[operation].calls[library]
    OPERATIONS[operation].check(call(work))  # which compiles, too
    benchmark.group = operation
    benchmark.extra_info["library"] = library
    benchmark(call, work)
