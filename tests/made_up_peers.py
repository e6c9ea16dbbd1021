"""Libraries that answer at once, and a clock that keeps the times given to it."""

import types

import measure
import numpy as np
from peers.checks import CloseTo
from peers.table import Library, Operation, Work


class Clock:
    """In the place of pytest-benchmark's fixture: it calls as `pedantic` does, and keeps times."""

    def __init__(self, disabled=False):
        self.disabled = disabled
        self.stats = None
        self.group = None

    def pedantic(self, target, setup, rounds):
        for _ in range(rounds):
            setup()
            target()
        data = [1.0] * rounds
        self.stats = None if self.disabled else types.SimpleNamespace(stats=types.SimpleNamespace(data=data))


def operation_of(*libraries):
    work = Work(np.ones(3), CloseTo(np.ones(3)), "3", bytes=12)
    return Operation("copy", dict.fromkeys(measure.EFFORTS, ()), lambda _: work, libraries)


def library(name, role="peer", result=1.0, calls=None, **options):
    def call():
        if calls is not None:
            calls.append(name)
        return np.full(3, result)

    return Library(name, "", "numpy", lambda _: call, role, **options)
