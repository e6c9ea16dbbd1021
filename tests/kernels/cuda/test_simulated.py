"""The tests of the folder `device`, in Numba's simulator."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted((Path(__file__).parent / "device").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_in_the_simulator(file, tmp_path):
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        str(file),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = ElementTree.parse(report).getroot().find("testsuite").attrib  # noqa: S314
    written = file.read_text(encoding="utf-8").count("\ndef test_")
    assert written > 0
    assert int(counts["tests"]) >= written
    assert [counts[key] for key in ("skipped", "failures", "errors")] == ["0", "0", "0"]


def test_all_files_are_found():
    assert {file.stem for file in FILES} >= {"test_gradient", "test_statistics", "test_channels"}
