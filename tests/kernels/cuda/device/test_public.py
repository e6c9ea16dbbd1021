"""The public functions on a device against the same on the CPU."""

import numpy as np
import pytest

from eigenfeatures.kernels import (
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

IMAGES = (np.random.default_rng(0).random((2, 2, 7, 9)) * 200).astype(np.uint8)
FUNCTIONS = [gradient, gradient_magnitude, standardized_gradient, slice_statistics, stretch_contrast]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_host_arrays_there_and_back(function):
    result, expected = function(IMAGES, backend="cuda"), function(IMAGES, backend="cpu")
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(np.array(result), np.array(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_contrast_of_images_that_are_not_finite():
    images = IMAGES[0].astype(np.float32).repeat(3, axis=0)
    images[1, 0, 0], images[2, 0, 0], images[3, :3] = np.nan, np.inf, -np.inf
    images[4] = 7
    result, expected = (stretch_contrast(images, 0.1, backend=backend) for backend in ("cuda", "cpu"))
    assert np.isnan(expected).all(axis=(1, 2)).tolist() == [False, True, False, True, False, False]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_strongest_channel():
    responses = IMAGES[:, :, np.newaxis].astype(np.float32)
    result, expected = (strongest_channel(responses, backend=backend) for backend in ("cuda", "cpu"))
    for name in ("index", "maximum", "mean", "positive_mean"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), rtol=1e-12)


def test_standardised_by_a_data_set_and_into_an_array():
    out = np.empty(IMAGES.shape, np.float32)
    result = standardized_gradient(IMAGES, mean=20.0, deviation=3.0, out=out, backend="cuda")
    assert result is out
    expected = standardized_gradient(IMAGES, mean=20.0, deviation=3.0, backend="cpu")
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 1e-15, 1e15])
def test_gram(scale):
    responses = (scale * np.random.default_rng(0).random((2, 3, 4, 5))).astype(np.float32)
    result = gram(responses, backend="cuda")
    np.testing.assert_allclose(result, gram(responses, backend="cpu"), rtol=1e-6)
    np.testing.assert_array_equal(result, np.swapaxes(result, 1, 2))


@pytest.mark.parametrize("rank", [1, 2])
def test_truncated_svd(rank):
    responses = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    result, expected = (truncated_svd(responses, rank, backend=backend) for backend in ("cuda", "cpu"))
    assert result.u.shape == expected.u.shape
    assert (result.residual <= 1e-5).all()
    for name in ("u", "s", "v", "energy"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), atol=1e-4)
