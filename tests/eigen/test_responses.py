"""Response maps, pooled and dense: the same weights, at two resolutions."""

import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.responses import responses, stride_of


def trained_like(preset, side):
    """A network whose batch normalisation and weights are far from their initial values."""
    network = build_network(preset, 2, (side, side), seed=2).eval()
    draw = torch.Generator().manual_seed(0)
    for module in network.children():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=draw))
            module.running_var.copy_(0.1 + 0.1 * torch.rand(module.running_var.shape, generator=draw))
            module.bias.data.copy_(torch.rand(module.bias.shape, generator=draw))
    return network, torch.randn(1, 1, side, side, generator=draw)


@torch.inference_mode()
def test_a_named_layer_is_what_the_modules_up_to_it_give():
    network, images = trained_like("small", 41)
    expected = torch.relu(network.norm1(network.conv1(images)))
    found = responses(network, images, ["conv1", "relu1", "logits"])
    torch.testing.assert_close(found["conv1"], network.conv1(images))
    torch.testing.assert_close(found["relu1"], expected)
    torch.testing.assert_close(found["logits"], network(images))


@torch.inference_mode()
@pytest.mark.parametrize("side", [150, 266, 267])
@pytest.mark.parametrize("layer", ["relu2", "relu3", "relu4", "relu5"])
def test_dense_holds_the_pooled_map(side, layer):
    """At relu k, dense[::s, ::s] with s = 2^(k−1), cropped to the pooled size, equals the pooled map."""
    network, images = trained_like("paper", side)
    for module in network.children():  # few channels show the same: it is a matter of positions
        _narrow(module, 3)
    pooled = responses(network, images, [layer])[layer]
    dense = responses(network, images, [layer], "dense")[layer]
    stride = stride_of(network, layer)
    assert stride == 2 ** (int(layer[-1]) - 1)
    assert dense.shape[-2:] == (side, side)
    sampled = dense[..., ::stride, ::stride][..., : pooled.shape[-2], : pooled.shape[-1]]
    torch.testing.assert_close(sampled, pooled, rtol=1e-4, atol=1e-5)
    # The check can fail: one pixel beside, the maps differ.
    assert not torch.allclose(dense[..., 1::stride, ::stride][..., :9, :9], pooled[..., :9, :9], rtol=0.01)


@torch.inference_mode()
@pytest.mark.parametrize("layer", ["relu2", "relu5"])
def test_dense_holds_the_pooled_map_of_alexnet(layer):
    network, images = trained_like("alexnet", 131)
    pooled = responses(network, images, [layer])[layer]
    dense = responses(network, images, [layer], "dense")[layer]
    stride = stride_of(network, layer)
    sampled = dense[..., ::stride, ::stride][..., : pooled.shape[-2], : pooled.shape[-1]]
    torch.testing.assert_close(sampled, pooled, rtol=1e-4, atol=1e-5)


def test_unknown_layers_and_resolutions_are_refused():
    network, images = trained_like("small", 40)
    with pytest.raises(InputError, match="layer 'pool1'"):
        responses(network, images, ["pool1"])
    with pytest.raises(InputError, match="layer 'logits'"):
        responses(network, images, ["logits"], "dense")
    with pytest.raises(InputError, match="resolution 'full' is unknown; choose one of pooled, dense"):
        responses(network, images, ["relu1"], "full")


def _narrow(module, channels):
    """Keep the first channels of a layer, so that large slices take little time."""
    if isinstance(module, torch.nn.Conv2d):
        inputs = min(channels, module.in_channels)
        module.weight = torch.nn.Parameter(module.weight[:channels, :inputs].clone())
        module.bias = torch.nn.Parameter(module.bias[:channels].clone())
    elif isinstance(module, torch.nn.BatchNorm2d):
        module.weight = torch.nn.Parameter(module.weight[:channels].clone())
        module.bias = torch.nn.Parameter(module.bias[:channels].clone())
        module.running_mean, module.running_var = (
            module.running_mean[:channels],
            module.running_var[:channels],
        )
