"""Two or three kinds of things side by side in each of several groups: places, colours and names."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import (
    LABEL_SIZE,
    PAGE_WIDTH,
    SERIES_COLOURS,
    TICK_SIZE,
    new_figure,
    short_name,
)

# Blue, vermilion, green: told apart with any colour vision, and dark enough for text on white.
KIND_COLOURS = SERIES_COLOURS[:3]

_WIDTH_OF_A_GROUP = 0.84
# Characters in a line as wide as the page: of numbers and kinds, and of the names of groups.
_SMALL_LINE, _LINE = 105, 100
_SLANT_NAMES_FROM = 8


def kinds_of(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the kinds of things that every group holds.

    Parameters
    ----------
    groups
        Name of a group to name of a kind to anything.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        Where there is no group, groups hold different kinds, or there are more than there are colours.
    """
    kinds = list(next(iter(groups.values()), {}))
    if not kinds or any(list(group) != kinds for group in groups.values()):
        raise ValueError("groups: each must hold the same kinds in the same order; give at least one")
    if len(kinds) > len(KIND_COLOURS):
        raise ValueError(f"groups: {len(kinds)} kinds in each; at most {len(KIND_COLOURS)} are told apart")
    return kinds


def twin_figure(title: str, height: float, groups: int) -> Figure:
    """Make a figure as wide as its groups need; `height` is in inches."""
    return new_figure(title, height, min(2.0 + 2.6 * groups, PAGE_WIDTH))


def places_of(groups: int, kinds: int) -> NDArray[np.float64]:
    """Return where each kind stands along x, ``(groups, kinds)``; group `g` is centred at `g`."""
    offsets = (np.arange(kinds) - (kinds - 1) / 2) * width_of(kinds)
    return np.arange(groups)[:, np.newaxis] + offsets


def width_of(kinds: int) -> float:
    """Return the room of one kind along x."""
    return _WIDTH_OF_A_GROUP / kinds


def stand_upright(groups: int, kinds: Sequence[str]) -> bool:
    """Say whether kinds and numbers such as 0.95 must be turned by 90° lest they overlap."""
    longest = max(4, *(len(kind) for kind in kinds))
    return groups * len(kinds) * (longest + 1) > _SMALL_LINE


def name_twins(axes: Axes, groups: Sequence[str], kinds: Sequence[str]) -> None:
    """Write the kind's name, in its colour, below each of its places, and the group's below these."""
    upright = stand_upright(len(groups), kinds)
    axes.set_xticks(
        places_of(len(groups), len(kinds)).ravel(),
        list(kinds) * len(groups),
        fontsize=TICK_SIZE,
        rotation=90 if upright else 0,
    )
    for label, colour in zip(axes.get_xticklabels(), KIND_COLOURS[: len(kinds)] * len(groups), strict=True):
        label.set_color(colour)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    slanted = len(groups) >= _SLANT_NAMES_FROM
    below = axes.secondary_xaxis("bottom")
    below.set_xticks(
        range(len(groups)),
        [short_name(name) if slanted else fill(short_name(name), _LINE // len(groups)) for name in groups],
        fontsize=LABEL_SIZE,
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
        va="top",
        rotation_mode="anchor" if slanted else "default",
    )
    lines = 0.75 * max(len(kind) for kind in kinds) if upright else 1.2
    below.tick_params(length=0, pad=7 + lines * TICK_SIZE)
    below.spines[:].set_visible(False)
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="0.88", linewidth=0.9, zorder=0)


def write_above(axes: Axes, place: float, text: str, colour: str = "black", upright: bool = False) -> None:
    """Write a number above the axes, over the thing at `place`."""
    axes.annotate(
        text,
        (place, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=TICK_SIZE,
        color=colour,
        rotation=90 if upright else 0,
    )
