"""How the network learned (Fig. 6 and 12)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, OKABE_ITO, TICK_SIZE, new_figure

TRAINING_COLOUR, _, _, VALIDATION_COLOUR = OKABE_ITO[:4]

_WINDOW = 5
_MOST_EPOCH_LINES = 40


def training_progress(table: Mapping[str, NDArray[Any]], title: str = "Training progress") -> Figure:
    """Draw accuracy and loss against the iteration (Fig. 6a/b and 12).

    Parameters
    ----------
    table
        Columns ``(T,)``: ``iteration``, ``epoch``, ``training_loss``, ``training_accuracy``,
        ``validation_loss`` and ``validation_accuracy``; accuracies from 0 to 1, NaN where
        nothing was validated.
    title
        Of the figure, naming the network where two are compared.

    Returns
    -------
    Figure
    """
    figure = new_figure(title, 6.6)
    above, below = figure.subplots(2, sharex=True)
    for axes, quantity, label in ((above, "accuracy", "accuracy"), (below, "loss", "loss J (cross-entropy)")):
        _draw_epochs(axes, table["iteration"], table["epoch"])
        _draw_course(axes, table, quantity)
        axes.set_ylabel(label, fontsize=LABEL_SIZE)
        axes.tick_params(labelsize=TICK_SIZE)
    above.set_ylim(0.0, 1.03)
    above.yaxis.set_major_formatter(PercentFormatter(1.0))
    above.legend(loc="lower right", fontsize=TICK_SIZE)
    below.set_ylim(bottom=0.0)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlabel("iteration (grey lines: a new epoch)", fontsize=LABEL_SIZE)
    return figure


def _draw_course(axes: Axes, table: Mapping[str, NDArray[Any]], quantity: str) -> None:
    iteration, training = table["iteration"], table[f"training_{quantity}"]
    axes.plot(
        iteration, training, color=TRAINING_COLOUR, linewidth=0.7, alpha=0.5, label="training, one batch"
    )
    axes.plot(
        iteration,
        _moving_mean(training),
        color=TRAINING_COLOUR,
        linewidth=2.0,
        label=f"training, mean of {_WINDOW} batches",
    )
    validation = table[f"validation_{quantity}"]
    validated = np.isfinite(validation)
    axes.plot(
        iteration[validated],
        validation[validated],
        color=VALIDATION_COLOUR,
        linestyle="dashed",
        marker="o",
        markersize=5,
        label="validation",
    )


def _moving_mean(values: NDArray[Any]) -> NDArray[np.float64]:
    """Average over a centred window that shrinks at the ends."""
    half = _WINDOW // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _draw_epochs(axes: Axes, iteration: NDArray[Any], epoch: NDArray[Any]) -> None:
    starts = np.flatnonzero(np.diff(epoch)) + 1
    for start in starts[:: len(starts) // _MOST_EPOCH_LINES + 1]:
        axes.axvline((iteration[start - 1] + iteration[start]) / 2, color="0.85", linewidth=0.9, zorder=0)
