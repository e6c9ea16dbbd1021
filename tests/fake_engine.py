"""A model that NumPy computes in an instant, and jobs with it in processes of their own."""

import hashlib
import os
import time
from pathlib import Path
from unittest import mock

import numpy as np

from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.batch import opening, to_folder
from eigenfeatures.export.batch.engine import DeviceMemoryError, Engine
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.talk import Talk

QUIET = Talk(silent, lambda _: None)

FACTS = ModelFacts(
    file=Path("fake"),
    sha256="0" * 64,
    classes=("dark", "bright"),
    size=None,
    dtype=None,
    operator="sobel",
    preset="small",
    layer="relu2",
    resolution="pooled",
)


class FakeEngine(Engine):
    """Classes by the mean grey value, and every second pixel as the one response map."""

    name, reason = "fake-cpu", "a test"
    outputs = ("probabilities", "eigenfeatures", "singular_values", "gap", "residual")

    def __init__(self, facts=FACTS, room=10**9, seconds=0.0, log=None):
        self.facts, self.room, self.seconds, self.log = facts, room, seconds, log
        self.batches = []
        self.closed = False
        self._note("opens")

    def __call__(self, slices):
        self.batches.append(len(slices))
        if len(slices) > self.room:
            raise DeviceMemoryError(f"no room for {len(slices)}")
        self._note(computing(slices))
        time.sleep(self.seconds)
        return results_of(slices)

    def run(self, batches):
        return map(self, batches)

    def close(self):
        self.closed = True
        self._note("closes")

    def _note(self, event):
        """Add a line to the log that processes share, and wait while a file beside it names the event."""
        if self.log is None:
            return
        with Path(self.log).open("a") as file:
            file.write(f"{os.getpid()} {event}\n")
        while held_event(self.log) == event:
            time.sleep(0.002)


def computing(slices):
    """What `FakeEngine` notes when it is given slices."""
    return f"computes {hashlib.sha256(slices.tobytes()).hexdigest()}"


def hold(log):
    """The file that names the event at which all processes with this log wait."""
    return Path(f"{log}.hold")


def held_event(log):
    try:
        return hold(log).read_text()
    except FileNotFoundError:
        return None


def results_of(slices):
    """The oracle of `FakeEngine`."""
    maps = slices[:, None, ::2, ::2].astype(np.float32)
    bright = slices.mean((1, 2)).astype(np.float32) / 255
    return {
        "probabilities": np.stack([1 - bright, bright], 1),
        "eigenfeatures": maps,
        "singular_values": np.sqrt((maps**2).sum((1, 2, 3)))[:, None],
        "gap": np.full(len(slices), 0.5, np.float32),
        "residual": np.zeros(len(slices), np.float32),
    }


def dask_setup(worker):  # noqa: ARG001
    """Let a worker of Dask that has this module as a preload open a slow `FakeEngine` in place of a model."""
    log = os.environ.get("FAKE_ENGINE_LOG")
    opening.open_engine = lambda *_, **__: FakeEngine(seconds=0.01, log=log)


def run_job(stack, out, seconds=0.0, say=None, **options):
    """Do a job with a `FakeEngine`; importable, so that another process can."""
    talk = QUIET if say is None else Talk(silent, say)
    with mock.patch.object(opening, "open_engine", return_value=FakeEngine(seconds=seconds)):
        return to_folder.infer_to_folder(Path("fake"), [Path(stack)], Path(out), Options(**options), talk)
