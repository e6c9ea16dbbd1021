"""Write RESULTS.md from the ledger: `python benchmarks/report.py`."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from comparison import COLUMNS, Reached, cells, heading, is_lost, ratio, reached
from ledger import HERE, LEDGER, Row, read
from peers import OPERATIONS
from peers.table import Limit, Target

RESULTS = HERE / "RESULTS.md"

INTRODUCTION = """\
# Results of the benchmarks

Written by `python benchmarks/report.py` from `benchmarks/results/ledger.csv`; don't edit. Of each device it
shows the latest run of every operation, a full one where there is any. [README.md](README.md) says what the
columns mean. In short: "ours is faster" is the library's time over ours in the same round, its median and
then its quartiles; "of the roof" is the time in which the memory allows the same work, over the library's
time. First calls, with what they compile or load, and transfers to a GPU are in no other figure. "compile" is
the part of a first call that compiled.
"""


def render(rows: Sequence[Row]) -> str:
    """Return RESULTS.md for the rows of a ledger."""
    parts = [INTRODUCTION]
    for device in sorted({row.device for row in rows}):
        runs = list(_latest([row for row in rows if row.device == device]))
        parts += [f"## {device}\n", *_targets(runs), *_losses(runs), *map(_table, runs)]
    return "\n".join(parts)


def _latest(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each operation's latest run, a full one where there is any, in the table's order."""
    order = [operation.name for operation in OPERATIONS]
    names = sorted({row.operation for row in rows}, key=lambda name: (_place(name, order), name))
    for name in names:
        found = [row for row in rows if row.operation == name]
        newest = max(found, key=lambda row: (row.effort == "full", row.date))
        yield [row for row in found if (row.effort, row.date) == (newest.effort, newest.date)]


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _targets_of(name: str) -> tuple[Target | Limit, ...]:
    return next((operation.targets for operation in OPERATIONS if operation.name == name), ())


def _targets(runs: Sequence[list[Row]]) -> Iterator[str]:
    held = [(rows[0], found) for rows in runs for found in reached(_targets_of(rows[0].operation), rows)]
    if not held:
        return
    met = sum(found.is_met is True for _, found in held)
    yield f"### Targets: {met} of {len(held)} met\n"
    lines = [
        [ours.operation, ours.size, found.target.text, found.reach, _bold_if_missed(found)]
        for ours, found in held
    ]
    yield _markdown(["operation", "size", "target", "reached", ""], lines)


def _bold_if_missed(found: Reached) -> str:
    return f"**{found.verdict}**" if found.is_met is False else found.verdict


def _losses(runs: Sequence[list[Row]]) -> Iterator[str]:
    lost = [row for rows in runs for row in rows if row.rounds and is_lost(row)]
    yield f"### Slower than a peer: {len(lost) or 'nowhere'}\n"
    if lost:
        yield "\n".join(f"- {row.operation}: {row.label} **{ratio(row)}**" for row in lost) + "\n"


def _table(rows: Sequence[Row]) -> str:
    ours = rows[0]
    state = f"{ours.commit}, changed since" if ours.dirty else ours.commit
    lines = [
        f"### {heading(ours)}\n",
        f"{ours.date}, commit {state}, {ours.effort} run, {ours.threads} threads, Python {ours.python}, "
        f"NumPy {ours.numpy}, Numba {ours.numba}; {ours.bytes:,} bytes"
        + (f", {ours.flops:,} flops" if ours.flops else "")
        + (f"; {ours.driver}" if ours.driver else "")
        + ".\n",
        _markdown([*COLUMNS, "version"], [[*_marked(row, rows), row.version] for row in rows]),
    ]
    return "\n".join(lines)


def _marked(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return a library's cells, with a loss in bold."""
    texts = cells(row, rows)
    place = COLUMNS.index("ours is faster")
    if row.rounds and is_lost(row):
        texts[place] = f"**{texts[place]}**"
    return texts


def _markdown(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [names, ["---"] * len(names), *lines]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in table)


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="rows to read (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.write_text(render(read(arguments.ledger)), encoding="utf-8")


if __name__ == "__main__":
    main()
