"""Images on axes: one intensity scale, a physical scale, and panels in rows and columns."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.style import LABEL_SIZE, PAGE_WIDTH, TICK_SIZE, new_figure, short_name

PixelSize = tuple[float, float]
"""Height and width of a pixel of the slice, in micrometres."""

Images = Sequence[NDArray[Any]] | NDArray[Any]
"""Images ``(H, W)``, one a sample, in a list or stacked in one array."""

Limits = tuple[float, float]


class Placement(NamedTuple):
    """Pixel k of a map is centred on pixel ``offset + stride * k`` of the slice, along either axis."""

    offset: float
    stride: float


_SATURATED_PERCENT = 0.5
_EXTEND: dict[tuple[bool, bool], Literal["neither", "min", "max", "both"]] = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}
# In inches. The narrowest figure still holds its title.
_PAGE_HEIGHT = 10.0
_LOWEST_PANEL, _HIGHEST_PANEL = 1.8, 4.5
_NARROWEST_FIGURE = 7.0
_PANEL_TITLE = 0.3
_FIGURE_TITLE = 0.4
COLOUR_BAR = 0.7


def intensity_limits(images: Images, include_zero: bool = False) -> Limits:
    """Choose one intensity scale for images that are compared.

    Parameters
    ----------
    images
        Arrays of any shape.
    include_zero
        Let the scale contain 0, as suits what has a meaningful zero: a gradient, an activation.

    Returns
    -------
    tuple of float
        Lower and upper limit: in no image more than 0.5 % of the pixels, rounded up, lie below or above.
        The upper one is larger, also for constant images.
    """
    # Where nearly all pixels are equal, the few others set the scale.
    for percent in (_SATURATED_PERCENT, 0.0):
        percentiles = [np.percentile(image, (percent, 100 - percent)) for image in images]
        low = min(float(low) for low, _ in percentiles)
        high = max(float(high) for _, high in percentiles)
        if include_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high > low:
            return low, high
    return low, low + max(1.0, abs(low))


def show_image(
    axes: Axes,
    image: NDArray[Any],
    limits: Limits,
    colours: str | Colormap = "gray",
    slice_shape: tuple[int, ...] | None = None,
    pixel_size: PixelSize | None = None,
    placement: Placement | None = None,
) -> AxesImage:
    """Draw a slice, or a map that belongs to a slice, where it lies in the slice.

    Parameters
    ----------
    axes
        Set to the field of the slice, so that pictures of one slice lie on each other.
    image
        ``(h, w)``.
    limits
        Of the intensity scale.
    colours
        A colour map.
    slice_shape
        ``(H, W)`` of the slice that a pooled map `image` belongs to; its own shape by default.
    pixel_size
        Of the slice; without it lengths are in pixels.
    placement
        Where the pixels of the map lie; by default as after pooling by a power of two.

    Returns
    -------
    AxesImage
        Its extent is in micrometres, or in pixels without `pixel_size`.
    """
    height, width = slice_shape or image.shape
    row_size, column_size = pixel_size or (1.0, 1.0)
    top, bottom = _ends(height, image.shape[0], placement, row_size)
    left, right = _ends(width, image.shape[1], placement, column_size)
    drawn = axes.imshow(
        image,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        extent=(left, right, bottom, top),
        interpolation="nearest",
        interpolation_stage="data",
    )
    axes.set(xlim=(0.0, width * column_size), ylim=(height * row_size, 0.0))
    return drawn


def _ends(slice_side: int, map_side: int, placement: Placement | None, pixel: float) -> tuple[float, float]:
    """Return where a map begins and ends along an axis."""
    if placement is None:
        # Pixel k of a map pooled by s covers pixels sk … sk + s − 1 of the slice: the edges match,
        # the centres are half a map pixel off, and the odd last row of the slice stays uncovered.
        return 0.0, map_side * _stride(slice_side, map_side) * pixel
    # A pixel of the slice is drawn from its number to the next one, its centre half-way.
    first = placement.offset + 0.5 - placement.stride / 2
    return first * pixel, (first + map_side * placement.stride) * pixel


def _stride(slice_side: int, map_side: int) -> int:
    """Pixels of the slice in a pixel of the map; every network here pools by powers of two."""
    return 1 << int(math.log2(slice_side / map_side))


def length_unit(pixel_size: Sequence[float] | None) -> str:
    """Name the unit of the axes of an image."""
    return "pixels" if pixel_size is None else "µm"


def add_scale_bar(axes: Axes, pixel_size: PixelSize | None) -> None:
    """Draw a bar of a round length, about a quarter of the image, with its length."""
    width = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    height = abs(axes.get_ylim()[1] - axes.get_ylim()[0])
    length = _round_length(width / 4)
    bar = AnchoredSizeBar(
        axes.transData,
        length,
        f"{length:g} {length_unit(pixel_size)}",
        loc="lower right",
        size_vertical=height / 80,
        pad=0.3,
        sep=3,
        borderpad=0.4,
        fontproperties={"size": TICK_SIZE - 1},
    )
    bar.patch.set(alpha=0.75, edgecolor="none")
    axes.add_artist(bar)


def _round_length(length: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(length))
    return power * max(step for step in (1, 2, 5) if step * power <= length)


def near_square(count: int) -> tuple[int, int]:
    """Give rows and columns for `count` panels of a page: up to three in one row, then near to a square."""
    columns = count if count <= 3 else math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def panel_figure(
    title: str,
    rows: int,
    columns: int,
    slice_shape: tuple[int, ...],
    pixel_size: PixelSize | None,
    below: float = 0.0,
    margin: float = 0.1,
) -> tuple[Figure, NDArray[Any]]:
    """Make a figure of equal image panels.

    Parameters
    ----------
    title
        Of the figure.
    rows, columns
        Number of panels.
    slice_shape
        ``(H, W)`` of the slices, which sets the height of the page.
    pixel_size
        Of the slices.
    below
        Inches for what stands below the panels.
    margin
        Inches for what stands beside each panel.

    Returns
    -------
    figure : Figure
    axes : ndarray of Axes, shape (rows, columns)
        Blank until something is drawn.
    """
    row_size, column_size = pixel_size or (1.0, 1.0)
    aspect = slice_shape[0] * row_size / (slice_shape[1] * column_size)
    highest = min(max(_PAGE_HEIGHT / rows, _LOWEST_PANEL), _HIGHEST_PANEL)
    panel_width = min(PAGE_WIDTH / columns - margin, highest / aspect)
    width = max(columns * (panel_width + margin), _NARROWEST_FIGURE)
    height = rows * (panel_width * aspect + _PANEL_TITLE) + _FIGURE_TITLE + below
    figure = new_figure(title, height, width, compressed=True)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    return figure, axes


def title_panel(axes: Axes, title: str) -> None:
    """Write the title of one panel."""
    axes.set_title(title, fontsize=LABEL_SIZE)


def name_row(axes: Axes, name: str) -> None:
    """Write the name of a row of panels beside its first."""
    axes.text(
        -0.03,
        0.5,
        short_name(name),
        transform=axes.transAxes,
        rotation=90,
        ha="right",
        va="center",
        fontsize=LABEL_SIZE,
    )


def add_colour_bar(
    figure: Figure,
    images: Sequence[AxesImage],
    label: str,
    location: Literal["bottom", "right"] = "bottom",
    aspect: float = 30,
) -> None:
    """Explain the colours of images on one scale; its ends are pointed where pixels lie beyond it."""
    low, high = images[0].get_clim()
    pixels = [np.asarray(image.get_array()) for image in images]
    below = any(bool(image.min() < low) for image in pixels)
    above = any(bool(image.max() > high) for image in pixels)
    bar = figure.colorbar(
        images[0],
        ax=[image.axes for image in images],
        location=location,
        extend=_EXTEND[below, above],
        aspect=aspect,
        shrink=0.85,
        pad=0.02,
    )
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
