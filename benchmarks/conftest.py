"""Options, and the table that a run of the benchmarks ends with."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# As the command line of the project does: threads that wait actively take the cores from the next library.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from ledger import Row, Run
    from measure import Effort, Measured

_ROWS: pytest.StashKey[list[list[Row]]] = pytest.StashKey()
_START: pytest.StashKey[float] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how much to run, and where results go."""
    group = parser.getgroup("eigenfeatures benchmarks")
    group.addoption(
        "--quick",
        action="store_true",
        help="smaller stacks and few rounds: under 90 seconds with compiled kernels",
    )
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
    """Refuse what would make a false entry, and let a full run compile anew."""
    from empty_caches import name_empty_caches

    config.stash[_START] = time.perf_counter()
    option = config.option
    is_full = not (option.quick or option.smallest or option.collectonly)
    # Before Numba is imported, which the next line does.
    if is_full and (folder := name_empty_caches(os.environ)) is not None:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
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
    from terminal import suite_time, write_operation

    try:
        return (yield)
    finally:
        for rows in config.stash[_ROWS]:
            write_operation(terminalreporter, rows)
        seconds = time.perf_counter() - config.stash[_START]
        terminalreporter.write_line(suite_time(seconds, config.stash[_ROWS]))
