"""Options, and the table that a run of the benchmarks ends with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# As the command line of the project does: threads that wait actively take the cores from the next library.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from ledger import Row, Run
    from measure import Effort, Measured

_ROWS = pytest.StashKey["list[list[Row]]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how much to run, and where results go."""
    group = parser.getgroup("eigenfeatures benchmarks")
    group.addoption("--quick", action="store_true", help="smaller stacks and few rounds: under 90 seconds")
    group.addoption(
        "--smallest", action="store_true", help="one round of tiny input: only to see that it works"
    )
    group.addoption(
        "--ledger",
        metavar="FILE",
        help="append the results to FILE; a full run appends to benchmarks/results/ledger.csv "
        "unless FILE is 'none', and the others append nowhere unless told to",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what would make a false entry."""
    from ledger import FOREIGN_SETTINGS

    if config.option.quick and config.option.smallest:
        raise pytest.UsageError("give --quick or --smallest, not both")
    if config.option.smallest and config.option.ledger:
        raise pytest.UsageError("--smallest measures nothing that belongs into a ledger")
    found = [name for name in FOREIGN_SETTINGS if name in os.environ]
    if found and _ledger_of(config) is not None and not config.option.collectonly:
        raise pytest.UsageError(
            f"{' and '.join(found)} would make BLAS another one than users have: unset it, "
            "or give --ledger none to measure without a record"
        )
    config.stash[_ROWS] = []


def _ledger_of(config: pytest.Config) -> Path | None:
    from ledger import LEDGER

    given = config.option.ledger
    if given is None:
        return None if config.option.quick or config.option.smallest else LEDGER
    return None if given == "none" else Path(given)


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> Effort:
    """How much to measure."""
    from measure import EFFORTS

    option = pytestconfig.option
    return EFFORTS["smallest" if option.smallest else "quick" if option.quick else "full"]


@pytest.fixture(scope="session")
def run(effort: Effort) -> Run:
    """What all rows have in common."""
    from ledger import Run

    return Run.start(effort)


@pytest.fixture
def record(run: Run, pytestconfig: pytest.Config) -> Callable[[Measured], None]:
    """Keep an operation's results for the summary, and append them to the ledger."""
    from ledger import append

    def keep(measured: Measured) -> None:
        if not (rows := run.rows(measured)):
            return
        pytestconfig.stash[_ROWS].append(rows)
        if (path := _ledger_of(pytestconfig)) is not None:
            append(path, rows)

    return keep


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """Print every operation's table at the end, also where pytest-benchmark raises for a regression."""
    try:
        return (yield)
    finally:
        for rows in config.stash[_ROWS]:
            _write_operation(terminalreporter, rows)


def _write_operation(terminalreporter: Any, rows: list[Row]) -> None:
    from comparison import COLUMNS, cells, duration, heading, reached
    from peers import OPERATIONS

    write = terminalreporter.write_line
    ours = rows[0]
    terminalreporter.write_sep("-", heading(ours))
    write(f"{ours.device}, {ours.threads} threads; bytes {ours.bytes:,}, flops {ours.flops:,}")
    if (transfer := duration(ours.transfer)) != "":
        write(f"host to device: {transfer}, in none of the times")
    _write_table(write, [list(COLUMNS), *(cells(row, rows) for row in rows)])
    (targets,) = (operation.targets for operation in OPERATIONS if operation.name == ours.operation)
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
