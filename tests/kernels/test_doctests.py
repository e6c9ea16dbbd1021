"""The examples of the kernels' docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

from eigenfeatures import kernels

# Importing the last is running it.
PUBLIC = {module.name for module in pkgutil.iter_modules(kernels.__path__) if not module.ispkg} - {"__main__"}
WITHOUT = {"arrays", "call", "host_parts", "moments", "operators", "second_pass", "warm"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"eigenfeatures.kernels.{name}"))
    assert result.failed == 0
    assert (result.attempted > 0) == (name not in WITHOUT)
