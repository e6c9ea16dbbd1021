"""How much the runs of a study resemble each other, pair by pair."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import (
    LABEL_SIZE,
    PAGE_WIDTH,
    TICK_SIZE,
    decimal,
    new_figure,
    short_name,
)

_MOST_NUMBERED_RUNS = 20
# In inches: a cell, the matrix, a character of a name, and what stands around all of them.
_CELL, _LARGEST_MATRIX, _CHARACTER = 0.62, 7.4, 0.085
_BESIDE, _ABOVE_AND_BELOW, _NARROWEST_FIGURE = 1.5, 1.4, 6.0
_EMPTY = "0.92"
_HATCHED: dict[str, Any] = {"facecolor": _EMPTY, "edgecolor": "0.65", "hatch": "////", "linewidth": 0.0}


def similarity_matrix(
    values: NDArray[Any], names: Sequence[str], groups: Sequence[str], title: str, label: str
) -> Figure:
    """Draw the similarity of every pair of runs as a heat map.

    Parameters
    ----------
    values
        ``(R, R)``, symmetric, NaN on the diagonal; a run that was left out is NaN along its row and column.
    names
        Of the `R` runs.
    groups
        The preset of each run; runs of one preset are drawn next to each other.
    title
        Of the figure.
    label
        Of the colours: which measure, of what.

    Returns
    -------
    Figure
        Colours run from 0, or the least value below it, to 1, or the largest above it, so that figures of
        several quantities can be compared. Each cell holds its number where there are at most 20 runs.

    Raises
    ------
    ValueError
        Where `values`, `names` and `groups` don't speak of the same runs, or there is none.
    """
    runs = len(names)
    if not runs or np.shape(values) != (runs, runs) or len(groups) != runs:
        raise ValueError(
            f"values: {np.shape(values)}, for {runs} names and {len(groups)} groups; give (R, R), R and R"
        )
    presets = {preset: groups.count(preset) for preset in groups}
    order = sorted(range(runs), key=lambda run: list(presets).index(groups[run]))
    ordered = np.asarray(values, dtype=np.float64)[np.ix_(order, order)]
    shown = [short_name(names[run]) for run in order]
    side = min(_CELL * max(runs, 3), _LARGEST_MATRIX)
    room = _CHARACTER * max(len(name) for name in shown)
    width = min(max(side + room + _BESIDE, _NARROWEST_FIGURE), PAGE_WIDTH)
    above = _room_above(presets, side)
    figure = new_figure(title, side + 0.7 * room + above + _ABOVE_AND_BELOW, width, compressed=True)
    axes = figure.subplots()
    low, high = np.nanmin([0.0, *ordered.flat]), np.nanmax([1.0, *ordered.flat])
    drawn = axes.imshow(ordered, cmap=colormaps["viridis"].with_extremes(bad=_EMPTY), vmin=low, vmax=high)
    if runs <= _MOST_NUMBERED_RUNS:
        _write_numbers(axes, ordered, (low + high) / 2)
    _hatch_runs_without_a_pair(figure, axes, ordered)
    _name_runs(axes, shown, side)
    _name_presets(axes, presets, upright=above > 0)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85, aspect=25)
    bar.set_label(fill(label, int(10 * side)), fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    return figure


def _write_numbers(axes: Axes, values: NDArray[np.float64], middle: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > middle else "white"
            axes.text(column, row, decimal(value), ha="center", va="center", fontsize=TICK_SIZE, color=colour)


def _hatch_runs_without_a_pair(figure: Figure, axes: Axes, values: NDArray[np.float64]) -> None:
    runs = len(values)
    without = np.flatnonzero(~np.isfinite(values).any(axis=1))
    for run in without:
        axes.add_patch(Rectangle((-0.5, run - 0.5), runs, 1, **_HATCHED))
        axes.add_patch(Rectangle((run - 0.5, -0.5), 1, runs, **_HATCHED))
    if without.size:
        figure.legend(
            [Patch(**_HATCHED)],
            ["run left out, or without another to compare with"],
            loc="outside lower center",
            fontsize=TICK_SIZE,
            frameon=False,
        )


def _name_runs(axes: Axes, names: Sequence[str], side: float) -> None:
    size = min(TICK_SIZE, 0.75 * 72 * side / len(names))
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _room_above(presets: Mapping[str, int], side: float) -> float:
    """Return the inches that names of presets need above the matrix; 0 where each fits over its runs."""
    needs = {preset: _CHARACTER * len(short_name(preset)) for preset in presets}
    cell = side / sum(presets.values())
    fits = all(needs[preset] < cell * runs for preset, runs in presets.items())
    return 0.0 if fits else max(needs.values())


def _name_presets(axes: Axes, presets: Mapping[str, int], upright: bool) -> None:
    """Write the name of each preset above its runs, with white lines between the presets."""
    edges = np.cumsum([0, *presets.values()]) - 0.5
    for edge in edges[1:-1]:
        axes.axhline(edge, color="white", linewidth=4)
        axes.axvline(edge, color="white", linewidth=4)
    centres = [(start + stop) / 2 for start, stop in pairwise(edges)]
    labels = [short_name(preset) for preset in presets]
    top = axes.secondary_xaxis("top")
    top.set_xticks(centres, labels, fontsize=LABEL_SIZE, rotation=90 if upright else 0)
    top.tick_params(length=0)
    top.spines[:].set_visible(False)
