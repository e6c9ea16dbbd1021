"""How fast the singular values of the response maps fall (Fig. 7d)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, TICK_SIZE, new_figure, sample_style, short_name

# Ratios below are rounding in float32, and would squeeze all others together.
_SMALLEST_RATIO = 1e-4


def singular_value_decay(
    singular_values: NDArray[Any], energy: NDArray[Any], labels: NDArray[Any], names: Sequence[str]
) -> Figure:
    """Draw σₖ/σ₁ and the cumulative energy of every sample (Fig. 7d).

    Parameters
    ----------
    singular_values
        ``(N, K)``, falling along each row.
    energy
        ``(N,)``, σ₁²/‖X‖²_F of each slice.
    labels
        ``(N,)``, the index of the sample of each slice.
    names
        Of the samples.

    Returns
    -------
    Figure
        Line: median of the slices of a sample; band: from the first to the third quartile.
        Slices with σ₁ = 0 are left out.
    """
    figure = new_figure("Singular values of the response maps: median and quartiles of each sample", 4.8)
    left, right = figure.subplots(1, 2)
    lines: list[Line2D] = []
    shown: list[str] = []
    for index, name in enumerate(names):
        own = (labels == index) & (singular_values[:, 0] > 0)
        if not own.any():
            continue
        ratio = singular_values[own] / singular_values[own, :1]
        # ‖X‖²_F = σ₁² / energy, hence Σσ²/‖X‖²_F = energy Σ(σ/σ₁)².
        cumulative = energy[own, np.newaxis] * np.cumsum(ratio**2, axis=1)
        lines.append(_draw(left, ratio, index))
        shown.append(short_name(name))
        _draw(right, cumulative, index)
    left.set_yscale("log", nonpositive="mask")
    left.set_ylim(bottom=max(left.get_ylim()[0], _SMALLEST_RATIO))
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("σₖ / σ₁", fontsize=LABEL_SIZE)
    right.set_ylim(0.0, 1.03)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_ylabel("share of ‖X‖² in the first k terms", fontsize=LABEL_SIZE)
    for axes in (left, right):
        axes.set_xlabel("k", fontsize=LABEL_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=TICK_SIZE)
        axes.grid(color="0.9")
    if lines:
        figure.legend(lines, shown, loc="outside lower center", ncols=4, fontsize=TICK_SIZE)
    return figure


def _draw(axes: Axes, values: NDArray[Any], index: int) -> Line2D:
    colour, line = sample_style(index)
    lower, median, upper = np.percentile(values, (25, 50, 75), axis=0)
    order = np.arange(1, values.shape[1] + 1)
    axes.fill_between(order, lower, upper, color=colour, alpha=0.2, linewidth=0)
    (drawn,) = axes.plot(order, median, color=colour, linestyle=line, marker="o", markersize=4)
    return drawn
