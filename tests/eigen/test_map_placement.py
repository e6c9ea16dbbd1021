"""Maps of any stride are drawn where their pixels lie in the slice."""

import numpy as np
import pytest

from eigenfeatures.eigen import figures
from eigenfeatures.eigen.figures import Placement
from eigenfeatures.eigen.figures.panels import show_image
from eigenfeatures.eigen.figures.style import new_figure

rng = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("offset", "stride", "map_shape"),
    [(0.5, 2, (32, 35)), (7, 8, (7, 8)), (0, 1, (64, 71)), (0.5, 1, (64, 71)), (3.5, 8, (8, 8))],
)
def test_a_pixel_of_a_map_is_drawn_around_the_pixel_of_the_slice_that_it_is_centred_on(
    offset: float, stride: float, map_shape: tuple[int, int]
) -> None:
    axes = new_figure("T", 4.0).subplots()
    drawn = show_image(
        axes, rng.random(map_shape), (0, 1), "gray", (64, 71), (2.0, 3.0), Placement(offset, stride)
    )
    left, right, bottom, top = drawn.get_extent()
    for first, last, count, size in ((top, bottom, map_shape[0], 2.0), (left, right, map_shape[1], 3.0)):
        side = (last - first) / count
        assert side == pytest.approx(stride * size)
        for k in (0, count - 1):
            # Pixel p of the slice is drawn from p to p + 1.
            assert first + (k + 0.5) * side == pytest.approx((offset + stride * k + 0.5) * size)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 213), (128, 0))


def test_maps_after_pooling_by_two_lie_where_they_did_without_being_told() -> None:
    for shape, map_shape in (((64, 70), (32, 35)), ((65, 71), (32, 35))):
        extents = [
            show_image(
                new_figure("T", 4.0).subplots(), rng.random(map_shape), (0, 1), slice_shape=shape, **told
            ).get_extent()
            for told in ({}, {"placement": Placement(0.5, 2.0)})
        ]
        assert extents[0] == extents[1] == [0, 70, 64, 0]


def test_overlay_lays_the_eigenfeature_where_its_pixels_lie() -> None:
    images = list(rng.normal(size=(2, 128, 128)))
    features = list(rng.random((2, 15, 15)))
    figure = figures.overlay(images, features, ["a", "b"], (2.0, 2.0), Placement(7.0, 8.0))
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 2
    for axes in panels:
        below, above = axes.images
        assert below.get_extent() == [0, 256, 256, 0]
        assert above.get_extent() == [7, 247, 247, 7]
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 256), (256, 0))


def test_seed_panel_draws_maps_where_they_lie_in_the_slice() -> None:
    """Pixel k of AlexNet's maps is centred on pixel 7 + 8k: the first begins 3.5 from the corner."""
    gradients = list(rng.random((2, 128, 130)))
    maps = {"seed 0": list(rng.random((2, 15, 15)))}
    for placement, pixel, extent in (
        (Placement(7.0, 8.0), None, [3.5, 123.5, 123.5, 3.5]),
        (Placement(7.0, 8.0), (2.0, 3.0), [10.5, 370.5, 247.0, 7.0]),
        (None, None, [0.0, 120.0, 120.0, 0.0]),
    ):
        figure = figures.seed_panel(maps, gradients, ["a", "b"], "Seeds", pixel, placement)
        grid = np.array([axes for axes in figure.axes if axes.images]).reshape(2, 2)
        row_size, column_size = pixel or (1.0, 1.0)
        for left, right in grid:
            assert right.images[0].get_extent() == extent
            # The slice itself is where it was, and both panels show all of it.
            whole = [0.0, 130 * column_size, 128 * row_size, 0.0]
            assert left.images[0].get_extent() == whole
            assert [*right.get_xlim(), *right.get_ylim()] == whole == [*left.get_xlim(), *left.get_ylim()]
