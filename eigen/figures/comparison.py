"""The samples side by side: what tells them apart (Fig. 11 and 13), and where it lies in the slice."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from eigenfeatures.eigen.figures.panels import (
    COLOUR_BAR,
    Images,
    PixelSize,
    Placement,
    add_colour_bar,
    add_scale_bar,
    intensity_limits,
    name_row,
    near_square,
    panel_figure,
    show_image,
    title_panel,
)
from eigenfeatures.eigen.figures.style import ORANGE, short_name

# Clear where nothing is, orange where the eigenfeature is strong: told from grey with any colour vision.
_CLEAR_TO_ORANGE = LinearSegmentedColormap.from_list(
    "clear to orange", [(*to_rgb(ORANGE), 0.0), (*to_rgb(ORANGE), 0.85)]
)

# Characters in a line of the title of a column.
_LINE = 30


def sample_grid(
    columns: Mapping[str, Images],
    names: Sequence[str],
    title: str,
    pixel_size: PixelSize | None = None,
    placements: Mapping[str, Placement] | None = None,
) -> Figure:
    """Draw a row per sample: |∇Y|, then its α channel or eigenfeature (Fig. 11 and 13).

    Parameters
    ----------
    columns
        Title of a column to its images, one a sample. The first holds images of the size of
        the slice, and is grey; the others may be pooled.
    names
        Of the samples.
    title
        Of the figure.
    pixel_size
        Height and width of a pixel of the slice in micrometres.
    placements
        Title of a column to where the pixels of its maps lie in the slice; see `show_image`.

    Returns
    -------
    Figure
        One intensity scale down each column, shown below it.
    """
    slice_shape = next(iter(columns.values()))[0].shape
    figure, axes = panel_figure(title, len(names), len(columns), slice_shape, pixel_size, COLOUR_BAR)
    for index, (column_title, images) in enumerate(columns.items()):
        label = fill(column_title, _LINE)
        limits = intensity_limits(images, include_zero=True)
        colours = "cividis" if index else "gray"
        placement = (placements or {}).get(column_title)
        drawn = []
        for panel, image in zip(axes[:, index], images, strict=True):
            drawn.append(show_image(panel, image, limits, colours, slice_shape, pixel_size, placement))
            add_scale_bar(panel, pixel_size)
        title_panel(axes[0, index], label)
        add_colour_bar(figure, drawn, label)
    for panel, name in zip(axes[:, 0], names, strict=True):
        name_row(panel, name)
    return figure


def overlay(
    slices: Images,
    eigenfeatures: Images,
    names: Sequence[str],
    pixel_size: PixelSize | None = None,
    placement: Placement | None = None,
) -> Figure:
    """Lay the eigenfeature of a slice over the raw slice, for every sample.

    Parameters
    ----------
    slices
        A raw slice ``(H, W)`` per sample.
    eigenfeatures
        σ₁u₁/√C of each of them, ``(h, w)``, pooled or not.
    names
        Of the samples.
    pixel_size
        Height and width of a pixel of the slice in micrometres.
    placement
        Where the pixels of the eigenfeatures lie in the slice; see `show_image`.

    Returns
    -------
    Figure
        One grey scale for the slices, one scale of orange for the eigenfeatures.
    """
    rows, columns = near_square(len(slices))
    title = "Eigenfeature (orange) over the raw slice"
    figure, axes = panel_figure(title, rows, columns, slices[0].shape, pixel_size, COLOUR_BAR)
    greys = intensity_limits(slices)
    strengths = (0.0, intensity_limits(eigenfeatures, include_zero=True)[1])
    drawn = []
    for panel, image, feature, name in zip(axes.flat, slices, eigenfeatures, names, strict=False):
        show_image(panel, image, greys, pixel_size=pixel_size)
        drawn.append(
            show_image(panel, feature, strengths, _CLEAR_TO_ORANGE, image.shape, pixel_size, placement)
        )
        title_panel(panel, short_name(name))
        add_scale_bar(panel, pixel_size)
    add_colour_bar(figure, drawn, "strength of the eigenfeature, σ₁u₁/√C")
    return figure
