"""How a similarity is spread over slices and pairs of runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, TICK_SIZE, decimal
from eigenfeatures.eigen.figures.twins import (
    KIND_COLOURS,
    kinds_of,
    name_twins,
    places_of,
    stand_upright,
    twin_figure,
    width_of,
    write_above,
)

# Below this a density says less than the points do.
_FEWEST_FOR_A_DENSITY = 8
# The shape of a violin is that of this many quantiles at most: the same to the eye, and quick.
_MOST_FOR_A_DENSITY = 1001


def similarity_violins(groups: Mapping[str, Mapping[str, NDArray[Any]]], title: str, ylabel: str) -> Figure:
    """Draw the distributions of u₁ and of α side by side, for each measure or group.

    Parameters
    ----------
    groups
        Name of a measure (or of a preset, a sample) to name of a map (u₁, α) to values of any shape;
        NaN is left out. Every group holds the same two or three maps.
    title
        Of the figure.
    ylabel
        What the values are.

    Returns
    -------
    Figure
        Thick bar: from the first to the third quartile; white point: the median, whose number stands
        above. Fewer than 8 values are drawn as points.

    Raises
    ------
    ValueError
        Where groups hold different maps, or more than three.
    """
    kinds = kinds_of(groups)
    figure = twin_figure(title, 5.0, len(groups))
    axes = figure.subplots()
    upright = stand_upright(len(groups), kinds)
    for row, group in zip(places_of(len(groups), len(kinds)), groups.values(), strict=True):
        for place, colour, values in zip(row, KIND_COLOURS, group.values(), strict=False):
            known = np.asarray(values, dtype=np.float64)
            known = known[np.isfinite(known)]
            if known.size:
                _draw(axes, known, float(place), 0.92 * width_of(len(kinds)), colour)
            text = decimal(np.median(known)) if known.size else "none"
            write_above(axes, float(place), text, colour, upright)
    name_twins(axes, list(groups), kinds)
    axes.annotate(
        "median",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=TICK_SIZE,
    )
    axes.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    axes.tick_params(axis="y", labelsize=TICK_SIZE)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    return figure


def _draw(axes: Axes, values: NDArray[np.float64], place: float, width: float, colour: str) -> None:
    first, median, third = np.percentile(values, (25, 50, 75))
    if values.size < _FEWEST_FOR_A_DENSITY:
        axes.scatter(np.full(values.size, place), values, s=16, color=colour, alpha=0.6, linewidths=0)
    else:
        violin: dict[str, Any] = axes.violinplot([_thinned(values)], [place], widths=width, showextrema=False)
        for body in violin["bodies"]:
            body.set(facecolor=colour, edgecolor=colour, alpha=0.45, linewidth=1.0)
        axes.vlines(place, first, third, color=colour, linewidth=6)
    axes.plot(place, median, "o", color="white", markeredgecolor=colour, markersize=6, markeredgewidth=1.4)


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.size <= _MOST_FOR_A_DENSITY:
        return values
    return np.quantile(values, np.linspace(0, 1, _MOST_FOR_A_DENSITY))
