"""A value of every slice against its running number, sample after sample (Fig. 3 and 10)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, TICK_SIZE, new_figure, sample_style, short_name

_LINE = "0.7"
_ROTATE_NAMES_FROM = 60


def slice_means(
    values: NDArray[Any], boundaries: Sequence[int] | NDArray[Any], names: Sequence[str], ylabel: str
) -> Figure:
    """Draw one value of every slice, with lines between the samples (Fig. 3a and 3b).

    Parameters
    ----------
    values
        ``(N,)``, the slices of one sample after those of the other.
    boundaries
        ``(S + 1,)`` from 0 to `N`: sample `k` owns ``values[boundaries[k]:boundaries[k + 1]]``.
    names
        Of the `S` samples.
    ylabel
        What the value is, with its unit.

    Returns
    -------
    Figure
        A dashed line marks the mean of each sample.
    """
    figure = new_figure(f"{ylabel[0].upper()}{ylabel[1:]} of every slice", 4.2)
    axes = figure.subplots()
    _draw(axes, values, boundaries, names, ylabel)
    axes.set_xlabel("running number of the slice", fontsize=LABEL_SIZE)
    return figure


def channel_activation(
    means: Mapping[str, NDArray[Any]], boundaries: Sequence[int] | NDArray[Any], names: Sequence[str]
) -> Figure:
    """Draw the mean positive activation of the α channel of every slice, a panel a layer (Fig. 10).

    Parameters
    ----------
    means
        Layer name, such as ``relu1``, to ``(N,)``; 0 where no activation is positive.
    boundaries, names
        As in `slice_means`.

    Returns
    -------
    Figure
        A dashed line marks the mean of each sample.
    """
    title = "Mean of the positive activations of the strongest channel α"
    figure = new_figure(title, 0.6 + 3.2 * len(means))
    panels = figure.subplots(len(means), squeeze=False, sharex=True)[:, 0]
    for axes, (layer, values) in zip(panels, means.items(), strict=True):
        _draw(axes, values, boundaries, names, f"mean activation at {layer}")
    panels[-1].set_xlabel("running number of the slice", fontsize=LABEL_SIZE)
    return figure


def _draw(
    axes: Axes,
    values: NDArray[Any],
    boundaries: Sequence[int] | NDArray[Any],
    names: Sequence[str],
    ylabel: str,
) -> None:
    edges = [int(boundary) for boundary in boundaries]
    numbers = np.arange(1, len(values) + 1)
    for index, (start, stop) in enumerate(pairwise(edges)):
        colour, _ = sample_style(index)
        own = values[start:stop]
        axes.plot(numbers[start:stop], own, color=colour, linewidth=1.2)
        known = own[np.isfinite(own)]
        if known.size:
            axes.hlines(
                known.mean(), start + 0.5, stop + 0.5, color=colour, linestyle="dashed", linewidth=0.9
            )
    for edge in edges[1:-1]:
        axes.axvline(edge + 0.5, color=_LINE, linewidth=0.9, zorder=0)
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    axes.tick_params(labelsize=TICK_SIZE)
    _name_samples(axes, edges, names)


def _name_samples(axes: Axes, edges: Sequence[int], names: Sequence[str]) -> None:
    """Write the name of each sample above its slices."""
    centres = [(start + stop + 1) / 2 for start, stop in pairwise(edges)]
    labels = [short_name(name) for name in names]
    longest = max(len(label) for label in labels)
    slanted = longest * len(labels) > _ROTATE_NAMES_FROM
    top = axes.secondary_xaxis("top")
    top.set_xticks(
        centres, labels, fontsize=TICK_SIZE, rotation=30 if slanted else 0, ha="left" if slanted else "center"
    )
    top.tick_params(length=0)
