"""Where the regions of a stack lie, and what a region looks like along each axis (Fig. 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.panels import (
    Limits,
    PixelSize,
    add_colour_bar,
    intensity_limits,
    length_unit,
    show_image,
    title_panel,
)
from eigenfeatures.eigen.figures.style import LABEL_SIZE, ORANGE, TICK_SIZE, new_figure
from eigenfeatures.eigen.stacks import Region

# In inches: what the images of a row may take, and what titles, axes and colour bar take beside them.
_WIDTH = 8.0
_HIGHEST = 4.0
_BESIDE_IMAGES = 2.6
_HALO = withStroke(linewidth=4, foreground="black")


@dataclass(frozen=True)
class Sections:
    """Three orthogonal sections through one stack ``(D, H, W)``, as slicing gives them.

    Attributes
    ----------
    xy : ndarray, shape (H, W)
        ``stack[D // 2]``.
    xz : ndarray, shape (D, W)
        ``stack[:, H // 2]``.
    yz : ndarray, shape (D, H)
        ``stack[:, :, W // 2]``.
    """

    xy: NDArray[Any]
    xz: NDArray[Any]
    yz: NDArray[Any]


def whole_slice_and_sections(
    whole_slice: NDArray[Any],
    regions: Sequence[Region],
    sections: Sections,
    voxel_size: tuple[float, float, float] | None = None,
) -> Figure:
    """Draw a whole slice with its cut-outs, and three sections of one cut-out stack (Fig. 2).

    Parameters
    ----------
    whole_slice
        As the instrument wrote it, ``(H, W)``.
    regions
        Where it was cut, in pixels. One that is the whole slice isn't drawn.
    sections
        Through the centre of one of the stacks.
    voxel_size
        Depth, height and width of a voxel in micrometres.

    Returns
    -------
    Figure
        All four images have one grey scale.
    """
    depth_size, row_size, column_size = voxel_size or (1.0, 1.0, 1.0)
    in_plane = (row_size, column_size)
    # Turned, so that y runs down in the yz section as in the xy section to its left.
    drawings = {
        "whole": _Drawing(whole_slice, in_plane, "whole slice", "y", "x"),
        "xy": _Drawing(sections.xy, in_plane, "xy section", "y", "x"),
        "yz": _Drawing(sections.yz.T, (row_size, depth_size), "yz section", "y", "z"),
        "xz": _Drawing(sections.xz, (depth_size, column_size), "xz section", "z", "x"),
    }
    widths, heights = zip(*(drawings[key].lengths for key in ("xy", "yz", "xz")), strict=True)
    # Bounded, so that a very deep or very thin stack leaves room for all three.
    shares = np.clip(widths, max(widths) / 4, min(widths) * 4)
    width, height = drawings["whole"].lengths
    above = min(_WIDTH * height / width, _HIGHEST)
    below = min(_WIDTH * max(heights) / float(shares.sum()), _HIGHEST)

    cut_outs = [region for region in regions if (region.height, region.width) != whole_slice.shape]
    whole = "A whole slice with its cut-outs" if cut_outs else "A whole slice"
    title = f"{whole}, and three sections through the centre of a stack"
    figure = new_figure(title, above + below + _BESIDE_IMAGES)
    axes = figure.subplot_mosaic(
        [["whole"] * 3, ["xy", "yz", "xz"]], width_ratios=shares.tolist(), height_ratios=(above, below)
    )
    limits = intensity_limits([drawing.image for drawing in drawings.values()])
    unit = length_unit(voxel_size)
    drawn = [drawing.draw(axes[key], limits, unit) for key, drawing in drawings.items()]
    _outline(axes["whole"], cut_outs, in_plane)
    add_colour_bar(figure, drawn, "grey value")
    return figure


@dataclass(frozen=True)
class _Drawing:
    """An image, the size of its pixels, its title and the names of its axes."""

    image: NDArray[Any]
    pixel_size: PixelSize
    title: str
    down: str
    across: str

    @property
    def lengths(self) -> tuple[float, float]:
        """Width and height."""
        return self.image.shape[1] * self.pixel_size[1], self.image.shape[0] * self.pixel_size[0]

    def draw(self, axes: Axes, limits: Limits, unit: str) -> AxesImage:
        title_panel(axes, self.title)
        axes.set_xlabel(f"{self.across} ({unit})", fontsize=LABEL_SIZE)
        axes.set_ylabel(f"{self.down} ({unit})", fontsize=LABEL_SIZE)
        axes.tick_params(labelsize=TICK_SIZE)
        return show_image(axes, self.image, limits, pixel_size=self.pixel_size)


def _outline(axes: Axes, regions: Sequence[Region], pixel_size: PixelSize) -> None:
    """Frame and number the regions; the dark halo keeps the orange visible on any grey."""
    row_size, column_size = pixel_size
    for number, region in enumerate(regions, start=1):
        corner = (region.left * column_size, region.top * row_size)
        sides = (region.width * column_size, region.height * row_size)
        axes.add_patch(
            Rectangle(corner, *sides, fill=False, edgecolor=ORANGE, linewidth=2, path_effects=[_HALO])
        )
        axes.annotate(
            str(number),
            corner,
            xytext=(5, -5),
            textcoords="offset points",
            va="top",
            color=ORANGE,
            weight="bold",
            path_effects=[_HALO],
        )
