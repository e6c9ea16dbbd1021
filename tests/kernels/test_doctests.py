"""The examples of the kernels' docstrings run."""

import doctest
import importlib
import inspect
import pkgutil
import re
from dataclasses import fields, is_dataclass

import pytest

from eigenfeatures import kernels

# Importing the last is running it.
PUBLIC = {module.name for module in pkgutil.iter_modules(kernels.__path__) if not module.ispkg} - {"__main__"}
RESULTS = ["SliceStatistics", "StreamedSVD", "StrongestChannel", "TruncatedSVD"]
ALIASES = ["MASKS", "OPERATORS", "Backend", "Mask", "Operator"]
FUNCTIONS = sorted(set(kernels.__all__) - {*RESULTS, *ALIASES})
WITHOUT = {"arrays", "call", "host_parts", "moments", "operators", "second_pass", "warm"}


@pytest.mark.parametrize("name", RESULTS)
def test_every_part_of_a_result_is_described(name):
    result = getattr(kernels, name)
    parts = [field.name for field in fields(result)] if is_dataclass(result) else result._fields
    described = result.__doc__.partition("Attributes\n")[2]
    assert [
        part for part in parts if not re.search(rf"^    \S.*\b{part}\b|^    {part}\b", described, re.M)
    ] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_gives_and_refuses(name):
    function = getattr(kernels, name)
    headings = dict(re.findall(r"^    (\w+)\n    -+\n(.*?)(?=\n\n|\Z)", function.__doc__, re.M | re.S))
    described = ", ".join(re.findall(r"^    (\w.*)$", headings["Parameters"], re.M)).split(", ")
    assert sorted(described) == sorted(inspect.signature(function).parameters)
    refused = (
        ["TypeError", "ValueError"] if inspect.isclass(function) else ["TypeError", "ValueError", "OSError"]
    )
    assert re.findall(r"^    (\w+)$", headings["Raises"], re.M) == refused
    assert "Returns" in headings or inspect.isclass(function)
    assert doctest.DocTestFinder(recurse=False).find(function)[0].examples


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"eigenfeatures.kernels.{name}"))
    assert result.failed == 0
    assert (result.attempted > 0) == (name not in WITHOUT)
