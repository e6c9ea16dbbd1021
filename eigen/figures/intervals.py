"""Estimates with their confidence intervals, row by row: settings, null models, presets."""

from collections.abc import Sequence
from itertools import groupby
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigenfeatures.eigen.figures.style import (
    LABEL_SIZE,
    SERIES_COLOURS,
    SERIES_MARKERS,
    TICK_SIZE,
    decimal,
    new_figure,
    short_name,
)

# In inches.
_ROW, _FRAME = 0.27, 1.25
_GAP_ROWS = 0.4
_LONGEST_LABEL = 44


class IntervalRow(NamedTuple):
    """One estimate and its 95 % confidence interval; NaN where there is none."""

    label: str
    """Of the row."""
    group: str
    """Heading that the row stands under; rows of one group follow each other."""
    estimate: float
    low: float
    high: float
    over_slices: bool = False
    """Whether the interval speaks of other slices only, and not of other runs."""


def interval_plot(
    rows: Sequence[IntervalRow],
    title: str,
    xlabel: str,
    numbers: str = "estimate [95 % interval]",
) -> Figure:
    """Draw estimates as points with bars, with their numbers beside them.

    Parameters
    ----------
    rows
        From the top down.
    title
        Of the figure.
    xlabel
        What is estimated, with its unit.
    numbers
        What point and bar are; heads the numbers.

    Returns
    -------
    Figure
        Labels that return in several groups have a colour and a marker of their own.

    Raises
    ------
    ValueError
        Where there is no row.
    """
    if not rows:
        raise ValueError("rows: none; give at least one estimate")
    figure = new_figure(title, 1.0)
    axes = figure.subplots()
    places, headings = _places(rows)
    styles = _styles(rows)
    for place, row in zip(places, rows, strict=True):
        colour, marker = styles.get(row.label, (SERIES_COLOURS[0], SERIES_MARKERS[0]))
        if np.isfinite([row.low, row.high]).all():
            axes.hlines(place, row.low, row.high, color=colour, linewidth=2)
        axes.plot(row.estimate, place, marker, color=colour, markersize=6)
    _name_rows(axes, rows, places, headings, numbers)
    bottom = places[-1] + 0.7
    axes.set_ylim(bottom, -0.7)
    figure.set_figheight(_FRAME + _ROW * (bottom + 0.7))
    axes.set_xlabel(xlabel, fontsize=LABEL_SIZE)
    axes.tick_params(axis="x", labelsize=TICK_SIZE)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    return figure


def _places(rows: Sequence[IntervalRow]) -> tuple[list[float], dict[float, str]]:
    """Give each row its place from the top, below the lines of the heading of its group, if it has one."""
    places: list[float] = []
    headings: dict[float, str] = {}
    following = 0.0
    for group, members in groupby(rows, key=lambda row: row.group):
        if group:
            heading = fill(short_name(group, 2 * _LONGEST_LABEL), _LONGEST_LABEL)
            lines = heading.count("\n") + 1
            headings[following + (lines - 1) / 2] = heading
            following += lines
        for _ in members:
            places.append(following)
            following += 1
        following += _GAP_ROWS
    return places, headings


def _styles(rows: Sequence[IntervalRow]) -> dict[str, tuple[str, str]]:
    """Give each label a style where labels return from group to group; else all rows look the same."""
    labels = list(dict.fromkeys(row.label for row in rows))
    if len(labels) > len(SERIES_COLOURS) or 2 * len(labels) > len(rows):
        return {}
    return dict(zip(labels, zip(SERIES_COLOURS, SERIES_MARKERS, strict=True), strict=False))


def _name_rows(
    axes: Axes,
    rows: Sequence[IntervalRow],
    places: Sequence[float],
    headings: dict[float, str],
    numbers: str,
) -> None:
    """Write labels and headings on the left, numbers on the right."""
    labels = [short_name(row.label, _LONGEST_LABEL) for row in rows]
    axes.set_yticks([*places, *headings], [*labels, *headings.values()], fontsize=TICK_SIZE)
    for label in axes.get_yticklabels()[len(places) :]:
        label.set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [_number(row) for row in rows], fontsize=TICK_SIZE)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    axes.annotate(
        f"{numbers}\n* over slices only" if any(row.over_slices for row in rows) else numbers,
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(3.5, 4),
        textcoords="offset points",
        fontsize=TICK_SIZE,
        fontweight="bold",
    )


def _number(row: IntervalRow) -> str:
    if np.isnan(row.estimate):
        return "no value"
    if not np.isfinite([row.low, row.high]).all():
        return decimal(row.estimate)
    mark = "*" if row.over_slices else ""
    return f"{decimal(row.estimate)} [{decimal(row.low)}, {decimal(row.high)}]{mark}"
