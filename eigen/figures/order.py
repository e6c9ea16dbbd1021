"""In which order several quantities put the samples (Fig. 10)."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import (
    LABEL_SIZE,
    PAGE_WIDTH,
    TICK_SIZE,
    new_figure,
    sample_style,
    short_name,
)

# In inches.
_RANK, _QUANTITY, _NAMES, _FRAME = 0.5, 1.7, 3.0, 1.1
# Characters of a quantity's name, in all and in a line as wide as the page.
_LONGEST_NAME, _LINE = 60, 75


def order_plot(
    values: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    title: str = "Order of the samples by several quantities, the largest value above",
) -> Figure:
    """Draw the rank of each sample by several quantities, and how it changes from one to the next.

    Parameters
    ----------
    values
        Name of a quantity, with its unit, to its value for each sample, ``(S,)``; NaN where
        there is none.
    names
        Of the `S` samples.
    title
        Of the figure.

    Returns
    -------
    Figure
        Rank 1, above, is the largest value; equal values share the mean of their ranks. The values stand
        below their points.

    Raises
    ------
    ValueError
        Where there is no quantity, or one doesn't have a value for each sample.
    """
    if not values or any(np.shape(column) != (len(names),) for column in values.values()):
        raise ValueError(
            f"values: give at least one quantity, each with a value for all {len(names)} samples"
        )
    table = np.array(list(values.values()), dtype=np.float64)
    ranks = _ranks(table)
    width = min(_NAMES + _QUANTITY * len(table), PAGE_WIDTH)
    figure = new_figure(title, _FRAME + _RANK * len(names), width)
    axes = figure.subplots()
    for sample in range(len(names)):
        colour, line = sample_style(sample)
        axes.plot(ranks[:, sample], color=colour, linestyle=line, linewidth=2.2)
        axes.scatter(range(len(table)), ranks[:, sample], s=80, color=colour, zorder=3)
    _write_values(axes, table, ranks)
    axes.set_ylim(len(names) + 0.6, 0.6)
    axes.set_xlim(-0.2, len(table) - 0.8)
    _name_samples(axes, ranks, names)
    labels = [fill(short_name(name, _LONGEST_NAME), max(_LINE // len(table), 8)) for name in values]
    axes.set_xticks(range(len(table)), labels, fontsize=TICK_SIZE)
    axes.tick_params(length=0)
    axes.grid(axis="x", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure


def _ranks(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank along rows from 1, the largest; NaN keeps NaN. SciPy's would take 0.6 s to import."""
    own, other = table[:, :, np.newaxis], table[:, np.newaxis, :]
    ranks = (other > own).sum(axis=2) + ((other == own).sum(axis=2) + 1) / 2
    return np.where(np.isnan(table), np.nan, ranks)


def _write_values(axes: Axes, table: NDArray[np.float64], ranks: NDArray[np.float64]) -> None:
    halo = [withStroke(linewidth=3, foreground="white")]
    for (quantity, sample), value in np.ndenumerate(table):
        if np.isfinite(value):
            axes.annotate(
                f"{value:.3g}".replace("-", "−"),
                (quantity, ranks[quantity, sample]),
                xytext=(0, -8),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=TICK_SIZE,
                path_effects=halo,
            )


def _name_samples(axes: Axes, ranks: NDArray[np.float64], names: Sequence[str]) -> None:
    """Write the samples at their ranks by the first quantity and by the last, equal ones in several lines."""
    right = axes.secondary_yaxis("right")
    for side, own in ((axes, ranks[0]), (right, ranks[-1])):
        places = np.unique(own[np.isfinite(own)])
        labels = [
            "\n".join(short_name(name) for name, rank in zip(names, own, strict=True) if rank == place)
            for place in places
        ]
        side.set_yticks(places, labels, fontsize=LABEL_SIZE)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
