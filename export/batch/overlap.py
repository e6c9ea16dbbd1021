"""Batches through a device: a batch is copied while its neighbour is computed."""

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

    A batch is begun as soon as the one before it is computed. Meanwhile that one is downloaded and used, and
    the one after it is uploaded: at most two batches are uploaded and not computed yet, and two computed and
    not yielded.

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
        Begins a copy from the device, behind the work on that batch though the next one's may be queued, and
        gives a function that waits for it.
    clock
        Measures what this thread spends on ``upload`` and ``download``: what isn't hidden behind the work.
    worker
        Calls `compute`, one batch after the other, so that this thread is free meanwhile.
    """
    uploads = _uploaded(batches, upload, clock)
    following = next(uploads, None)
    computing = None if following is None else worker.submit(compute, following)
    try:
        following = next(uploads, None)
        while computing is not None:
            with clock.unmeasured():
                computed = computing.result()
            computing = None if following is None else worker.submit(compute, following)
            with clock.span("download"):
                finish = download(computed)
            following = next(uploads, None)
            with clock.span("download"):
                found = finish()
            yield found
    finally:  # who reads the results may stop, or a copy fail, and then nothing may be computed any more
        if computing is not None:
            with clock.unmeasured():
                wait([computing])


def _uploaded(
    batches: Iterable[Batch], upload: Callable[[Batch], Uploaded], clock: Clock
) -> Iterator[Uploaded]:
    for batch in batches:
        with clock.span("upload"):
            uploaded = upload(batch)
        yield uploaded
