"""Figures of responses hold the values that they were given, on the scales that they claim."""

import numpy as np
import pytest
from drawn import pictures, slices_of, values

from eigenfeatures.eigen import figures
from eigenfeatures.kernels import stretch_contrast

rng = np.random.default_rng(7)


def test_operators_are_stretched_each_on_its_own() -> None:
    image = rng.random((30, 40)).astype(np.float32)
    figure = figures.operator_comparison({"forward": image, "sobel": 32 * image})
    first, second = pictures(figure)
    np.testing.assert_array_equal(values(first), stretch_contrast(image))
    np.testing.assert_allclose(values(second), values(first), atol=1e-6)
    assert [first.get_title(), second.get_title()] == ["forward", "sobel"]
    assert "on its own" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("channels", "rows", "columns"), [(128, 12, 11), (64, 8, 8), (96, 11, 9), (1, 1, 1), (2, 2, 1)]
)
def test_montage_lays_every_channel_in_its_place(channels: int, rows: int, columns: int) -> None:
    maps = rng.random((channels, 26, 38)).astype(np.float32)
    (axes,) = pictures(figures.response_montage(maps, "relu2"))
    mosaic = np.ma.filled(axes.images[0].get_array(), np.nan)
    gap = 1
    assert mosaic.shape == (rows * 27 - gap, columns * 39 - gap)
    for place in range(rows * columns):
        top, left = place // columns * 27, place % columns * 39
        tile = mosaic[top : top + 26, left : left + 38]
        if place < channels:
            np.testing.assert_array_equal(tile, stretch_contrast(maps[place]))
        else:
            assert np.isnan(tile).all()
    assert axes.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(k * columns) for k in range(rows)]


@pytest.mark.parametrize(
    ("slice_side", "map_side", "covered"),
    [(266, 266, 266), (266, 133, 266), (267, 133, 266), (150, 9, 144), (79, 4, 64)],
)
def test_pooled_maps_cover_the_pixels_that_they_come_from(
    slice_side: int, map_side: int, covered: int
) -> None:
    gradient, channel = np.zeros((slice_side, slice_side)), rng.normal(size=(map_side, map_side))
    figure = figures.gradient_and_channels(gradient, {"relu2": channel}, (2.0, 2.0))
    left, right = pictures(figure)
    np.testing.assert_array_equal(values(right), channel)
    assert left.images[0].get_extent() == [0, 2 * slice_side, 2 * slice_side, 0]
    assert right.images[0].get_extent() == [0, 2 * covered, 2 * covered, 0]
    assert right.get_xlim() == left.get_xlim() == (0, 2 * slice_side)
    assert right.get_title() == "α channel at relu2"


@pytest.mark.parametrize("samples", [2, 7])
def test_sample_grid_has_one_scale_down_each_column(samples: int) -> None:
    gradients = [np.abs(image) for image in slices_of(samples)]
    features = [np.abs(rng.normal(size=(20, 30))) * (k + 1) for k in range(samples)]
    names = [f"S{k}" for k in range(samples)]
    figure = figures.sample_grid(
        {"|∇Y|": gradients, "mine": features, "theirs": features[::-1]}, names, "Eigenfeatures"
    )
    grid = np.array(pictures(figure)).reshape(samples, 3)
    for column, images in zip(grid.T, (gradients, features, features[::-1]), strict=True):
        assert len({axes.images[0].get_clim() for axes in column}) == 1
        low, high = column[0].images[0].get_clim()
        assert low == 0
        np.testing.assert_allclose(high, max(np.percentile(image, 99.5) for image in images))
        for axes, image in zip(column, images, strict=True):
            np.testing.assert_array_equal(values(axes), image)
            assert axes.images[0].get_extent() == [0, 60, 40, 0]
    assert [axes.get_title() for axes in grid[0]] == ["|∇Y|", "mine", "theirs"]
    assert [axes.texts[0].get_text() for axes in grid[:, 0]] == names


def test_a_column_without_an_image_for_each_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        figures.sample_grid({"|∇Y|": slices_of(2), "u": slices_of(1)}, ["a", "b"], "Eigenfeatures")


def test_overlay_is_clear_where_the_eigenfeature_is_zero_and_opaque_where_it_is_strong() -> None:
    images = slices_of(3)
    features = [np.linspace(0, k + 1, 20 * 30).reshape(20, 30) for k in range(3)]
    figure = figures.overlay(images, features, ["a", "b", "c"])
    for axes, image, feature in zip(pictures(figure), images, features, strict=True):
        below, above = axes.images
        np.testing.assert_array_equal(np.asarray(below.get_array()), image)
        np.testing.assert_array_equal(np.asarray(above.get_array()), feature)
        assert above.get_extent() == below.get_extent() == [0, 60, 40, 0]
        np.testing.assert_allclose(above.get_clim(), (0, np.percentile(features[2], 99.5)))
        alpha = above.to_rgba(feature)[..., 3]
        assert alpha.flat[0] == 0
        assert (np.diff(alpha.ravel()) >= 0).all()
    assert alpha.max() > 0.8


def test_confusion_matrix_counts_and_shares() -> None:
    matrix = np.array([[6, 2, 0], [0, 0, 0], [1, 1, 2]])
    axes = figures.confusion_matrix(matrix, ["a", "b", "c"]).axes[0]
    np.testing.assert_allclose(values(axes), [[0.75, 0.25, 0], [0, 0, 0], [0.25, 0.25, 0.5]])
    cells = [text.get_text() for text in axes.texts]
    assert cells == ["6\n75%", "2\n25%", "0", "0", "0", "0", "1\n25%", "1\n25%", "2\n50%"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted sample", "true sample")
