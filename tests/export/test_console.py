"""Progress: how fast and what time is left, as a bar in a terminal and as a line a minute elsewhere."""

import os
import pty
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from commands import random_stack
from fake_engine import FakeEngine

from eigenfeatures.export import cli
from eigenfeatures.export.batch import opening
from eigenfeatures.export.console import tell_progress, terminal_talk


class Minutes:
    """A clock that the items of a loop move on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def passing(self, count, seconds, block=1):
        """Yield items of which each so-manyth takes a while, and the others none."""
        for number in range(count):
            if number % block == 0:
                self.now += seconds
            yield number


def told(clock, items, total):
    said = []
    passed = list(tell_progress(items, "slices", total, said.append, clock))
    return passed, said


def test_a_line_a_minute_says_what_is_done_how_fast_and_what_time_is_left():
    clock = Minutes()
    passed, said = told(clock, clock.passing(700, 0.5), 700)
    assert passed == list(range(700))
    assert said == [
        "slices: 119 of 700, 2/s, 0:04:50 left",
        "slices: 239 of 700, 2/s, 0:03:50 left",
        "slices: 359 of 700, 2/s, 0:02:50 left",
        "slices: 479 of 700, 2/s, 0:01:50 left",
        "slices: 599 of 700, 2/s, 0:00:50 left",
    ]


def test_nothing_is_said_in_the_first_minute():
    clock = Minutes()
    assert told(clock, clock.passing(100, 0.59), 100)[1] == []


def test_items_that_come_in_blocks_have_their_true_speed():
    """However long a block takes; before the second one no speed is known."""
    clock = Minutes()
    _, said = told(clock, clock.passing(96, 320, block=32), 96)
    assert said == [
        "slices: 0 of 96",
        "slices: 32 of 96, 0.1/s, 0:10:40 left",
        "slices: 64 of 96, 0.1/s, 0:05:20 left",
    ]


def test_days_are_told_as_such():
    clock = Minutes()
    _, said = told(clock, clock.passing(3, 61), 10**4)
    assert said[-1] == "slices: 2 of 10000, 0.0164/s, 7 days, 1:24:38 left"


def test_without_a_terminal_the_lines_go_to_standard_error(monkeypatch, capsys):
    """And what ends within a minute prints none."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    talk = terminal_talk()
    assert list(talk.track(range(3), "slices", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("eigenfeatures.export.console._BETWEEN_LINES", 0)
    assert list(talk.track(range(3), "slices", 3)) == [0, 1, 2]
    output, error = capsys.readouterr()
    assert output == ""
    assert [line.partition(",")[0] for line in error.splitlines()] == [
        f"slices: {done} of 3" for done in range(3)
    ]


def read_all(descriptor):
    """What is written at the other end of a pseudo-terminal until it is closed there."""
    pieces = []
    try:
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
    except OSError:  # how Linux tells that it is closed
        pass
    os.close(descriptor)
    return b"".join(pieces).decode()


def test_a_terminal_gets_slices_a_second_and_the_time_left(tmp_path, monkeypatch):
    """Standard error is a pseudo-terminal here, and what it shows comes out at the other end."""
    np.save(tmp_path / "scan.npy", random_stack((40, 16, 16)))
    monkeypatch.setattr(opening, "open_engine", lambda *_, **__: FakeEngine(seconds=0.02))
    monkeypatch.setenv("TERM", "xterm")
    other_end, terminal = pty.openpty()
    shown = ThreadPoolExecutor(1).submit(read_all, other_end)
    argv = ["eigenfeatures", "infer", "fake", str(tmp_path / "scan.npy"), "--out", str(tmp_path / "out")]
    with os.fdopen(terminal, "w") as error:
        monkeypatch.setattr(sys, "argv", [*argv, "--batch-size", "1", "--max-memory", "100GB"])
        monkeypatch.setattr(sys, "stderr", error)
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    text = shown.result()
    # The last picture, of a job of 0.8 s at least.
    speeds = re.findall(r"slices.*?40/40.*?([\d.]+)/s.*?left", text, re.DOTALL)
    assert speeds, text
    assert 0 < float(speeds[-1]) < 100
