"""Call the command line as a user does, in this process or in one of its own."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

import numpy as np

from eigenfeatures.export import cli

COMMANDS = ("run", "stats", "train", "export", "model-info", "infer", "features", "report", "demo", "phantom")
ON_A_RUN = ("export", "infer", "features", "report")

# Options of a run that takes seconds; `conftest.quick_settings` says the same in Python.
QUICK = ("--preset", "small", "--iterations", "6", "--batch-size", "8", "--rank", "2")

# For processes that start elsewhere: the same packages, whether from a checkout or an installation, and no
# sign that tests are shared between workers, which pytest-benchmark would look for.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")},
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


def with_layer(run, copy, layer):
    """A copy of a run whose `run.toml` names another layer, as `features --layer` leaves it."""
    shutil.copytree(run, copy)
    text = (copy / "run.toml").read_text(encoding="utf-8")
    (copy / "run.toml").write_text(text.replace('layer = "relu2"', f'layer = "{layer}"'), encoding="utf-8")
    return copy


def without_named_maps(run, path):
    """The file of a run as another version exported it, whose maps ONNX Runtime alone can decompose."""
    import onnx

    from eigenfeatures.export.graph_edits import rename
    from eigenfeatures.export.metadata import save_graph
    from eigenfeatures.export.outputs import RESPONSE_MAPS

    proto = onnx.load_model(run / "model.onnx")
    rename(proto.graph, RESPONSE_MAPS, "unnamed")
    save_graph(proto, path)
    return path


def assert_refused(answer, *reasons, code=2):
    """One line that starts with "error: ", the last one, and gives each of the reasons."""
    lines = answer.error.splitlines()
    assert answer.code == code, answer.error
    assert answer.output == ""
    assert "Traceback" not in answer.error
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True], answer.error
    for reason in reasons:
        assert re.search(reason, lines[-1]), f"{reason!r} is not in {lines[-1]!r}"


def parsed(answer):
    """The JSON that is all of standard output; ``NaN`` is not JSON."""
    assert answer.code == 0, answer.error

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(answer.output, parse_constant=refuse)


def random_stack(shape=(12, 40, 40), dtype=np.uint8):
    """A stack of noise, 12 slices of 40×40 unless told otherwise."""
    return np.random.default_rng(5).integers(0, 255, shape).astype(dtype)
