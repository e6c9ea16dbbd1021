"""Ctrl-C is heeded at the next item where Python drops it."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.batch.interrupts import heed_interrupts
from eigenfeatures.export.talk import Talk

TALK = Talk(silent, lambda _: None)


class Interrupting:
    """Ctrl-C comes while this is deleted."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_an_object_is_deleted_ends_the_loop_at_the_next_item():
    seen = []

    def interrupted_at_two(items):
        for item in items:
            seen.append(item)
            if item == 2:
                thing = Interrupting()
                del thing
                seen.append("dropped")

    with heed_interrupts(TALK) as talk, pytest.raises(KeyboardInterrupt):
        interrupted_at_two(talk.track(range(5), "items", 5))
    assert seen == [0, 1, 2, "dropped"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_before_the_loop_counts():
    with heed_interrupts(TALK) as talk:
        thing = Interrupting()
        del thing
        with pytest.raises(KeyboardInterrupt):
            list(talk.track(range(5), "items", 5))


def test_it_raises_at_once_where_it_can_and_items_pass_where_none_comes():
    with heed_interrupts(TALK) as talk:
        assert list(talk.track(range(5), "items", 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_anothers_handler_and_other_threads_are_left_alone():
    def entered():
        with heed_interrupts(TALK) as talk:
            return talk, signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(entered).result() == (TALK, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert entered() == (TALK, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
