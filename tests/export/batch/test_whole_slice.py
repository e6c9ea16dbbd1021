"""The eigenfeature of a large slice is that of its untiled responses, which are never held."""

import tracemalloc

import numpy as np
import pytest
import torch
from reference import singular_triplets, strongest_channel
from torch.utils._python_dispatch import TorchDispatchMode

from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.batch.whole_slice import WholeSlice
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, Request
from eigenfeatures.kernels import standardized_gradient

SIZE = (150, 170)

CASES = [("small", "relu2", "pooled"), ("small", "relu3", "dense"), ("alexnet", "relu1", "pooled")]


@pytest.fixture(scope="module")
def image():
    """Standardised gradient of noise that grows along the slice, so that no tile is like another."""
    noise = np.random.default_rng(1).normal(size=SIZE) * np.linspace(1, 20, SIZE[1])
    return torch.from_numpy(standardized_gradient(noise.astype(np.float32)))


def networks(preset):
    return build_network(preset, 2, SIZE, seed=3).eval()


@torch.inference_mode()
def untiled(network, image, layer, resolution):
    return responses(network, image[None, None], [layer], resolution)[layer][0].numpy()


@pytest.mark.parametrize(("preset", "layer", "resolution"), CASES)
def test_it_is_the_decomposition_of_the_untiled_maps(preset, layer, resolution, image):
    network = networks(preset)
    maps = untiled(network, image, layer, resolution)
    u, s, _ = singular_triplets(maps)
    request = Request(DEFAULT_OUTPUTS, layer, resolution, rank=3)
    found = WholeSlice(network, request, SIZE, 64)(image)
    np.testing.assert_allclose(found["singular_values"], s[np.newaxis, :3], rtol=1e-5)
    np.testing.assert_allclose(found["gap"], s[1] / s[0], rtol=1e-5)
    assert found["residual"] < 1e-5
    assert found["eigenfeatures"].shape == (1, 3, *maps.shape[1:])
    ours = found["eigenfeatures"][0].reshape(3, -1).astype(np.float64)
    assert ours[0].sum() > 0
    signs = np.sign((ours * u[:3]).sum(1, keepdims=True))
    # The largest pixel of a unit vector is about 1e-2.
    assert np.linalg.norm(ours[0] - signs[0] * u[0]) < 1e-5
    np.testing.assert_allclose(ours, signs * u[:3], atol=1e-5)


@pytest.mark.parametrize(("preset", "layer", "resolution"), CASES)
def test_alpha_is_that_of_the_untiled_pooled_maps(preset, layer, resolution, image):
    network = networks(preset)
    index, maximum, mean, _ = strongest_channel(untiled(network, image, layer, "pooled"))
    found = WholeSlice(network, Request(("alpha",), layer, resolution), SIZE, 64)(image)
    assert list(found) == ["alpha_index", "alpha_maximum", "alpha_mean"]
    assert found["alpha_index"].tolist() == [index]
    np.testing.assert_allclose(found["alpha_maximum"], maximum, rtol=1e-5)
    np.testing.assert_allclose(found["alpha_mean"], mean, rtol=1e-5)


def test_parts_standardised_by_themselves_are_another_quantity(image):
    """The check can fail: tiles that don't know of each other give another vector."""
    network = networks("small")
    request = Request(("eigenfeatures",), "relu2")
    whole = WholeSlice(network, request, SIZE, 64)(image)["eigenfeatures"][0, 0]
    half = image[:, :84]
    alone = WholeSlice(network, request, (SIZE[0], 84), 64)((half - half.mean()) / half.std())
    alone = alone["eigenfeatures"][0, 0]
    part = whole[:, : alone.shape[1]] / np.linalg.norm(whole[:, : alone.shape[1]])
    assert np.linalg.norm(part - alone) > 1e-2


def test_no_response_at_all_gives_zeros(image):
    network = networks("small")
    network.norm2.bias.data.fill_(-1e6)
    found = WholeSlice(network, Request(DEFAULT_OUTPUTS, "relu2"), SIZE, 64)(image)
    for name in ("eigenfeatures", "singular_values", "gap", "residual", "alpha_maximum"):
        assert not found[name].any(), name


@pytest.mark.parametrize("resolution", ["pooled", "dense"])
def test_an_overflow_gives_nan_and_not_a_failure(resolution, image):
    network = networks("small")
    # In one tile only.
    broken = image.clone()
    broken[100, 100] = torch.inf
    found = WholeSlice(network, Request(DEFAULT_OUTPUTS, "relu2", resolution), SIZE, 64)(broken)
    for name in ("eigenfeatures", "singular_values", "gap", "residual", "alpha_maximum"):
        assert np.isnan(found[name]).all(), name


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operator makes."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


@pytest.mark.parametrize("resolution", ["pooled", "dense"])
def test_the_whole_responses_never_exist(resolution):
    size = (600, 560)
    network = build_network("small", 2, size, seed=3).eval()
    image = torch.from_numpy(standardized_gradient(np.random.default_rng(0).random(size, np.float32)))
    whole = untiled(network, image, "relu2", resolution).nbytes
    whole_slice = WholeSlice(network, Request(("eigenfeatures",), "relu2", resolution), size, 64)
    tracemalloc.start()
    try:
        with LargestTensor() as largest:
            found = whole_slice(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    u = found["eigenfeatures"].nbytes
    assert 0 < largest.bytes < whole / 3
    assert u <= peak < u + whole / 3
    # The measurement sees the whole responses where they are made.
    with LargestTensor() as largest:
        untiled(network, image, "relu2", resolution)
    assert largest.bytes >= whole
