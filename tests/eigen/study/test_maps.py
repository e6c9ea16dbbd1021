"""Maps of slices are those of NumPy's decomposition of the responses, whatever the view."""

from dataclasses import replace

import numpy as np
import pytest
import study_oracles as oracle

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.study.maps import View, slice_maps

SLICES = (0, 12, 20)


@pytest.fixture(scope="module")
def images(uneven):
    return uneven.read(SLICES)


def made(entry, images, view, cpu):
    return slice_maps(entry.network, entry.preprocessing, images, view, cpu)


@pytest.mark.parametrize("number", [0, 2], ids=["small", "alexnet"])
@pytest.mark.parametrize(
    "view",
    [
        View(rank=4),
        View(center=True, rank=4),
        View(layer="conv1", rank=2),
        View(layer="conv2", center=True, rank=2),
    ],
    ids=lambda view: f"{view.layer}{'-centred' * view.center}",
)
def test_maps_are_those_of_a_full_decomposition(networks, images, cpu, number, view):
    entry = networks[number]
    found = made(entry, images, view, cpu)
    for k, image in enumerate(images):
        responses = oracle.response_maps(entry, image, view.layer)
        vectors, values = oracle.singular(responses, view.center)
        assert found.u[k].shape == (view.rank, *responses.shape[1:])
        np.testing.assert_allclose(found.s[k], values[: view.rank], rtol=1e-4)
        assert found.energy[k] == pytest.approx((values**2).sum(), rel=1e-4)
        # Vectors of close singular values may mix; what they span together may not.
        assert oracle.angles(found.u[k, :1].astype(float), vectors[:1])[-1] < 0.05
        assert oracle.angles(found.u[k].astype(float), vectors[: view.rank])[-1] < 1
        channel = oracle.strongest(responses)
        np.testing.assert_allclose(found.alpha[k], channel, atol=1e-5 * channel.max())
        assert found.activation[k] == pytest.approx(channel[channel > 0].mean(), rel=1e-4)
    assert found.channels == len(responses)
    assert found.u.dtype == found.alpha.dtype == np.float32
    assert found.s.dtype == found.energy.dtype == found.activation.dtype == np.float64


def test_after_a_relu_the_first_vector_is_nowhere_negative(networks, images, cpu):
    found = made(networks[0], images, View(), cpu)
    assert found.u.shape[1] == 1
    assert found.u.min() > -1e-6
    np.testing.assert_allclose(np.linalg.norm(found.u.reshape(3, -1), axis=1), 1, rtol=1e-5)
    # Without its mean it can't be: the two views are different quantities.
    assert made(networks[0], images, View(center=True), cpu).u.min() < -1e-3


def test_dense_maps_have_a_pixel_for_every_pixel_of_the_slice(networks, images, cpu):
    dense = made(networks[0], images, View(resolution="dense"), cpu)
    assert dense.u.shape == (3, 1, 96, 104)
    for k, image in enumerate(images):
        vectors, values = oracle.singular(oracle.response_maps(networks[0], image, resolution="dense"))
        np.testing.assert_allclose(dense.u[k, 0], vectors[0], atol=1e-4 * vectors[0].max())
        assert dense.s[k, 0] == pytest.approx(values[0], rel=1e-4)
    # Each second pixel is that of the pooled map, so that the maximum of a channel can only grow.
    pooled = made(networks[0], images, View(), cpu)
    assert np.all(dense.alpha.max((1, 2)) >= pooled.alpha.max((1, 2)) * (1 - 1e-5))


def test_the_rank_is_at_most_that_of_the_layer(networks, images, cpu):
    assert made(networks[0], images, View(rank=40), cpu).u.shape[1] == 16  # channels
    assert made(networks[2], images, View(rank=500), cpu).u.shape[1] == 11 * 12  # pixels, of 256 channels


def test_each_network_sees_what_its_own_preprocessing_makes(networks, images, cpu):
    entry = replace(networks[0], preprocessing=Preprocessing("forward", 3.0, 20.0))
    found = made(entry, images[:1], View(), cpu)
    vectors, _ = oracle.singular(oracle.response_maps(entry, images[0]))
    np.testing.assert_allclose(found.u[0, 0], vectors[0], atol=1e-4 * vectors[0].max())
    other = made(networks[0], images[:1], View(), cpu).u[0, 0]
    assert np.abs(other - vectors[0]).max() > 0.01 * vectors[0].max()


def test_a_constant_slice_has_finite_maps(networks, cpu):
    """Its gradient is zero; the biases of the network answer nonetheless."""
    found = made(networks[0], np.full((1, 96, 104), 7, np.uint8), View(rank=2), cpu)
    assert all(np.isfinite(values).all() for values in (found.u, found.s, found.alpha, found.activation))


def test_unknown_views_are_refused(networks, images, cpu):
    with pytest.raises(InputError, match="layer 'relu3' is not in the network 'small'"):
        made(networks[0], images, View(layer="relu3"), cpu)  # these layers end at relu2
    with pytest.raises(InputError, match="resolution 'full' is unknown"):
        made(networks[0], images, View(resolution="full"), cpu)
