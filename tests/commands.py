"""Call the command line as a user does, in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

from eigenfeatures.export import cli

# Options of a run that takes seconds; `conftest.quick_settings` says the same in Python.
QUICK = ("--preset", "small", "--iterations", "6", "--batch-size", "8", "--rank", "2")

# For processes that start elsewhere: the same packages, whether from a checkout or an installation.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "PYTHONIOENCODING": "utf-8",
}


@dataclass(frozen=True)
class Answer:
    """What a command left behind: its exit code and what it wrote."""

    code: int
    output: str
    error: str


def call(*arguments: object) -> Answer:
    """Run ``eigenfeatures`` in this process, with neither stream a terminal."""
    output, error = io.StringIO(), io.StringIO()
    argv = ["eigenfeatures", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(error),
    ):
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code or 0
    return Answer(code, output.getvalue(), error.getvalue())


def spawn(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start ``eigenfeatures`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eigenfeatures.export", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        **options,
    )
