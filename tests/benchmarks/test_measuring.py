"""How libraries are timed: in turn, never on a wrong answer, and what goes untimed."""

import dataclasses
import sys
import types

import ledger
import measure
import numba
import numpy as np
import pytest
from made_up_peers import Clock, library, operation_of
from peers import cuda
from peers.table import Library, Reopened, WrongAnswer


def test_rounds_of_the_libraries_alternate():
    calls = []
    libraries = [library(name, "ours" if name == "a" else "peer", calls=calls) for name in "abc"]
    found = measure.measure(Clock(), operation_of(*libraries), measure.Effort("full", 1.0, 4, 4, 0.0))
    assert "".join(calls[6:]) == "bca" + "cba" + "bca" + "cba"
    assert [len(timing.seconds) for timing in found.timings] == [4, 4, 4]


def test_a_slow_library_sits_out_rounds_evenly():
    runner = measure._Runner(measure.Timing(library("b")), lambda: None, 3, 0.0, 1)
    assert [number for number in range(10) if runner.is_due(number, 10)] == [0, 4, 7]


def test_calls_are_queued_on_a_gpu_and_waited_for_once(monkeypatch):
    """The seconds are those of a call, whether one or several make a round."""
    log = []
    device = types.SimpleNamespace(synchronize=lambda: log.append("wait"))
    monkeypatch.setitem(
        sys.modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(Device=lambda: device))
    )
    call = cuda.Queued(lambda: log.append("call"))
    call(3)
    assert log == ["call", "call", "call", "wait"]

    monkeypatch.setattr(measure, "_seconds", lambda function: (0.012, function()))
    queued = library("a", "ours")
    queued = dataclasses.replace(queued, prepare=lambda _: cuda.Queued(lambda: np.full(3, 1.0)))
    found = measure.measure(Clock(), operation_of(queued, library("b")), measure.Effort("full", 1, 2, 2, 0.0))
    assert set(found.timings[1].seconds.values()) == {0.012}
    runner = measure._Runner(measure.Timing(queued), call, 2, 0.0, 4)
    log.clear()
    runner.run()
    assert log == ["call"] * 4 + ["wait"]


def test_what_is_opened_before_a_round_is_not_timed(monkeypatch):
    log = []

    def timed(function):
        log.append("start")
        return 0.01, function()

    def work(opened):
        log.append("work")
        return opened

    def opening():
        log.append("open")
        return np.full(3, 1.0)

    monkeypatch.setattr(measure, "_seconds", timed)
    reopened = dataclasses.replace(library("b"), prepare=lambda _: Reopened(opening, work))
    measure.measure(Clock(), operation_of(library("a", "ours"), reopened), measure.Effort("full", 1, 2, 2, 0))
    assert log[2:] == ["start", "open", "work"] * 2 + ["open", "start", "work"] * 2
    log.clear()
    ours = dataclasses.replace(reopened, role="ours")
    measure.measure(Clock(), operation_of(ours), measure.Effort("full", 1, 2, 2, 0))
    assert log == ["start", "open", "work"] * 2 + ["open", "work"] * 2


@pytest.mark.parametrize(("seconds", "is_long"), [(0.2, False), (0.4, True)])
def test_a_long_call_goes_without_warm_up(monkeypatch, seconds, is_long):
    calls = []
    monkeypatch.setattr(measure, "_seconds", lambda function: (seconds, function()))
    operation = operation_of(library("a", "ours"), library("b", calls=calls))
    measure.measure(Clock(), operation, measure.Effort("full", 1, 2, 2, 0.05))
    assert (len(calls) == 4) is is_long


def test_a_wrong_peer_is_not_timed_and_ours_must_be_right():
    operation = operation_of(library("a", "ours"), library("b", result=2.0), library("c"))
    found = measure.measure(Clock(), operation, measure.EFFORTS["smallest"])
    wrong = found.timings[1]
    assert not wrong.seconds
    assert "wrong, so not timed" in wrong.remark
    assert len(found.timings[2].seconds) == 1
    with pytest.raises(WrongAnswer, match="ours"):
        measure.measure(Clock(), operation_of(library("a", "ours", 2.0)), measure.EFFORTS["smallest"])


def test_a_peer_that_fails_is_named_and_the_others_are_timed():
    def fail():
        raise RuntimeError("no such device")

    broken = dataclasses.replace(library("b"), prepare=lambda _: fail)
    operation = operation_of(library("a", "ours"), broken, library("c"))
    found = measure.measure(Clock(), operation, measure.EFFORTS["smallest"])
    assert found.timings[1].remark == "failed, so not timed: RuntimeError: no such device"
    assert len(found.timings[2].seconds) == 1
    ours = dataclasses.replace(library("a", "ours"), prepare=lambda _: fail)
    with pytest.raises(RuntimeError, match="no such device"):
        measure.measure(Clock(), operation_of(ours), measure.EFFORTS["smallest"])


def test_nothing_is_recorded_where_timing_is_disabled():
    operation = operation_of(library("a", "ours"), library("b"))
    found = measure.measure(Clock(disabled=True), operation, measure.EFFORTS["smallest"])
    assert not any(timing.seconds for timing in found.timings)
    assert ledger.Run.start(measure.EFFORTS["full"]).rows(found) == []


def test_a_library_that_is_missing_or_heavy_is_left_out_with_a_remark():
    missing = Library("x", "", "no_such_module", lambda _: None)
    heavy = library("y", heavy=True, in_quick=False)
    operation = operation_of(library("a", "ours"), missing, heavy)
    quick = measure.measure(Clock(), operation, measure.Effort("quick", 0.0, 1, 1, 0.0))
    assert [timing.remark for timing in quick.timings] == [
        "",
        "not installed: no_such_module",
        "only in a full run",
    ]
    full = measure.measure(Clock(), operation, measure.Effort("full", 0.0, 3, 3, 0.0))
    assert list(full.timings[2].seconds) == [0]


def test_a_first_call_says_how_long_it_compiled():
    @numba.njit
    def compiled(x):
        return x + 0.0

    by_numba = dataclasses.replace(
        library("b"), module="numba", prepare=lambda _: lambda: np.full(3, compiled(1.0))
    )
    operation = operation_of(library("a", "ours"), by_numba)
    first = measure.measure(Clock(), operation, measure.EFFORTS["smallest"]).timings
    assert np.isnan(first[0].compile)
    assert 0 < first[1].compile <= first[1].first_call
    again = measure.measure(Clock(), operation, measure.EFFORTS["smallest"]).timings
    assert again[1].compile == 0
