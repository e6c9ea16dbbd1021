"""What a run prints in the end: each operation's table and targets."""

from collections.abc import Callable, Sequence
from typing import Any

from comparison import COLUMNS, cells, heading, reached
from ledger import Row
from peers import OPERATIONS


def write_operation(terminal: Any, rows: Sequence[Row]) -> None:
    """Write the rows of an operation, ours first.

    Parameters
    ----------
    terminal
        pytest's reporter: it has `write_sep` and `write_line`.
    rows
        From the ledger.
    """
    write = terminal.write_line
    ours = rows[0]
    terminal.write_sep("-", heading(ours))
    driver = f" ({ours.driver})" if ours.driver else ""
    write(f"{ours.device}{driver}, {ours.threads} threads; bytes {ours.bytes:,}, flops {ours.flops:,}")
    _write_table(write, [list(COLUMNS), *(cells(row, rows) for row in rows)])
    targets = next((operation.targets for operation in OPERATIONS if operation.name == ours.operation), ())
    for found in reached(targets, rows):
        if found.row is not None and ours.effort != "smallest":
            write(f"target {found.target.text}: {found.reach}: {found.verdict}")
    write("")


def _write_table(write: Callable[[str], None], table: list[list[str]]) -> None:
    timed = [line for line in table if line[2]]
    widths = [max(len(line[column]) for line in timed) for column in range(len(table[0]))]
    widths[0] = max(len(line[0]) for line in table)
    for first, *others in table:
        if others[1]:
            aligned = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
            write("  ".join([first.ljust(widths[0]), *aligned]))
        else:
            write("  ".join([first.ljust(widths[0]), others[0]]))


def suite_time(seconds: float, operations: Sequence[Sequence[Row]]) -> str:
    """Return how long a run took, and how much of it first calls compiled."""
    compiled = sum(row.compile for rows in operations for row in rows if row.compile > 0)
    return f"the suite took {seconds:.0f} s, of which first calls compiled for {compiled:.1f} s"
