"""Stages in threads: in order, bounded, and stopped whole by an error or by whoever looks on."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.stages import DEPTH, Stage, StageThreads, run_stages

NAMES = ("first", "second", "third")


def running():
    return [thread.name for thread in threading.enumerate() if thread.name in NAMES]


def stages(**work):
    return [Stage(name, work.get(name, lambda item: item)) for name in NAMES]


def test_results_come_in_order_whatever_the_stages_take():
    def uneven(item):
        time.sleep(0.002 * (item % 3))
        return item + 1

    found = list(run_stages(range(20), stages(first=uneven, second=uneven, third=uneven), Clock()))
    assert found == [item + 3 for item in range(20)]
    assert running() == []


def test_stages_work_at_once():
    """Each waits until the other has the next item: one after the other they would never end."""
    meeting = threading.Barrier(2, timeout=10)

    def meet(item):
        meeting.wait()
        return item

    # The last stage lacks a partner for its last item, and the first for its first.
    def first(item):
        return meet(item) if item > 0 else item

    def second(item):
        return meet(item) if item < 4 else item

    assert list(run_stages(range(5), stages(first=first, second=second), Clock())) == list(range(5))


def test_queues_are_bounded():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = run_stages(items(), stages(), Clock())
    assert next(results) == 0
    until = time.monotonic() + 10
    while len(taken) <= 3 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # for what would be read beyond the bound
    # One in each stage, what waits behind each, and the one that came out.
    most = len(NAMES) * (1 + DEPTH) + 1
    assert len(taken) <= most
    assert len(taken) > 3, "nothing was read ahead"
    results.close()
    assert running() == []
    assert len(taken) <= most


@pytest.mark.parametrize("where", NAMES)
def test_an_error_in_a_stage_comes_after_what_was_ahead_of_it(where):
    def fail(item):
        if item == 7:
            raise ValueError(f"{where} breaks")
        return item

    found = []
    results = run_stages(range(10**9), stages(**{where: fail}), Clock())
    with pytest.raises(ValueError, match=f"{where} breaks"):
        found.extend(results)
    assert found == list(range(7))
    assert running() == []


def test_an_error_of_the_items_is_raised_too():
    def items():
        yield 0
        raise OSError("no more")

    results = run_stages(items(), stages(), Clock())
    assert next(results) == 0
    with pytest.raises(OSError, match="no more"):
        next(results)
    assert running() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_caller_stops_the_threads(error):
    results = run_stages(range(10**9), stages(), Clock())

    def look():
        for item in results:
            if item == 5:
                raise error

    with pytest.raises(error):
        look()
    assert running() != [], "they wait for more room"
    results.close()
    assert running() == []


def test_no_items_give_no_results():
    assert list(run_stages([], stages(), Clock())) == []
    assert running() == []


def test_a_finished_item_is_not_held():
    """Or a block would stay in memory while the next one is waited for."""
    import gc
    import weakref

    class Item:
        pass

    seen = []

    def items():
        for _ in range(3):
            item = Item()
            seen.append(weakref.ref(item))
            yield item
            del item
        gc.collect()
        time.sleep(0.1)
        assert [ref() is None for ref in seen] == [True, True, True]

    assert list(run_stages(items(), stages(first=lambda _: 1), Clock())) == [1, 1, 1]


@pytest.fixture
def threads():
    threads = StageThreads(NAMES, lambda: None)
    yield threads
    threads.close()


def test_callers_have_their_items_in_different_stages_at_once(threads):
    meeting = threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(2) as callers:
        found = [callers.submit(threads.do, name, meeting.wait) for name in NAMES[:2]]
        assert {future.result() for future in found} == {0, 1}


def test_a_stage_has_one_thread_and_begins_once():
    begun = []
    threads = StageThreads(["only"], lambda: begun.append(threading.get_ident()))
    with ThreadPoolExecutor(8) as callers:
        idents = set(callers.map(lambda _: threads.do("only", threading.get_ident), range(50)))
    threads.close()
    assert [*idents] == begun


def test_an_error_is_raised_to_its_caller_alone(threads):
    with pytest.raises(ZeroDivisionError):
        threads.do("first", lambda: 1 // 0)
    assert threads.do("first", lambda: 1) == 1


def test_closing_waits_for_the_item_in_hand_and_cancels_the_rest():
    threads = StageThreads(["only"], lambda: None)
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert go_on.wait(10)
        done.append("work")

    with ThreadPoolExecutor(3) as callers:
        working = callers.submit(threads.do, "only", work)
        assert begun.wait(10)
        waiting = callers.submit(threads.do, "only", done.append, "never")
        closing = callers.submit(lambda: (threads.close(), done.append("closed")))
        with pytest.raises(CancelledError):
            waiting.result(10)
        assert not done
        go_on.set()
        closing.result(10)
        working.result(10)
    assert done == ["work", "closed"]
    with pytest.raises(CancelledError, match="'only' is closed"):
        threads.do("only", lambda: None)
