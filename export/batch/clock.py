"""Where the time goes: spans of every thread, summed by name, and written as a Chrome trace."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eigenfeatures.eigen.files import write_text


class Clock:
    """Measures named spans in any thread; a span within another is not counted twice.

    Parameters
    ----------
    keep
        Keep every span for `write_trace`; otherwise only sums are kept, whatever the length of a run.

    Attributes
    ----------
    seconds : dict
        Name to the seconds spent in its spans, less those of the spans within them.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._keep = keep
        self._spans: list[tuple[str, str, float, float]] = []
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measure the block."""
        within = self._within()
        within.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - start
            inner = within.pop()
            if within:
                within[-1] += took
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + took - inner
                if self._keep:
                    self._spans.append((name, threading.current_thread().name, start, took))

    @contextmanager
    def unmeasured(self) -> Iterator[None]:
        """Leave the block out of the span around it: another thread measures what is waited for."""
        within = self._within()
        start = time.perf_counter()
        try:
            yield
        finally:
            if within:
                within[-1] += time.perf_counter() - start

    def _within(self) -> list[float]:
        """Return, for each span that this thread is in, the seconds that aren't its own."""
        found: list[float] = self._local.__dict__.setdefault("within", [])
        return found

    def take(self) -> dict[str, float]:
        """Return `seconds` and begin at 0 again."""
        with self._lock:
            taken, self.seconds = self.seconds, {}
        return taken

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another clock has measured."""
        with self._lock:
            for name, more in seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + more

    def shares(self) -> dict[str, float]:
        """Return name to its part of all that was measured; threads overlap, so this is not wall time."""
        total = sum(self.seconds.values())
        return {name: seconds / total if total else 0.0 for name, seconds in self.seconds.items()}

    def write_trace(self, path: Path) -> None:
        """Write the kept spans in the format that chrome://tracing and Perfetto open."""
        threads = {name: k for k, name in enumerate(dict.fromkeys(thread for _, thread, _, _ in self._spans))}
        events: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": k, "args": {"name": name}}
            for name, k in threads.items()
        ]
        events += [
            {"name": name, "ph": "X", "pid": 0, "tid": threads[thread], "ts": start * 1e6, "dur": took * 1e6}
            for name, thread, start, took in self._spans
        ]
        write_text(path, json.dumps({"traceEvents": events}) + "\n")
