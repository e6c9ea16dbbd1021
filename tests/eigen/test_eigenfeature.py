"""Features of slices equal those that LAPACK and plain NumPy find; the stacks have the right axes."""

import numpy as np
import pytest
import tifffile
import torch

from eigenfeatures.eigen.eigenfeature import slice_features, write_eigenfeatures
from eigenfeatures.eigen.model_file import Model, load_model
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.stacks import VoxelSize

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def opened(finished_run, stacks):
    with open_samples(stacks) as samples:
        yield load_model(finished_run), samples


def maps_of(model: Model, slices, layer, resolution):
    images = torch.from_numpy(model.preprocessing(slices))[:, None]
    with torch.inference_mode():
        return responses(model.network, images, [layer], resolution)[layer].numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("layer", "resolution"), [("relu2", "pooled"), ("relu2", "dense"), ("conv2", "pooled")]
)
def test_features_equal_lapack(opened, layer, resolution):
    model, samples = opened
    indices = np.array([3, 20, 40, 41, 60])
    blocks = list(slice_features(model, samples, indices, layer, resolution, device=CPU, seed=0, block=2))
    assert [len(block.flags) for block in blocks] == [2, 2, 1]
    found_u = np.concatenate([block.svd.u for block in blocks])
    found_s = np.concatenate([block.svd.s for block in blocks])
    maps = maps_of(model, samples.read(indices), layer, resolution)
    for k, matrix in enumerate(maps.reshape(len(indices), maps.shape[1], -1)):
        u, s, _ = np.linalg.svd(matrix.T, full_matrices=False)
        np.testing.assert_allclose(found_s[k], s[:8], rtol=1e-4, atol=1e-5 * s[0])
        ours = found_u[k, 0].ravel().astype(np.float64)
        # Not √(1 − cos²), which turns a norm that is 1e-8 off into a sine of 1e-4.
        assert np.linalg.norm(ours - (ours @ u[:, 0]) * u[:, 0]) <= 1e-4
        if layer.startswith("relu"):
            assert found_u[k, 0].sum() >= 0


def test_alpha_is_the_channel_of_the_largest_activation(opened):
    model, samples = opened
    indices = np.arange(5)
    (block,) = slice_features(model, samples, indices, "relu2", "pooled", device=CPU, seed=0, block=8)
    for layer in ("relu1", "relu2"):
        maps = maps_of(model, samples.read(indices), layer, "pooled")
        for k, channels in enumerate(maps):
            strongest = np.unravel_index(channels.argmax(), channels.shape)[0]
            alpha = block.alpha[layer]
            assert alpha.index[k] == strongest
            assert alpha.maximum[k] == pytest.approx(channels.max(), rel=1e-6)
            assert alpha.mean[k] == pytest.approx(channels[strongest].mean(), rel=1e-5)
            positive = channels[strongest][channels[strongest] > 0]
            assert alpha.positive_mean[k] == pytest.approx(positive.mean(), rel=1e-5)


def test_a_slice_without_response_is_flagged(opened):
    model, samples = opened
    silent = Model(model.network, model.classes, model.preprocessing, {})
    before = model.network.norm2.bias.data.clone()
    model.network.norm2.bias.data -= 1e6
    try:
        (block,) = slice_features(
            silent, samples, np.arange(2), "relu2", "pooled", device=CPU, seed=0, block=2
        )
    finally:
        model.network.norm2.bias.data.copy_(before)
    assert block.flags == ["zero", "zero"]
    assert not block.svd.u.any()


@pytest.mark.parametrize("rank", [1, 3])
def test_stack_opens_with_axes_and_voxel_size(tmp_path, rank):
    images = np.random.default_rng(0).normal(size=(5, rank, 6, 7)).astype(np.float32)
    path = tmp_path / "u.tif"
    write_eigenfeatures(path, iter(images), images.shape, VoxelSize(2.0, 4.0, 5.0))
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert file.series[0].axes == ("ZYX" if rank == 1 else "ZCYX")
        assert np.array_equal(file.asarray(), images.squeeze(1) if rank == 1 else images)
        assert file.imagej_metadata["spacing"] == 2.0
        assert file.imagej_metadata["unit"] == "um"
        tags = file.pages[0].tags
        assert tags["YResolution"].value[0] / tags["YResolution"].value[1] == pytest.approx(1 / 4.0)
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == pytest.approx(1 / 5.0)


def test_a_stack_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield np.zeros((1, 6, 7), np.float32)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_eigenfeatures(tmp_path / "u.tif", broken(), (3, 1, 6, 7), None)
    assert not list(tmp_path.iterdir())
