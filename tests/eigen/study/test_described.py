"""Descriptors of all images of the samples: of the right slices, in their order, with their strength."""

import numpy as np
import pytest
import study_oracles as oracle

from eigenfeatures.eigen.study.chunks import chunks
from eigenfeatures.eigen.study.described import describe_samples
from eigenfeatures.eigen.study.descriptors import DESCRIPTORS, QUANTILES, SCALED, describe
from eigenfeatures.eigen.study.grids import grid_of, slice_grid
from eigenfeatures.eigen.study.maps import View

RUNS = ("first", "second", "third")
LOOKED_AT = (0, 7, 8, 9, 18, 21)


@pytest.fixture(scope="module")
def described(uneven, networks, cpu):
    return describe_samples(chunks(networks, uneven, View(), "prewitt", cpu), RUNS)


def images_of(entry, image):
    """The images of one raw slice by name, σ₁u₁/√C for u₁."""
    responses = oracle.response_maps(entry, image)
    vectors, values = oracle.singular(responses)
    return {"u1": vectors[0] * values[0] / np.sqrt(len(responses)), "alpha": oracle.strongest(responses)}


def check(described, name, k, image):
    np.testing.assert_allclose(
        described[name][k], describe(image[None])[0], rtol=2e-3, atol=2e-3, err_msg=f"{name} of slice {k}"
    )
    strength = np.sqrt(np.mean(np.square(image, dtype=np.float64)))
    assert described[f"{name}/strength"][k] == pytest.approx(strength, rel=1e-4)


def test_every_image_of_every_slice_is_described(described, networks, uneven):
    own = (f"{run}/{kind}" for run in RUNS for kind in ("u1", "alpha", "gradient"))
    kinds = ("raw", "gradient", *own)
    assert set(described) == {*kinds, *(f"{name}/strength" for name in kinds)}
    for name in kinds:
        assert described[name].shape == (22, len(DESCRIPTORS))
        assert described[f"{name}/strength"].shape == (22,)
        assert np.isfinite(described[name]).all()
    for k in LOOKED_AT:
        image = uneven.read([k])[0]
        check(described, "raw", k, image.astype(np.float64))
        check(described, "gradient", k, oracle.gradient_images(image)[0])
        for run, entry in zip(RUNS, networks, strict=True):
            for kind, made in images_of(entry, image).items():
                check(described, f"{run}/{kind}", k, made)


def test_the_gradient_image_is_described_on_the_grid_of_each_run_as_well(described, networks, uneven):
    """Maps of 11 × 12 pixels can't be told apart by what only 96 × 104 pixels show."""
    size = uneven.read([0]).shape[1:]
    for k in LOOKED_AT:
        gradient = oracle.gradient_images(uneven.read([k])[0])[0]
        for run, entry in zip(RUNS, networks, strict=True):
            grid = grid_of(entry.network, "relu2", size)
            check(described, f"{run}/gradient", k, oracle.on_grid(gradient, slice_grid(size), grid))
    for name in ("first/gradient", "third/gradient"):
        assert not np.allclose(described[name], described["gradient"], rtol=0.05)
    np.testing.assert_array_equal(described["first/gradient"], described["second/gradient"])  # one grid


def test_the_strength_of_u1_is_its_share_of_the_response(described, networks, uneven):
    """σ₁u₁/√C has the root mean square σ₁/√(C n): at most that of all responses."""
    responses = oracle.response_maps(networks[0], uneven.read([3])[0])
    values = oracle.singular(responses)[1]
    assert described["first/u1/strength"][3] == pytest.approx(values[0] / np.sqrt(responses.size), rel=1e-4)
    assert described["first/u1/strength"][3] < np.sqrt(np.mean(responses**2))


def test_maps_at_equal_strength_times_their_strength_are_the_maps_as_they_are(described, uneven):
    """What is made of both by a classifier that keeps the strength."""
    scaled = described["gradient"][7, SCALED] * described["gradient/strength"][7]
    image = oracle.gradient_images(uneven.read([7])[0])[0]
    expected = [image.mean(), *np.percentile(image, QUANTILES)]
    np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-3)
