"""Ours against the others, from rows of the ledger: what the terminal and RESULTS.md show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ledger import Row
from peers.table import EVERY_PEER, Limit, Target

COLUMNS = (
    "library",
    "q25",
    "median",
    "q75",
    "rounds",
    "GB/s",
    "GFLOP/s",
    "of the roof",
    "ours is faster",
    "quartiles",
    "first call",
    "compile",
    "transfer",
)


@dataclass(frozen=True)
class Reached:
    """A target beside what was reached.

    Attributes
    ----------
    target
        The target.
    row
        The library that counts: of several the one that comes closest, ours for a limit; None where none
        was timed.
    """

    target: Target | Limit
    row: Row | None

    @property
    def is_met(self) -> bool | None:
        """Whether the target was reached, or None where nothing tells."""
        if self.row is None:
            return None
        if isinstance(self.target, Limit):
            return self.row.median <= self.target.seconds
        return self.row.ratio >= self.target.at_least

    @property
    def reach(self) -> str:
        """What was reached, with quartiles."""
        row = self.row
        if row is None:
            return ""
        if isinstance(self.target, Limit):
            return f"{duration(row.median)} ({duration(row.q25)} to {duration(row.q75)})"
        return f"× {number(row.ratio)} ({number(row.ratio_q25)} to {number(row.ratio_q75)}), {row.label}"

    @property
    def verdict(self) -> str:
        """The same in a word."""
        return {True: "met", False: "MISSED", None: "not measured"}[self.is_met]


def reached(targets: Sequence[Target | Limit], rows: Sequence[Row]) -> list[Reached]:
    """Hold the rows of an operation against its targets."""
    found = []
    for target in targets:
        timed = [row for row in rows if row.rounds and _is_meant(target, row)]
        found.append(Reached(target, min(timed, key=lambda row: row.ratio, default=None)))
    return found


def _is_meant(target: Target | Limit, row: Row) -> bool:
    if isinstance(target, Limit):
        return row.role == "ours"
    if target.against == EVERY_PEER:
        return row.role == "peer"
    return row.role != "ours" and target.against in (row.library, row.label)


def cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return what `COLUMNS` hold for a library."""
    name = row.label if row.role in ("ours", "peer") else f"{row.label} ({_ROLES[row.role]})"
    if not row.rounds:
        return [name, row.remark, *[""] * (len(COLUMNS) - 2)]
    ours = row.role == "ours"
    return [
        name,
        duration(row.q25),
        duration(row.median),
        duration(row.q75),
        str(row.rounds),
        number(row.bytes / row.median / 1e9),
        number(row.flops / row.median / 1e9) if row.flops and row.role != "roof" else "",
        share_of_roof(row, rows),
        "" if ours else ratio(row),
        "" if ours else f"{number(row.ratio_q25)} to {number(row.ratio_q75)}",
        duration(row.first_call),
        "cached" if row.compile == 0 else duration(row.compile),
        duration(row.transfer),
    ]


_ROLES = {"roof": "roof", "other": "for comparison"}


def ratio(row: Row) -> str:
    """Return how many times faster ours is than a library; a peer that wins is a loss, and is called so."""
    text = f"× {number(row.ratio)}"
    return f"{text} (slower)" if is_lost(row) else text


def is_lost(row: Row) -> bool:
    """Tell whether a peer is faster than ours."""
    return row.role == "peer" and row.ratio < 1


def share_of_roof(row: Row, rows: Sequence[Row]) -> str:
    """Return the time of the roof over the library's, in the same rounds."""
    roofs = [other for other in rows if other.role == "roof" and other.rounds]
    return f"{100 * roofs[0].ratio / row.ratio:.0f} %" if roofs else ""


def number(value: float) -> str:
    """Return three digits, or all before the point."""
    if math.isnan(value):
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return a time with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return "" if math.isnan(seconds) else f"{number(seconds / 1e-9)} ns"


def heading(row: Row) -> str:
    """Return an operation with its input."""
    return ", ".join(filter(None, [f"{row.operation}: {row.size}", row.about]))
