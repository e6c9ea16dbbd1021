"""Measurements of memory in a process that holds nothing of other tests.

Their memory could be freed meanwhile, or be taken for what is measured.
"""

import os
import subprocess
import sys


def printed(code, *arguments):
    """Return the numbers that `code` prints in a Python of its own, which imports what the tests can."""
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return [float(number) for number in run.stdout.split()]
