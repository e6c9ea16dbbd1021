"""What was measured: a raw slice of every sample (Fig. 1)."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from eigenfeatures.eigen.figures.panels import (
    COLOUR_BAR,
    Images,
    PixelSize,
    add_colour_bar,
    add_scale_bar,
    intensity_limits,
    near_square,
    panel_figure,
    show_image,
    title_panel,
)
from eigenfeatures.eigen.figures.style import short_name


def typical_slices(slices: Images, names: Sequence[str], pixel_size: PixelSize | None = None) -> Figure:
    """Draw one raw slice of every sample on one grey scale (Fig. 1).

    Parameters
    ----------
    slices
        A slice ``(H, W)`` per sample.
    names
        Of the samples.
    pixel_size
        Height and width of a pixel in micrometres.

    Returns
    -------
    Figure
    """
    rows, columns = near_square(len(slices))
    title = "A raw slice of every sample, on one grey scale"
    figure, axes = panel_figure(title, rows, columns, slices[0].shape, pixel_size, COLOUR_BAR)
    limits = intensity_limits(slices)
    drawn = []
    for panel, image, name in zip(axes.flat, slices, names, strict=False):
        drawn.append(show_image(panel, image, limits, pixel_size=pixel_size))
        title_panel(panel, short_name(name))
        add_scale_bar(panel, pixel_size)
    add_colour_bar(figure, drawn, "grey value")
    return figure
