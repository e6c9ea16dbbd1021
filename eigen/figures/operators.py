"""The gradient by several operators (Fig. 5)."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures.panels import (
    PixelSize,
    add_scale_bar,
    near_square,
    panel_figure,
    show_image,
    title_panel,
)
from eigenfeatures.kernels import stretch_contrast


def operator_comparison(images: Mapping[str, NDArray[Any]], pixel_size: PixelSize | None = None) -> Figure:
    """Draw |∇Y| of one slice by several operators (Fig. 5).

    Parameters
    ----------
    images
        Name of the operator to |∇Y|, ``(H, W)``.
    pixel_size
        Height and width of a pixel in micrometres.

    Returns
    -------
    Figure
        Each image is stretched on its own: the masks differ in scale by up to a factor of 32.
    """
    rows, columns = near_square(len(images))
    shape = next(iter(images.values())).shape
    title = "|∇Y| by operator (each image stretched on its own, since the masks differ in scale)"
    figure, axes = panel_figure(title, rows, columns, shape, pixel_size)
    for panel, (operator, image) in zip(axes.flat, images.items(), strict=False):
        show_image(panel, stretch_contrast(image), (0.0, 1.0), pixel_size=pixel_size)
        title_panel(panel, operator)
        add_scale_bar(panel, pixel_size)
    return figure
