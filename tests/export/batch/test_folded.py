"""A network with its batch normalisation folded away gives the same responses."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from eigenfeatures.eigen.choices import PRESETS, RESOLUTIONS
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.batch import folded as folding
from eigenfeatures.export.batch import large_slices, torch_engine
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import open_engine
from eigenfeatures.export.batch.folded import folded

SIZE = (66, 70)


@pytest.fixture(scope="module", params=PRESETS)
def network(request):
    """Batch normalisation is far from its initial one: some channels are even turned round."""
    made = build_network(request.param, 3, SIZE, seed=2).eval()
    draw = torch.Generator().manual_seed(5)
    for module in norms(made).values():
        module.running_mean.normal_(0, 0.3, generator=draw)
        module.running_var.uniform_(0.05, 2, generator=draw)
        nn.init.normal_(module.weight, 0.5, generator=draw)
        nn.init.normal_(module.bias, 0, 0.3, generator=draw)
    return made


def norms(network):
    return {name: module for name, module in network.named_children() if isinstance(module, nn.BatchNorm2d)}


def activations(network, resolution):
    """All that can be asked of a network but its convolutions."""
    layers = {name for name in network.response_layers if name.startswith("relu")}
    return layers | {"logits"} if resolution == "pooled" else layers


@torch.inference_mode()
def error(network, twin, layers, resolution="pooled"):
    """The largest difference between responses, by the largest response of its layer."""
    images = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(7))
    expected, found = (responses(which, images, layers, resolution) for which in (network, twin))
    assert list(found) == list(expected)
    assert set(found) == set(layers)
    return max(float((found[name] - maps).abs().max() / maps.abs().max()) for name, maps in expected.items())


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_responses_are_the_same_without_batch_normalisation(network, resolution):
    layers = activations(network, resolution)
    twin = folded(network, layers)
    assert norms(network)
    assert not norms(twin)
    assert twin.response_layers == network.response_layers
    assert error(network, twin, layers, resolution) < 1e-5


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_convolution_that_is_asked_for_keeps_its_own_values(network, resolution):
    layers = {"conv2", *activations(network, resolution)}
    twin = folded(network, layers)
    assert list(norms(twin)) == ["norm2"]
    assert error(network, twin, layers, resolution) < 1e-5
    assert error(network, folded(network, ()), {"conv2"}, resolution) > 0.1


def test_statistics_that_are_left_out_are_seen(network, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(folding, "fuse_conv_bn_eval", lambda convolution, _: convolution)
    layers = activations(network, "pooled")
    assert error(network, folded(network, layers), layers) > 0.1


def test_the_network_itself_stays_as_it_is(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    twin = folded(network, ())
    assert (twin.preset, twin.classes, twin.size, twin.training) == (network.preset, 3, SIZE, False)
    for tensor in twin.state_dict().values():
        tensor.zero_()
    assert list(network.state_dict()) == list(before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_an_engine_folds_where_it_runs_on_a_gpu(resolution, finished_run, raw, monkeypatch, tmp_path):
    """The CPU's memory in place of a GPU's."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "model.onnx").unlink()
    text = (run / "run.toml").read_text(encoding="utf-8")
    text = text.replace('resolution = "pooled"', f'resolution = "{resolution}"')
    (run / "run.toml").write_text(text, encoding="utf-8")
    outputs = ["probabilities", "alpha", "eigenfeatures", "conv1", "relu3"]
    on_cpu = open_engine(run, outputs, "torch", "cpu")
    assert on_cpu.facts.resolution == resolution
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        patch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        patch.setattr(torch_engine, "this_device", lambda _: torch.device("cpu"))
        patch.setattr(torch_engine, "Copies", lambda _: None)
        on_gpu = open_engine(run, outputs, "torch", "cuda")
    assert on_gpu.reason == "a GPU, by torch"
    assert list(norms(on_cpu._network)) == [f"norm{number}" for number in range(1, 6)]
    assert list(norms(on_gpu._network)) == ["norm1"]
    expected = on_cpu(raw[:8])
    for name, array in on_gpu(raw[:8]).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_large_slices_are_evaluated_by_a_folded_network(finished_run, raw, monkeypatch):
    """The CPU's memory in place of a GPU's, once more."""
    monkeypatch.setattr(large_slices, "this_device", lambda _: torch.device("cpu"))
    facts = open_engine(finished_run, ["eigenfeatures", "gap"], "torch", "cpu").facts
    image = np.tile(raw[0], (3, 2))
    on_cpu, on_gpu = (
        large_slices._Whole(
            finished_run, ["eigenfeatures", "alpha_index"], facts, device, image.shape, Clock(), False, None
        )
        for device in ("cpu", "cuda")
    )
    networks = [whole._evaluate._maps._network for whole in (on_cpu, on_gpu)]
    assert [len(norms(network)) for network in networks] == [5, 0]
    expected, found = on_cpu(image), on_gpu(image)
    np.testing.assert_array_equal(found["alpha_index"], expected["alpha_index"])
    np.testing.assert_allclose(found["eigenfeatures"], expected["eigenfeatures"], atol=1e-5)
