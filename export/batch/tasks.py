"""The tasks of a job on a cluster, as its scheduler sees them.

A scheduler of Dask loads the functions of all tasks and what they are given. So this module imports
nothing but Dask, and they are given texts and numbers only: the libraries of a model aren't needed there.
"""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from distributed import Reschedule, get_worker


def survey_task(name: str, share: int) -> Any:
    """Plan a job in a worker; the task of `eigenfeatures.export.batch.worker.Desk.survey`."""
    with _done_elsewhere():
        return _desk(name).survey(share)


def block_task(name: str, order: str, *part: int) -> Any:
    """Do a block in a worker; the task of `eigenfeatures.export.batch.worker.Desk.run`."""
    with _done_elsewhere():
        return _desk(name).run(order, part)


def _desk(name: str) -> Any:
    return get_worker().plugins[name]


@contextmanager
def _done_elsewhere() -> Iterator[None]:
    """Let another worker do the task that this one, since it closes, doesn't end."""
    try:
        yield
    except CancelledError as error:
        raise Reschedule from error
