"""The tests of the folder `device`, in Numba's simulator."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from numba.cuda import types
from numba.cuda.np.numpy_support import as_dtype

import eigenfeatures.kernels.cuda
from eigenfeatures.kernels.cuda.compile import REGISTRY

ROOT = Path(__file__).parents[3]
FILES = sorted((Path(__file__).parent / "device").glob("test_*.py"))

for module in pkgutil.iter_modules(eigenfeatures.kernels.cuda.__path__):
    importlib.import_module(f"eigenfeatures.kernels.cuda.{module.name}")


class Simulated(NamedTuple):
    """How the tests of a file went, and which kernels ran in them, each with the types of its arrays."""

    status: int
    said: str
    counts: dict[str, str]
    launched: set[str]


@cache
def simulated(file):
    """Run the tests of a file in a process of their own, once for all tests here."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--junitxml={report}", str(file)],
            cwd=ROOT,
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = done.stdout + done.stderr
        assert report.exists(), said
        suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314
    told = suite.find("properties/property[@name='launched']")
    launched = set() if told is None else set(json.loads(told.attrib["value"]))
    return Simulated(done.returncode, said, suite.attrib, launched)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_in_the_simulator(file):
    done = simulated(file)
    assert done.status == 0, done.said
    written = file.read_text(encoding="utf-8").count("\ndef test_")
    assert written > 0
    assert int(done.counts["tests"]) >= written
    assert [done.counts[key] for key in ("skipped", "failures", "errors")] == ["0", "0", "0"]


def test_all_files_are_found():
    assert {file.stem for file in FILES} >= {"test_gradient", "test_statistics", "test_channels"}


def registered():
    """Every kernel with the types of arrays that it is compiled for, as `simulated` tells them."""
    return {
        " ".join([kernel.name, *(str(as_dtype(item.dtype)) for item in signature.args if is_array(item))])
        for kernel in REGISTRY
        for signature in kernel.signatures
    }


def is_array(kind):
    return isinstance(kind, types.Array)


def test_every_kernel_ran():
    """With every type of pixels that it is compiled for, in one file or another."""
    ran = set().union(*(simulated(file).launched for file in FILES))
    assert registered() - ran == set()


def test_what_no_file_launches_is_seen():
    """The negative control: one file alone leaves all kernels but its own."""
    (file,) = (file for file in FILES if file.stem == "test_channels")
    missing = registered() - simulated(file).launched
    assert {name.partition(".")[0] for name in registered() - missing} == {"channels"}
    assert "jacobi.eigenvectors float64 bool" in missing
