"""Times add up, also of spans within spans, and the trace is what a browser opens."""

import json
import threading
import time

import pytest

from eigenfeatures.export.batch.clock import Clock


def test_a_span_within_another_is_not_counted_twice():
    clock = Clock()
    start = time.perf_counter()
    with clock.span("outer"):
        time.sleep(0.02)
        with clock.span("inner"):
            time.sleep(0.05)
        time.sleep(0.02)
    took = time.perf_counter() - start
    assert 0.09 <= sum(clock.seconds.values()) <= took
    assert clock.seconds["inner"] >= 0.05
    assert 0.04 <= clock.seconds["outer"] < 0.05 + took - 0.09
    assert sum(clock.shares().values()) == pytest.approx(1)


def test_threads_do_not_mix():
    clock = Clock(keep=True)
    ready = threading.Barrier(2, timeout=10)

    def work():
        with clock.span("same"):
            ready.wait()
            time.sleep(0.03)

    threads = [threading.Thread(target=work, name=name) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds["same"] >= 0.06


def test_the_trace_has_every_span_with_its_thread(tmp_path):
    clock = Clock(keep=True)
    with clock.span("outer"), clock.span("inner"):
        time.sleep(0.01)
    clock.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["ph"] for event in events] == ["M", "X", "X"]
    assert events[0]["args"]["name"] == threading.current_thread().name
    inner, outer = events[1:]
    assert (inner["name"], outer["name"]) == ("inner", "outer")
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert inner["dur"] >= 1e4, "microseconds"


def test_spans_are_kept_only_on_request(tmp_path):
    clock = Clock()
    with clock.span("work"):
        pass
    clock.write_trace(tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text()) == {"traceEvents": []}
    assert Clock().shares() == {}


def test_what_one_clock_took_another_adds():
    worker, ours = Clock(), Clock()
    for _ in range(2):
        with worker.span("read"):
            time.sleep(0.01)
        taken = worker.take()
        assert worker.seconds == {}
        ours.add(taken)
    assert 0.02 <= ours.seconds["read"] < 2
    ours.add({"read": 1, "write": 2})
    assert ours.seconds["read"] >= 1.02
    assert ours.seconds["write"] == 2
