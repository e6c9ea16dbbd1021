"""Batches through a device: a batch is copied while its neighbour is computed."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from eigenfeatures.export.batch.clock import Clock

Batch = TypeVar("Batch")
Uploaded = TypeVar("Uploaded")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


def overlapped(
    batches: Iterable[Batch],
    upload: Callable[[Batch], Uploaded],
    compute: Callable[[Uploaded], Computed],
    download: Callable[[Computed], Callable[[], Result]],
    clock: Clock,
) -> Iterator[Result]:
    """Yield each batch's result, in order.

    While a batch is computed, the next one is uploaded and the one before it is downloaded. At most two
    batches are uploaded and not computed yet, and two computed and not yielded.

    Parameters
    ----------
    batches
        What to run.
    upload
        Begins a copy to the device and does not wait for it.
    compute
        Begins the work on a batch, behind its upload.
    download
        Begins a copy from the device, behind the work, and gives a function that waits for it.
    clock
        Measures what this thread spends on ``upload`` and ``download``: what isn't hidden behind the work.
    """
    ahead: list[Uploaded] = []
    begun: list[Callable[[], Result]] = []
    for group in chain(([batch] for batch in batches), [[]]):
        following = []
        for batch in group:
            with clock.span("upload"):
                following.append(upload(batch))
        for uploaded in ahead:
            computed = compute(uploaded)
            yield from _finished(begun, clock)
            with clock.span("download"):
                begun = [download(computed)]
        ahead = following
    yield from _finished(begun, clock)


def _finished(begun: list[Callable[[], Result]], clock: Clock) -> Iterator[Result]:
    for finish in begun:
        with clock.span("download"):
            result = finish()
        yield result
