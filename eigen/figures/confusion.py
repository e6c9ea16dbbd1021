"""Which sample the network takes for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, TICK_SIZE, new_figure, short_name


def confusion_matrix(matrix: NDArray[Any], names: Sequence[str]) -> Figure:
    """Draw which sample is taken for which.

    Parameters
    ----------
    matrix
        ``(S, S)`` counts of slices: rows are the true samples, columns the predicted ones.
    names
        Of the `S` samples.

    Returns
    -------
    Figure
        Coloured by the share of the row; each cell holds its count and that share.
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(2.2 + 0.65 * len(names), 8.5)
    figure = new_figure("Validation slices: true against predicted sample", side, side + 1.5, compressed=True)
    axes = figure.subplots()
    drawn = axes.imshow(share, cmap="cividis", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            f"{count}\n{share[row, column]:.0%}" if count else "0",
            ha="center",
            va="center",
            fontsize=TICK_SIZE,
            color="black" if share[row, column] > 0.5 else "white",
        )
    labels = [short_name(name) for name in names]
    axes.set_xticks(
        range(len(names)), labels, fontsize=TICK_SIZE, rotation=30, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(names)), labels, fontsize=TICK_SIZE)
    axes.set_xlabel("predicted sample", fontsize=LABEL_SIZE)
    axes.set_ylabel("true sample", fontsize=LABEL_SIZE)
    bar = figure.colorbar(drawn, ax=axes, format=PercentFormatter(1.0))
    bar.set_label("share of the true sample", fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    return figure
