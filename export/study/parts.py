"""What each question of a study contributes to its page, its summary and its tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import STUDY_CAPTIONS
from eigenfeatures.eigen.figures.intervals import IntervalRow
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Interval
from eigenfeatures.export.html import Table
from eigenfeatures.export.tables import Columns

# The least correlations of two maps that are called so, set in ``docs/study/definitions.md``.
NEARLY_THE_SAME, ALIKE = 0.8, 0.5


@dataclass(frozen=True)
class Exhibit:
    """A figure or a table of the page, or both.

    Attributes
    ----------
    name : str
        Of the file of the figure.
    title, text : str
        Heading, and what to see.
    figure : Figure or None
        To be drawn.
    table : Table or None
        Below the figure.
    """

    name: str
    title: str
    text: str
    figure: Figure | None = None
    table: Table | None = None


def exhibit(
    name: str, figure: Figure | None = None, table: Table | None = None, of: str | None = None
) -> Exhibit:
    """Make an exhibit whose heading and text are in `STUDY_CAPTIONS`; `of` tells several apart."""
    caption = STUDY_CAPTIONS[name]
    if of is None:
        return Exhibit(name, caption.title, caption.text, figure, table)
    return Exhibit(f"{name}_{of.replace(' ', '_')}", f"{caption.title} – {of}", caption.text, figure, table)


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, and what it is the mean of.

    Attributes
    ----------
    group : str
        The runs.
    quantity : str
        The map and the measure, as `eigenfeatures.eigen.study.measures` names them.
    interval : Interval
        The mean.
    """

    group: str
    quantity: str
    interval: Interval


@dataclass(frozen=True)
class Part:
    """The answer to one question.

    Attributes
    ----------
    findings : list of str
        What was found, a sentence each.
    exhibits : list of Exhibit
        In the order of the page.
    tables : dict
        Name of a CSV file to its columns.
    answer : str or None
        The one sentence for a reader in a hurry.
    """

    findings: list[str] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    tables: dict[str, Columns] = field(default_factory=dict)
    answer: str | None = None


def run_estimates(analysis: Analysis, quantities: Iterable[str]) -> list[Estimate]:
    """Estimate quantities over the runs of every group."""
    return [
        Estimate(group, quantity, analysis.of_runs(quantity, group))
        for group, quantity in product(analysis.groups, quantities)
    ]


def pair_estimates(
    analysis: Analysis, pairings: Mapping[str, NDArray[np.int64]], quantities: Iterable[str]
) -> list[Estimate]:
    """Estimate quantities over the rows of pairs of runs under every label that has any."""
    labels = [label for label, rows in pairings.items() if len(rows)]
    return [
        Estimate(label, quantity, analysis.of_pairs(quantity, pairings[label]))
        for label, quantity in product(labels, quantities)
    ]


def estimate_columns(estimates: Sequence[Estimate]) -> Columns:
    """Return estimates as the columns of a table, a row each."""
    return {
        "group": [estimate.group for estimate in estimates],
        "quantity": [estimate.quantity for estimate in estimates],
        **interval_columns([estimate.interval for estimate in estimates]),
    }


def interval_columns(intervals: Sequence[Interval]) -> Columns:
    """Return intervals as columns, a row each."""
    return {
        "mean": [interval.estimate for interval in intervals],
        "low": [interval.low for interval in intervals],
        "high": [interval.high for interval in intervals],
        "runs": [interval.runs for interval in intervals],
    }


def interval_rows(
    estimates: Sequence[Estimate], labels: Mapping[str, str] | None = None
) -> list[IntervalRow]:
    """Return estimates as rows of an interval plot below headings; `labels` name the quantities."""
    return [
        IntervalRow(
            (labels or {}).get(estimate.quantity, estimate.quantity),
            estimate.group,
            estimate.interval.estimate,
            estimate.interval.low,
            estimate.interval.high,
            over_slices=not estimate.interval.runs,
        )
        for estimate in estimates
    ]


def in_words(interval: Interval) -> str:
    """Write a mean and its interval, and what the interval can't speak of."""
    if not np.isfinite(interval.estimate):
        return "–"
    mean = f"{interval.estimate:.2f}"
    if not np.isfinite(interval.low) or (interval.low <= -1 and interval.high >= 1):
        return f"{mean} (too few runs for an interval)"
    about = "" if interval.runs else ", over slices only"
    return f"{mean} [{interval.low:.2f}, {interval.high:.2f}{about}]"


def p_in_words(p: float) -> str:
    """Write a p value; none is known better than to a thousandth."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def level_in_words(correlation: float) -> str:
    """Name a correlation of two maps."""
    if correlation >= NEARLY_THE_SAME:
        return "nearly the same"
    return "alike" if correlation >= ALIKE else "different"
