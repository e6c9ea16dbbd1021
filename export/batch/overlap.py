"""Batches through a device: a batch is copied while its neighbour is computed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, wait
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
    worker: Executor,
) -> Iterator[Result]:
    """Yield each batch's result, in order.

    While a batch is computed, the next one is uploaded and the one before it is downloaded and used. At most
    two batches are uploaded and not computed yet, and two computed and not yielded.

    Parameters
    ----------
    batches
        What to run.
    upload
        Begins a copy to the device and does not wait for it.
    compute
        Begins the work on a batch, behind its upload, or does it: libraries that launch the work of a batch
        may wait for it.
    download
        Begins a copy from the device, behind the work, and gives a function that waits for it.
    clock
        Measures what this thread spends on ``upload`` and ``download``: what isn't hidden behind the work.
    worker
        Calls `compute`, one batch after the other, so that this thread is free meanwhile.
    """
    finish: Callable[[], Result] | None = None
    for uploaded in _one_ahead(batches, upload, clock):
        computing = worker.submit(compute, uploaded)
        try:
            if finish is not None:
                yield _finished(finish, clock)
        finally:  # who reads the results may stop, and then nothing may be computed any more
            with clock.unmeasured():
                wait([computing])
        with clock.span("download"):
            finish = download(computing.result())
    if finish is not None:
        yield _finished(finish, clock)


def _one_ahead(
    batches: Iterable[Batch], upload: Callable[[Batch], Uploaded], clock: Clock
) -> Iterator[Uploaded]:
    """Yield each batch once the next one's upload has begun, too."""
    uploads: deque[Uploaded] = deque()
    for batch in batches:
        with clock.span("upload"):
            uploads.append(upload(batch))
        if len(uploads) > 1:
            yield uploads.popleft()
    yield from uploads


def _finished(finish: Callable[[], Result], clock: Clock) -> Result:
    with clock.span("download"):
        return finish()
