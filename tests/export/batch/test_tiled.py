"""Tiles of response maps are those of the whole slice, and so is what is made of them."""

import pytest
import torch

from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.receptive_field import ReceptiveField, receptive_field
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.batch import tiled
from eigenfeatures.export.batch.tiled import TiledResponses, cuts

SIZE = (150, 173)

CASES = [
    ("small", "relu1", "pooled"),
    ("small", "conv2", "pooled"),
    ("small", "relu2", "pooled"),
    ("small", "relu3", "pooled"),
    ("small", "relu4", "pooled"),
    ("small", "relu2", "dense"),
    ("small", "relu3", "dense"),
    ("alexnet", "conv1", "pooled"),
    ("alexnet", "relu2", "pooled"),
    ("alexnet", "relu4", "pooled"),
    ("alexnet", "relu1", "dense"),
]


def random_network(preset):
    """A network whose normalisation is far from the identity, so that no zero stays a zero."""
    network = build_network(preset, 2, SIZE, seed=2).eval()
    draw = torch.Generator().manual_seed(0)
    for module in network.children():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=draw))
            module.running_var.copy_(0.1 + 0.1 * torch.rand(module.running_var.shape, generator=draw))
            module.bias.data.copy_(torch.rand(module.bias.shape, generator=draw))
    return network


@pytest.fixture(scope="module")
def networks():
    return {preset: random_network(preset) for preset in ("small", "alexnet")}


@pytest.fixture(scope="module")
def image():
    return torch.randn(*SIZE, generator=torch.Generator().manual_seed(4))


def joined(tiles, image):
    """All tiles at their places; what no tile fills stays NaN."""
    whole = None
    for (rows, columns), maps in tiles(image):
        if whole is None:
            whole = torch.full((len(maps), *tiles.size), torch.nan)
        assert whole[:, rows, columns].isnan().all(), "no two tiles give one pixel"
        whole[:, rows, columns] = maps
    return whole


def assert_rounding(tiles, whole):
    """Convolutions of another size add in another order: what that leaves is small against the largest."""
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


@torch.inference_mode()
@pytest.mark.parametrize(("preset", "layer", "resolution"), CASES)
def test_tiles_are_parts_of_the_untiled_maps(preset, layer, resolution, networks, image):
    network = networks[preset]
    whole = responses(network, image[None, None], [layer], resolution)[layer][0]
    tiles = TiledResponses(network, layer, resolution, SIZE, 64)
    assert_rounding(joined(tiles, image), whole)


@torch.inference_mode()
@pytest.mark.parametrize("height", [128, 129, 130, 131, 133])
@pytest.mark.parametrize("resolution", ["pooled", "dense"])
def test_slices_of_every_remainder(height, resolution, networks, image):
    """Flooring drops rows of some heights, which the last tile must drop too, and no other."""
    network = networks["small"]
    whole = responses(network, image[None, None, :height], ["relu3"], resolution)["relu3"][0]
    tiles = TiledResponses(network, "relu3", resolution, (height, SIZE[1]), 48)
    assert_rounding(joined(tiles, image[:height]), whole)


@torch.inference_mode()
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(("preset", "layer", "resolution"), [CASES[2], CASES[5], CASES[8]])
def test_a_smaller_halo_shows(side, preset, layer, resolution, networks, image, monkeypatch):
    """So that the tests above can fail: the receptive field is no larger than it must be."""
    network = networks[preset]
    field = receptive_field(network, layer)
    # A tile begins at a multiple of the stride, so that less than one stride may not show.
    less = {side: getattr(field, side) - field.stride}
    monkeypatch.setattr(tiled, "receptive_field", lambda *_: ReceptiveField(**{**vars(field), **less}))
    whole = responses(network, image[None, None], [layer], resolution)[layer][0]
    found = joined(TiledResponses(network, layer, resolution, SIZE, 64), image)
    with pytest.raises(AssertionError):
        assert_rounding(found, whole)


def test_tiles_of_a_long_axis():
    found = cuts(length=10, pixels=21, stride=2, side=4, field=ReceptiveField(2, 5, 6))
    assert [cut.place for cut in found] == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert [cut.source for cut in found] == [slice(0, 13), slice(2, 21), slice(10, 21)]
    assert [cut.inner for cut in found] == [slice(0, 4), slice(3, 7), slice(3, 5)]
