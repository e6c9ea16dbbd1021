"""How much of the accuracy by a random split is leakage between neighbouring slices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, TICK_SIZE
from eigenfeatures.eigen.figures.twins import KIND_COLOURS, name_twins, places_of, twin_figure, write_above

_SPREAD = 0.16
_MEAN_WIDTH = 0.3


def leakage_bars(
    random: Mapping[str, NDArray[Any]],
    block: Mapping[str, NDArray[Any]],
    chance: float | None = None,
    held_out: str = "block",
) -> Figure:
    """Draw the accuracy by random and by another split side by side, a point a seed.

    Parameters
    ----------
    random, block
        Preset to the validation accuracy of each seed, from 0 to 1, ``(seeds,)``; NaN where a
        training is missing. Both have the same presets and seeds.
    chance
        The accuracy of guessing, drawn as a dashed line.
    held_out
        Name of the other split: what is held out together.

    Returns
    -------
    Figure
        Thin lines join the two trainings of a seed, thick ones mark means; above stands the mean
        difference of the seeds that have both.

    Raises
    ------
    ValueError
        Where presets or seeds of the two differ, or there are none.
    """
    if not random or list(random) != list(block):
        raise ValueError(f"random, block: presets {list(random)} and {list(block)}; give the same for both")
    if any(np.shape(random[preset]) != np.shape(block[preset]) for preset in random):
        raise ValueError("random, block: different numbers of seeds; give NaN for a training that is missing")
    title = (
        f"Validation accuracy by random and by {held_out} split, a point a seed (above: random − {held_out},"
        " mean)"
    )
    figure = twin_figure(title, 4.6, len(random))
    axes = figure.subplots()
    for places, preset in zip(places_of(len(random), 2), random, strict=True):
        _draw(axes, places, np.array([random[preset], block[preset]], dtype=np.float64))
    if chance is not None:
        axes.axhline(chance, color="0.35", linestyle="dashed", linewidth=1.0, zorder=0.5)
        axes.text(-0.48, chance, "chance", fontsize=TICK_SIZE, color="0.35", va="bottom")
    name_twins(axes, list(random), ["random", held_out])
    axes.set_ylabel("validation accuracy", fontsize=LABEL_SIZE)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="y", labelsize=TICK_SIZE)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    return figure


def _draw(axes: Axes, places: NDArray[np.float64], pair: NDArray[np.float64]) -> None:
    """Draw one preset: accuracies ``(2, seeds)`` by random and by block split."""
    seeds = pair.shape[1]
    across = (np.arange(seeds) - (seeds - 1) / 2) * _SPREAD / max(seeds - 1, 1)
    axes.plot(places[:, np.newaxis] + across, pair, color="0.75", linewidth=0.9, zorder=1)
    for place, own, colour in zip(places, pair, KIND_COLOURS, strict=False):
        axes.scatter(place + across, own, s=30, color=colour, alpha=0.75, linewidths=0, zorder=2)
        if np.isfinite(own).any():
            ends = place - _MEAN_WIDTH / 2, place + _MEAN_WIDTH / 2
            axes.hlines(np.nanmean(own), *ends, color=colour, linewidth=3)
    both = np.isfinite(pair).all(axis=0)
    if both.any():
        points = 100 * (pair[0, both] - pair[1, both]).mean()
        write_above(axes, places.mean(), f"{points:+.1f} points".replace("-", "−"))
