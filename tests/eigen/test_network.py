"""The networks have the layers and the numbers of weights that the paper's Table 2 gives them."""

import pytest
import torch
from torch import nn

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import PRESETS, build_network


def count(network, kinds):
    modules = [module for module in network.children() if isinstance(module, kinds)]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_paper_has_the_weights_of_table_2():
    network = build_network("paper", 4, (266, 266))
    assert count(network, (nn.Conv2d, nn.Linear)) == 1_656_388
    assert count(network, nn.BatchNorm2d) == 896
    kernels = [module.kernel_size[0] for module in network.children() if isinstance(module, nn.Conv2d)]
    assert kernels == [3, 5, 7, 9, 11]


def test_reduced_halves_the_first_two_layers_and_drops_the_last_block():
    network = build_network("reduced", 4, (266, 266))
    filters = [module.out_channels for module in network.children() if isinstance(module, nn.Conv2d)]
    assert filters == [64, 64, 64, 64]


def test_alexnet_has_krizhevskys_layers():
    network = build_network("alexnet", 4, (227, 227))
    shapes = [tuple(module.weight.shape) for module in network.children() if isinstance(module, nn.Conv2d)]
    assert shapes == [(96, 1, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)]
    widths = [module.out_features for module in network.children() if isinstance(module, nn.Linear)]
    assert widths == [4096, 4096, 4]


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_are_those_of_the_layers_one_after_the_other(preset):
    network = build_network(preset, 3, (67, 70), seed=1).eval()
    images = torch.randn(2, 1, 67, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = images
        for module in network.children():
            expected = module(expected)
        found = network(images)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, expected)


def test_seed_decides_the_weights_and_the_global_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, same, other = (build_network("small", 2, (40, 40), seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, same.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize(("preset", "side"), [("paper", 32), ("reduced", 16), ("small", 32), ("alexnet", 63)])
def test_smallest_slices_are_named_and_work(preset, side):
    network = build_network(preset, 2, (side, side)).eval()
    assert network(torch.zeros(1, 1, side, side)).isfinite().all()
    with pytest.raises(InputError, match=f"needs at least {side}×{side}"):
        build_network(preset, 2, (side - 1, side))


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (1, "1: must be at least 2"),
        (0, "0: must"),
        (2.0, "2.0: must be a whole number"),
        ("2", "'2': must be"),
    ],
)
def test_fewer_than_two_classes_are_refused(classes, reason):
    with pytest.raises(InputError, match=f"^classes {reason}"):
        build_network("small", classes, (64, 64))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="preset 'vgg' is unknown; choose one of paper, reduced"):
        build_network("vgg", 2, (64, 64))
    with pytest.raises(
        InputError, match="layer 'relu9' is not in the network 'small'; choose one of conv1, relu1"
    ):
        build_network("small", 2, (64, 64)).check_layer("relu9")


@pytest.mark.parametrize("preset", PRESETS)
@torch.inference_mode()
def test_the_first_layers_answer_as_the_network_does_and_share_its_weights(preset):
    network = build_network(preset, 3, (67, 70), seed=1).eval()
    images = torch.randn(2, 1, 67, 70, generator=torch.Generator().manual_seed(0))
    for layer in ("conv1", "relu2", network.response_layers[-1]):
        part = network.up_to(layer)
        assert part.response_layers == network.response_layers[: network.response_layers.index(layer) + 1]
        assert (part.preset, part.classes, part.size) == (preset, 3, (67, 70))
        expected = images
        for name, module in network.named_children():
            expected = module(expected)
            if name == layer:
                break
        assert torch.equal(part(images), expected)
        assert all(
            part.get_submodule(name) is network.get_submodule(name) for name, _ in part.named_children()
        )
    again = network.up_to("relu2").up_to("relu1")
    assert [name for name, _ in again.named_children()] == ["conv1", "norm1", "relu1"]
    assert len(list(network.children())) > len(list(part.children()))


@pytest.mark.parametrize("mode", [True, False])
def test_taking_the_first_layers_keeps_the_mode_of_all(mode):
    network = build_network("small", 2, (40, 40)).train(mode)
    part = network.up_to("relu2")
    assert {module.training for module in (*part.modules(), *network.modules())} == {mode}


def test_the_first_layers_end_at_a_response_layer_of_the_network():
    network = build_network("small", 2, (40, 40))
    for layer in ("relu9", "norm1", "pool1", "logits", ""):
        with pytest.raises(InputError, match=f"layer '{layer}' is not in the network 'small'"):
            network.up_to(layer)
    with pytest.raises(InputError, match=r"choose one of conv1, relu1, conv2$"):
        network.up_to("conv2").up_to("relu2")
