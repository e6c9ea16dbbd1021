"""What the channels of a layer answer to one slice (Fig. 8 and 9)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.panels import (
    PixelSize,
    Placement,
    add_colour_bar,
    add_scale_bar,
    intensity_limits,
    panel_figure,
    show_image,
    title_panel,
)
from eigenfeatures.eigen.figures.style import LABEL_SIZE, PAGE_WIDTH, TICK_SIZE, new_figure
from eigenfeatures.kernels import stretch_contrast


def response_montage(maps: NDArray[Any], layer: str) -> Figure:
    """Draw the response maps of all channels of a layer (Fig. 8).

    Parameters
    ----------
    maps
        ``(C, h, w)``, of one slice.
    layer
        Its name, such as ``relu2``.

    Returns
    -------
    Figure
        Each map is stretched on its own, 1 % of its pixels saturated at each end; 128 channels
        make 12 rows of 11, the last four places empty.
    """
    channels, height, width = maps.shape
    columns = math.isqrt(channels)
    rows = math.ceil(channels / columns)
    gap = max(1, round(min(height, width) / 25))
    mosaic = _mosaic(stretch_contrast(maps), rows, columns, gap)
    page = 0.92 * PAGE_WIDTH * mosaic.shape[0] / mosaic.shape[1]
    title = f"Response maps of the {channels} channels of {layer} (each stretched on its own)"
    figure = new_figure(title, min(page, 2 * PAGE_WIDTH) + 1.0)
    axes = figure.subplots()
    axes.imshow(mosaic, cmap=colormaps["gray"].with_extremes(bad="white"), vmin=0.0, vmax=1.0)
    axes.set_yticks(
        [row * (height + gap) + (height - 1) / 2 for row in range(rows)],
        [str(row * columns) for row in range(rows)],
        fontsize=TICK_SIZE,
    )
    axes.set_xticks(
        [column * (width + gap) + (width - 1) / 2 for column in range(columns)],
        [f"+{column}" for column in range(columns)],
        fontsize=TICK_SIZE,
    )
    axes.set_xlabel(
        f"channel number: row + column; each map is {height} × {width} pixels", fontsize=LABEL_SIZE
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _mosaic(maps: NDArray[np.float32], rows: int, columns: int, gap: int) -> NDArray[np.float32]:
    """Lay maps in rows, with NaN between them and where none is left."""
    channels, height, width = maps.shape
    tiles = np.full((rows * columns, height + gap, width + gap), np.nan, dtype=np.float32)
    tiles[:channels, :height, :width] = maps
    grid = tiles.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return grid.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]


def gradient_and_channels(
    gradient: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    pixel_size: PixelSize | None = None,
    placements: Mapping[str, Placement] | None = None,
) -> Figure:
    """Draw |∇Y| of one slice beside the strongest channel of several layers (Fig. 9).

    Parameters
    ----------
    gradient
        ``(H, W)``.
    maps
        Layer name to its α channel ``(h, w)``, pooled or not.
    pixel_size
        Height and width of a pixel of the slice in micrometres.
    placements
        Layer name to where the pixels of its map lie in the slice; see `show_image`.

    Returns
    -------
    Figure
        A row per layer; every image has its own intensity scale, shown beside it.
    """
    title = "|∇Y| (left) and the strongest channel α of each layer (right)"
    figure, axes = panel_figure(title, len(maps), 2, gradient.shape, pixel_size, margin=1.0)
    for (left, right), (layer, image) in zip(axes, maps.items(), strict=True):
        placement = (placements or {}).get(layer)
        for panel, values, name, placed in (
            (left, gradient, "|∇Y|", None),
            (right, image, f"α channel at {layer}", placement),
        ):
            limits = intensity_limits([values], include_zero=True)
            drawn = show_image(panel, values, limits, "gray", gradient.shape, pixel_size, placed)
            title_panel(panel, name)
            add_scale_bar(panel, pixel_size)
            add_colour_bar(figure, [drawn], "activation" if panel is right else "|∇Y|", "right")
    return figure
