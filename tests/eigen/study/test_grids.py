"""Grids of maps: where their pixels lie, and averages around them."""

import numpy as np
import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.receptive_field import receptive_field
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.study.grids import (
    Grid,
    common_grid,
    dense_grid,
    grid_of,
    interior,
    resample,
    slice_grid,
)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("preset", "size"), [("small", (64, 71)), ("small", (33, 50)), ("alexnet", (131, 128))]
)
def test_the_shape_is_that_of_the_responses(preset, size):
    network = build_network(preset, 2, size).eval()
    layers = network.response_layers
    maps = responses(network, torch.zeros(1, 1, *size), layers)
    assert {name: grid_of(network, name, size).shape for name in layers} == {
        name: tuple(found.shape[-2:]) for name, found in maps.items()
    }


def test_offsets_by_hand():
    network = build_network("small", 2, (64, 64))
    assert grid_of(network, "conv1", (64, 64)) == slice_grid((64, 64)) == Grid(1, 0, (64, 64))
    # Each pixel at relu2 is made of two of the slice's, 0 and 1, and of as many on both sides.
    assert grid_of(network, "relu2", (64, 64)) == Grid(2, 0.5, (32, 32))
    assert grid_of(build_network("alexnet", 2, (128, 128)), "relu2", (128, 128)) == Grid(8, 7, (15, 15))
    with pytest.raises(InputError, match="layer 'relu9'"):
        grid_of(network, "relu9", (64, 64))


@torch.inference_mode()
@pytest.mark.parametrize(("preset", "layer"), [("small", "relu3"), ("alexnet", "relu2")])
def test_a_pixel_lies_at_the_centre_of_what_it_answers_to(preset, layer):
    """Mirrored slices give mirrored maps about that centre, if the kernels are symmetric."""
    side = 127 if preset == "alexnet" else 64
    network = build_network(preset, 2, (side, side), seed=1).eval()
    for module in network.children():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    found, mirrored = (responses(network, view, [layer])[layer] for view in (image, image.flip(-1)))
    grid = grid_of(network, layer, (side, side))
    # Pixel i, mirrored, lies where pixel `total - i` does.
    total = (side - 1 - 2 * grid.offset) / grid.stride
    assert total == int(total)
    inner = np.arange(5, grid.shape[1] - 5)
    torch.testing.assert_close(mirrored[..., 5:-5, inner], found[..., 5:-5, int(total) - inner])


@torch.inference_mode()
@pytest.mark.parametrize(
    ("preset", "layer", "resolution"),
    [
        ("small", "conv2", "pooled"),
        ("alexnet", "conv1", "pooled"),
        ("alexnet", "conv2", "pooled"),
        ("small", "conv2", "dense"),
        ("alexnet", "conv2", "dense"),
    ],
)
def test_the_interior_is_what_the_slice_alone_decides(preset, layer, resolution):
    """There a part of a larger image has the responses of the whole; a pixel further out, zeros are seen."""
    network = build_network(preset, 2, (112, 120), seed=1).eval()
    whole = torch.rand(1, 1, 240, 240, generator=torch.Generator().manual_seed(0)) + 1
    grid, size = grid_of(network, layer, (112, 120)), (112, 120)
    start = 64
    part = whole[..., start : start + size[0], start : start + size[1]]
    of_whole, of_part = (responses(network, image, [layer], resolution)[layer][0] for image in (whole, part))
    if resolution == "dense":
        grid = dense_grid(grid, tuple(of_part.shape[-2:]))
    at = start // int(grid.stride)
    of_whole = of_whole[:, at : at + grid.shape[0], at : at + grid.shape[1]]
    same = torch.isclose(of_whole, of_part, rtol=1e-4, atol=1e-5).all(0).numpy()
    rows, columns = interior(grid, size, receptive_reach(network, layer))
    inside = np.zeros(grid.shape, bool)
    inside[rows, columns] = True
    np.testing.assert_array_equal(same, inside)
    assert inside.any()
    assert not inside.all()


def receptive_reach(network, layer):
    field = receptive_field(network, layer)
    return (field.before + field.after) / 2


