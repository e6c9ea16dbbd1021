"""Work in stages, each in a thread of its own, with bounded queues between them."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

from eigenfeatures.export.batch.clock import Clock

# Finished items that wait between two stages: enough for both to work at once.
DEPTH = 1

_END = object()

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stage:
    """One step of the work.

    Attributes
    ----------
    name : str
        For the clock and the thread.
    work : callable
        From what the stage before gave to what the next one gets.
    """

    name: str
    work: Callable[[Any], Any]


def run_stages(items: Iterable[Any], stages: Sequence[Stage], clock: Clock) -> Generator[Any, None, None]:
    """Pass items through all stages and yield the results, in order.

    Between two stages, and before the caller, at most `DEPTH` items wait. An exception in a
    stage, or in `items`, stops the stages before it at once, lets what is ahead of it
    finish, and is then raised here. Closing this iterator stops all, each stage after the item
    in hand; no thread is left.

    Parameters
    ----------
    items
        What goes into the first stage; taken in that stage's thread.
    stages
        At least one.
    clock
        Measures each stage's work under its name.

    Yields
    ------
    object
        What the last stage gave.
    """
    pipes = [_Pipe() for _ in stages]
    sources: list[_Source] = [_Feed(items), *pipes[:-1]]
    threads = [
        threading.Thread(target=_run, args=(stage, source, pipe, clock), name=stage.name, daemon=True)
        for stage, source, pipe in zip(stages, sources, pipes, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        while (result := pipes[-1].get()) is not _END:
            if isinstance(result, _Failure):
                raise result.error
            yield result
            del result
    finally:
        for pipe in pipes:
            pipe.close()
        for thread in threads:
            thread.join()


class StageThreads:
    """The threads of stages, for callers that each bring one item and wait for what becomes of it.

    Callers in several threads have their items in different stages at once. A stage always works in
    the same thread, so that libraries keep one set of threads and buffers for it, as in `run_stages`.

    Parameters
    ----------
    names
        Of the stages.
    begin
        Called first in each of the threads.
    """

    def __init__(self, names: Iterable[str], begin: Callable[[], None]) -> None:
        self._threads = {name: ThreadPoolExecutor(1, name, begin) for name in names}
        self._change = threading.Lock()
        self._closed = False

    def do(
        self, name: str, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call `work` in the thread of a stage, after what others gave to it, and return its result.

        Raises
        ------
        CancelledError
            When the stages are closed before it begins.
        """
        with self._change:
            if self._closed:
                raise CancelledError(f"'{name}' is closed")
            future = self._threads[name].submit(work, *args, **kwargs)
        return future.result()

    def close(self) -> None:
        """Wait until each stage has done with the item in hand; what waits for a stage is cancelled."""
        with self._change:
            self._closed = True
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads.values():
            thread.shutdown(wait=True)


class _Source(Protocol):
    def get(self) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Failure:
    """Travels in the place of the item that failed, behind those that did not."""

    error: BaseException


class _Feed:
    """An iterable in the form of a pipe."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)

    def get(self) -> Any:
        return next(self._items, _END)

    def close(self) -> None:
        """Do nothing: nobody waits for room."""


class _Pipe:
    """A bounded queue that its reader can close, which tells the writer to stop."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._closed = False
        self._change = threading.Condition()

    def put(self, item: Any) -> bool:
        """Wait for room; return False, and take nothing, once the pipe is closed."""
        with self._change:
            self._change.wait_for(lambda: self._closed or len(self._items) < DEPTH)
            if not self._closed:
                self._items.append(item)
                self._change.notify_all()
            return not self._closed

    def get(self) -> Any:
        """Wait for an item; `_END` once the pipe is closed."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self._items)
            if self._closed:
                return _END
            self._change.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._items.clear()
            self._change.notify_all()


def _run(stage: Stage, source: _Source, sink: _Pipe, clock: Clock) -> None:
    try:
        while (item := source.get()) is not _END:
            if isinstance(item, _Failure):
                sink.put(item)
                return
            with clock.span(stage.name):
                item = stage.work(item)
            if not sink.put(item):
                return
            del item  # a block must not stay in memory while the next is waited for
        sink.put(_END)
    except BaseException as error:
        sink.put(_Failure(error))
    finally:
        source.close()
