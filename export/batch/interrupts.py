"""Ctrl-C that is heeded even where Python drops it."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import NoReturn

from eigenfeatures.eigen.progress import Item
from eigenfeatures.export.talk import Talk


@contextmanager
def heed_interrupts(talk: Talk) -> Iterator[Talk]:
    """Yield a talk whose loops end at the next item once Ctrl-C was pressed.

    Python prints and forgets an exception, also KeyboardInterrupt, that is raised while an object is
    deleted; a Dask future tells its scheduler then, so that a job that has many would lose some Ctrl-C.
    A handler other than Python's own is left as it is, and so are other threads, which can set none.

    Parameters
    ----------
    talk
        Tells of the progress.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield talk
        return
    pressed = False

    def press(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
        for item in talk.track(items, description, total):
            yield item
            if pressed:
                raise KeyboardInterrupt

    signal.signal(signal.SIGINT, press)
    try:
        yield replace(talk, track=track)
    finally:
        if signal.getsignal(signal.SIGINT) is press:
            signal.signal(signal.SIGINT, signal.default_int_handler)
