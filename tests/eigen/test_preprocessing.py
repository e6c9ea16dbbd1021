"""The network's input: fitted constants, and the torch module that repeats the kernel."""

import numpy as np
import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.gradient_layer import StandardizedGradient
from eigenfeatures.eigen.preprocessing import (
    Preprocessing,
    fit_preprocessing,
    operator_named,
    sample_statistics,
)
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.kernels import OPERATORS, gradient_magnitude


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("fitted", [False, True])
def test_torch_module_equals_the_kernel(operator, dtype, fitted):
    draw = np.random.default_rng(1)
    slices = draw.integers(0, 255, (3, 17, 13)).astype(dtype)
    if dtype != np.uint8:
        slices += np.array(30_000, dtype)
    slices[2] = 7
    preprocessing = Preprocessing(operator, 12.5, 3.25) if fitted else Preprocessing(operator)
    found = StandardizedGradient(preprocessing)(torch.from_numpy(slices))
    assert found.shape == (3, 1, 17, 13)
    np.testing.assert_allclose(found[:, 0].numpy(), preprocessing(slices), rtol=1e-5, atol=1e-5)
    if not fitted:
        assert not found[2].any()


def test_dataset_normalisation_is_that_of_the_training_slices(stacks):
    with open_samples(stacks) as samples:
        statistics = sample_statistics(samples, "sobel")
        training = np.arange(len(samples)) % 3 != 0
        fitted = fit_preprocessing("sobel", "dataset", statistics, training)
        gradient = gradient_magnitude(samples.read(np.arange(len(samples))), "sobel").astype(np.float64)
    assert fitted.mean == pytest.approx(gradient[training].mean(), rel=1e-6)
    assert fitted.deviation == pytest.approx(gradient[training].std(), rel=1e-6)
    np.testing.assert_allclose(statistics.mean_gradient, gradient.mean((1, 2)), rtol=1e-6)
    assert fit_preprocessing("sobel", "slice", statistics, training) == Preprocessing("sobel")


def test_mistakes_are_refused(stacks):
    with pytest.raises(InputError, match="operator 'roberts' is unknown"):
        operator_named("roberts")
    with pytest.raises(InputError, match="give both or neither"):
        Preprocessing("sobel", mean=1.0)
    with open_samples(stacks) as samples:
        statistics = sample_statistics(samples, "sobel")
    with pytest.raises(InputError, match="normalise 'batch' is unknown"):
        fit_preprocessing("sobel", "batch", statistics, np.ones(len(samples), bool))
    flat = type(statistics)(*(np.zeros_like(values) for values in statistics))
    with pytest.raises(InputError, match="every training slice is constant"):
        fit_preprocessing("sobel", "dataset", flat, np.ones(len(samples), bool))
