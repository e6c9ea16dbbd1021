"""The cache of compiled kernels: where it lies, and that it forgets what has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from eigenfeatures import kernels
from eigenfeatures.kernels.cpu import cache

KERNEL = """
from eigenfeatures.kernels.cpu.compile import helper
from eigenfeatures.kernels.cpu.made_up_helper import (
    FACTOR,  # a constant
    doubled,
)

@helper
def result():
    return doubled(FACTOR)
"""

HELPER = """
from eigenfeatures.kernels.cpu import made_up_offset
from eigenfeatures.kernels.cpu.compile import helper

FACTOR = 1
offset = made_up_offset.offset

@helper
def doubled(number):
    return 2 * number + offset()
"""

OFFSET = """
from eigenfeatures.kernels.cpu.compile import helper

@helper
def offset():
    return 100
"""

USE = """
from eigenfeatures.kernels.cpu.made_up import result
print(result(), sum(result.stats.cache_hits.values()))
"""


@pytest.fixture
def copied(tmp_path):
    """A copy of the kernels with three made-up files."""
    folder = tmp_path / "copy" / "eigenfeatures" / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (("made_up", KERNEL), ("made_up_helper", HELPER), ("made_up_offset", OFFSET)):
        (folder / "cpu" / f"{name}.py").write_text(text)
    return folder


def used(copied, caches):
    """What the made-up kernel returns, and how many of its builds came from the cache, in a new process."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    paths = {"PYTHONPATH": str(copied.parents[1]), "XDG_CACHE_HOME": str(caches)}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment | paths, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_a_changed_helper_or_constant_of_another_file_is_noticed(copied, tmp_path):
    assert used(copied, tmp_path / "caches") == (102, 0)
    assert used(copied, tmp_path / "caches") == (102, 1)
    (copied / "cpu" / "made_up_helper.py").write_text(HELPER.replace("FACTOR = 1", "FACTOR = 2"))
    assert used(copied, tmp_path / "caches") == (104, 0)
    (copied / "cpu" / "made_up_offset.py").write_text(OFFSET.replace("100", "200"))
    assert used(copied, tmp_path / "caches") == (204, 0)
    (copied / "cpu" / "gram.py").touch()
    (copied / "cpu" / "channels.py").write_text("")
    assert used(copied, tmp_path / "caches") == (204, 1), "other files change nothing"

    lies_in = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*.nbi")}
    assert lies_in == {("caches", "eigenfeatures", "numba")}, "none beside the package"


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    before = numba.config.CACHE_DIR
    with cache.own_folder():
        assert before == numba.config.CACHE_DIR, "Numba chooses"


def test_a_file_that_is_not_there_has_a_digest(tmp_path):
    """As in a zip archive, where no source can be read."""
    assert cache.digest(str(tmp_path / "none.py")) == cache.digest(str(tmp_path / "nothing.py"))
