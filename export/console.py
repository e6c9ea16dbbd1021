"""What a person sees in the terminal: progress, notes and tables; and what a machine reads."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from eigenfeatures.eigen.progress import Item
from eigenfeatures.export.talk import Talk

# Seconds over which the speed is averaged: a block of large slices takes minutes, and two must lie within.
_SPEED_WINDOW = 3600

# Seconds between lines on progress where nobody watches, as in the log of a batch job.
_BETWEEN_LINES = 60


class _SpeedColumn(ProgressColumn):
    """Items a second, once it is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else _per_second(task.speed))


def _per_second(speed: float) -> str:
    return f"{speed:.3g}/s"


def terminal_talk() -> Talk:
    """Talk on standard error: bars with the time left where it is a terminal, else a line a minute."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    def track(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
        if not console.is_terminal:
            yield from tell_progress(items, description, total, say)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=console, transient=True, speed_estimate_period=_SPEED_WINDOW
        ) as progress:
            yield from progress.track(items, total=total, description=description)

    return Talk(track=track, say=say)


def tell_progress(
    items: Iterable[Item],
    description: str,
    total: int,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Pass items through, and say once a minute at most how far they are, how fast, and what time is left.

    Nothing is said in the first minute. The speed is counted from the first item on, as what comes before
    that is a start; items that come in blocks count with the next one.
    """
    told = clock()
    first = told
    for done, item in enumerate(items):
        now = clock()
        if done == 0:
            first = now
        if now - told >= _BETWEEN_LINES:
            told = now
            say(f"{description}: {done} of {total}{_pace(done, total, now - first)}")
        yield item


def _pace(done: int, total: int, seconds: float) -> str:
    """Return speed and time left in words, once they are known."""
    if not done or seconds <= 0:
        return ""
    left = timedelta(seconds=round((total - done) * seconds / done))
    return f", {_per_second(done / seconds)}, {left} left"


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    json.dump(values, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_table(values: Mapping[str, str]) -> None:
    """Print names and values on standard output; a long path is folded, never cut short."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for row in values.items():
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
