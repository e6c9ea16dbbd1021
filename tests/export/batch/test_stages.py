"""Stages in threads: in order, bounded, and stopped whole by an error or by whoever looks on."""

import threading
import time

import pytest

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.stages import DEPTH, Stage, run_stages

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