@torch.inference_mode()
@pytest.mark.parametrize("preset", ["small", "alexnet"])
def test_pixels_of_dense_maps_lie_where_those_of_pooled_ones_do(preset):
    """Each so-manyth pixel of a dense map is one of the pooled map, and lies where it does."""
    network = build_network(preset, 2, (112, 120), seed=1).eval()
    image = torch.rand(1, 1, 112, 120, generator=torch.Generator().manual_seed(0))
    pooled, dense = (responses(network, image, ["conv2"], how)["conv2"][0] for how in ("pooled", "dense"))
    of_pooled = grid_of(network, "conv2", (112, 120))
    of_dense = dense_grid(of_pooled, tuple(dense.shape[-2:]))
    assert of_dense == Grid(1, of_pooled.offset, tuple(dense.shape[-2:]))
    stride, centre = int(of_pooled.stride), tuple(side // 2 for side in of_pooled.shape)
    at = tuple(of_pooled.offset + stride * k for k in centre)
    rows, columns = (int(place - of_dense.offset) for place in at)
    torch.testing.assert_close(dense[:, rows, columns], pooled[:, *centre], rtol=1e-4, atol=1e-5)
    # A pixel beside it is another.
    assert not torch.allclose(dense[:, rows, columns + 1], pooled[:, *centre], rtol=1e-2, atol=1e-3)


def test_an_interior_may_be_empty_or_all():
    grid = Grid(8, 7, (11, 12))
    for reach in (60, 1e4):
        assert np.zeros(grid.shape)[interior(grid, (96, 104), reach)].size == 0
    assert interior(slice_grid((9, 7)), (9, 7), 0) == (slice(0, 9), slice(0, 7))
    assert interior(slice_grid((9, 7)), (9, 7), 2) == (slice(2, 7), slice(2, 5))
    assert interior(slice_grid((9, 7)), (9, 7), 2.5) == (slice(3, 6), slice(3, 4))


def test_equal_grids_change_nothing():
    maps, grid = np.ones((2, 4, 5), np.float32), Grid(2, 0.5, (4, 5))
    assert resample(maps, grid, Grid(2, 0.5, (4, 5))) is maps


def test_means_are_the_gaussian_weighted_ones():
    source, target = Grid(2, 0.5, (12, 14)), Grid(6, 4, (3, 4))
    maps = np.random.default_rng(0).random((2, 3, 12, 14)).astype(np.float32)
    found = resample(maps, source, target)
    y, x = np.mgrid[:12, :14] * 2 + 0.5
    for row, column in np.ndindex(3, 4):
        weight = np.exp(-((y - 4 - 6 * row) ** 2 + (x - 4 - 6 * column) ** 2) / (2 * 3**2))
        expected = (maps * weight).sum((-2, -1)) / weight.sum()
        np.testing.assert_allclose(found[..., row, column], expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, 3, 4)


def test_places_are_kept():
    """A ramp of positions comes out as the positions of the target, away from the borders."""
    source, target = Grid(2, 0.5, (64, 60)), Grid(8, 7, (15, 14))
    ramp = (0.5 + 2 * np.arange(60, dtype=np.float32)) * np.ones((64, 1), np.float32)
    found = resample(ramp, source, target)
    np.testing.assert_allclose(
        found[:, 2:-2], np.broadcast_to(7 + 8 * np.arange(14), (15, 14))[:, 2:-2], atol=0.02
    )
    # Wrong offsets would be seen.
    shifted = resample(ramp, Grid(2, 1.5, (64, 60)), target)
    assert abs(shifted[5, 5] - found[5, 5]) == pytest.approx(1, abs=0.05)


def test_constants_stay_and_a_pixel_beyond_all_others_is_finite():
    found = resample(np.full((10, 10), 0.7, np.float32), Grid(1, 0, (10, 10)), Grid(4, 1000, (2, 2)))
    np.testing.assert_array_equal(found, np.full((2, 2), 0.7, np.float32))


def test_nothing_is_made_up():
    coarse, fine = Grid(8, 7, (15, 15)), Grid(2, 0.5, (64, 64))
    with pytest.raises(ValueError, match="finer"):
        resample(np.zeros((15, 15), np.float32), coarse, fine)
    with pytest.raises(ValueError, match="aren't on a grid"):
        resample(np.zeros((15, 15), np.float32), fine, coarse)


def test_the_common_grid_is_the_coarser_in_either_order():
    coarse, fine, beside = Grid(8, 7, (15, 15)), Grid(2, 0.5, (64, 64)), Grid(8, 3.5, (16, 16))
    assert common_grid(coarse, fine) == common_grid(fine, coarse) == coarse
    assert common_grid(coarse, beside) == common_grid(beside, coarse) == coarse
