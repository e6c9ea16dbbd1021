"""What a person sees in the terminal: progress, notes and tables; and what a machine reads."""

import json
import sys
from collections.abc import Iterable, Mapping
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


class _SpeedColumn(ProgressColumn):
    """Items a second, once it is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


def terminal_talk() -> Talk:
    """Talk on standard error: bars with ETA where it is a terminal, plain lines elsewhere."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def track(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            yield from progress.track(items, total=total, description=description)

    return Talk(track=track, say=lambda text: console.print(text, markup=False))


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
