"""How stability grows while networks train, beside their accuracy."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import (
    LABEL_SIZE,
    OKABE_ITO,
    SERIES_COLOURS,
    SERIES_MARKERS,
    TICK_SIZE,
    new_figure,
    short_name,
)

Band = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Estimate, lower and upper end of its confidence interval, each ``(T,)``."""

_LINES = ("solid", "dashed", "dashdot", "dotted")


def training_curve(
    iterations: NDArray[Any],
    curves: Mapping[str, Band],
    accuracy: Mapping[str, NDArray[Any]],
    title: str,
    ylabel: str = "similarity between seeds",
    threshold: float | None = None,
) -> Figure:
    """Draw stability between seeds above and validation accuracy below, against the iteration.

    Parameters
    ----------
    iterations
        ``(T,)`` of the checkpoints.
    curves
        Name (u₁, α) to estimate and interval at each checkpoint; NaN where there is none.
    accuracy
        Name to validation accuracy from 0 to 1 at each checkpoint, ``(T,)``, or ``(R, T)`` for
        `R` runs under one name. A name that `curves` has too keeps its colour.
    title
        Of the figure.
    ylabel
        What `curves` measure.
    threshold
        The accuracy that a run must reach, drawn as a dotted line.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        Where there are more curves than colours.
    """
    if len(curves) > len(SERIES_COLOURS):
        raise ValueError(f"curves: {len(curves)}; at most {len(SERIES_COLOURS)} can be told apart")
    figure = new_figure(title, 6.6)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    _draw_curves(above, iterations, curves)
    above.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    _draw_accuracy(below, iterations, accuracy, dict(zip(curves, SERIES_COLOURS, strict=False)))
    if threshold is not None:
        below.axhline(threshold, color="0.35", linestyle="dotted", linewidth=1.2, zorder=0.5)
        below.annotate(
            f"{threshold:.0%} ",
            (1.0, threshold),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=TICK_SIZE,
            color="0.35",
        )
    below.set_xlabel("iteration", fontsize=LABEL_SIZE)
    for axes in (above, below):
        axes.tick_params(labelsize=TICK_SIZE)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    return figure


def _draw_curves(axes: Axes, iterations: NDArray[Any], curves: Mapping[str, Band]) -> None:
    lines = {}
    for (name, band), colour, marker in zip(curves.items(), SERIES_COLOURS, SERIES_MARKERS, strict=False):
        estimate, low, high = band
        axes.fill_between(iterations, low, high, color=colour, alpha=0.18, linewidth=0)
        (lines[name],) = axes.plot(
            iterations, estimate, color=colour, marker=marker, markersize=5, linewidth=2
        )
    _name_lines(axes, lines)


def _draw_accuracy(
    axes: Axes, iterations: NDArray[Any], accuracy: Mapping[str, NDArray[Any]], colours: Mapping[str, str]
) -> None:
    # A colour of the curves would tie to one of them an accuracy that belongs to none.
    free = [colour for colour in reversed(OKABE_ITO) if colour not in colours.values()]
    styles = zip(cycle(free), cycle(_LINES), strict=False)
    lines = {}
    for name, values in accuracy.items():
        colour, line = (colours[name], "solid") if name in colours else next(styles)
        runs = axes.plot(
            iterations, np.atleast_2d(values).T, color=colour, linestyle=line, linewidth=1.2, marker="."
        )
        lines[name if len(runs) == 1 else f"{name}, {len(runs)} runs"] = runs[0]
    axes.set_ylim(0.0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("validation accuracy", fontsize=LABEL_SIZE)
    _name_lines(axes, lines)


def _name_lines(axes: Axes, lines: Mapping[str, Line2D]) -> None:
    """Write a legend beside the axes; names given so may begin with an underscore."""
    if lines:
        axes.legend(
            list(lines.values()),
            [short_name(name) for name in lines],
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            fontsize=TICK_SIZE,
            frameon=False,
        )
