"""What the same slices look like to several runs (Fig. 11 and 13 with seeds side by side)."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.panels import (
    COLOUR_BAR,
    Images,
    Limits,
    PixelSize,
    Placement,
    add_colour_bar,
    add_scale_bar,
    intensity_limits,
    name_row,
    panel_figure,
    show_image,
    title_panel,
)
from eigenfeatures.eigen.figures.style import short_name

# Characters that fit into the width of the page.
_LINE = 120
# Of the colour bar below one column: all bars are equally thick.
_ASPECT = 12
# Inches of each row that `panel_figure` keeps for titles, which only the first row has.
_UNTITLED = 0.14


def seed_panel(
    columns: Mapping[str, Images],
    gradients: Images,
    samples: Sequence[str],
    title: str,
    pixel_size: PixelSize | None = None,
    placement: Placement | None = None,
) -> Figure:
    """Draw a row per sample: |∇Y|, then the map of each run.

    Parameters
    ----------
    columns
        Name of a run to its maps ``(h, w)`` of u₁ or α, one a sample, pooled or not.
    gradients
        |∇Y| of the same slices, ``(H, W)``, one a sample.
    samples
        Their names.
    title
        Of the figure.
    pixel_size
        Height and width of a pixel of the slice in micrometres.
    placement
        Where the pixels of the maps lie in the slice; see `show_image`.

    Returns
    -------
    Figure
        Each map is scaled to unit root mean square, since activations have no unit that networks share.
        All runs share one scale; it suits the median map, lest a map of a few bright spots darken
        all others.

    Raises
    ------
    ValueError
        Where a column doesn't have one image a sample.
    """
    shape = gradients[0].shape
    below = COLOUR_BAR - _UNTITLED * (len(samples) - 1)
    figure, axes = panel_figure(title, len(samples), 1 + len(columns), shape, pixel_size, below)
    limits = intensity_limits(gradients, include_zero=True)
    drawn = []
    for panel, image, sample in zip(axes[:, 0], gradients, samples, strict=True):
        drawn.append(show_image(panel, image, limits, "gray", shape, pixel_size))
        add_scale_bar(panel, pixel_size)
        name_row(panel, sample)
    title_panel(axes[0, 0], "|∇Y|")
    add_colour_bar(figure, drawn, "|∇Y|", aspect=_ASPECT)
    scaled = {run: [_unit_root_mean_square(image) for image in images] for run, images in columns.items()}
    limits = _median_limits([image for images in scaled.values() for image in images])
    drawn = []
    for column, (run, images) in zip(axes[:, 1:].T, scaled.items(), strict=True):
        title_panel(column[0], fill(short_name(run, 40), _LINE // (1 + len(columns))))
        for panel, image in zip(column, images, strict=True):
            drawn.append(show_image(panel, image, limits, "cividis", shape, pixel_size, placement))
    label = "maps of all runs, each at unit root mean square, on one scale"
    label = fill(label, _LINE * len(columns) // (1 + len(columns)))
    add_colour_bar(figure, drawn, label, aspect=_ASPECT * len(columns))
    return figure


def _unit_root_mean_square(image: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(image, dtype=np.float64)
    size = np.sqrt(np.mean(values**2))
    return values / size if size > 0 else values


def _median_limits(images: Sequence[NDArray[np.float64]]) -> Limits:
    low, high = np.median([intensity_limits([image], include_zero=True) for image in images], axis=0)
    return float(low), float(high)
