"""Tests of the kernels go through the loops for several threads, also with the smallest arrays."""

import pytest

from eigenfeatures.kernels.cpu import compile


@pytest.fixture(autouse=True)
def parallel_at_any_size(monkeypatch):
    """Let no array be so small that a call runs on one thread; `test_compile` tests which are."""
    monkeypatch.setattr(compile, "SMALL", 0)
