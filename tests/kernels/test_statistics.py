"""Statistics of slices against float64 NumPy on the images that they never write."""

import tracemalloc

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenfeatures.kernels import OPERATORS, gradient_magnitude, slice_statistics, standardized_gradient


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(("uint8", "int16", "float32", "float64")),
    st.sampled_from(OPERATORS),
    st.integers(0, 1000),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_equal_loops(shape, dtype, operator, seed):
    image = (np.random.default_rng(seed).random(shape) * 200).astype(dtype)
    result = slice_statistics(image, operator)
    magnitude = reference.gradient_magnitude(image, operator)
    wide = image.astype(np.float64)
    scale = 1e-6 * max(magnitude.max(), 1)
    # Differences from an integer are exact; those of floats are rounded, to float32 for all but float64.
    exact = dtype in ("uint8", "float64")
    np.testing.assert_allclose(result.mean, wide.mean(), rtol=1e-12 if exact else 1e-6)
    np.testing.assert_allclose(result.deviation, wide.std(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result.mean_gradient, magnitude.mean(), atol=scale)
    np.testing.assert_allclose(result.total_variation, magnitude.sum(), atol=scale * image.size)
    np.testing.assert_allclose(result.deviation_gradient, magnitude.std(), atol=10 * scale)


def test_blocks_of_rows_and_leading_axes():
    stack = (np.random.default_rng(1).random((2, 3, 150, 40)) * 255).astype(np.uint8)
    result = slice_statistics(stack)
    for place in np.ndindex(2, 3):
        magnitude = reference.gradient_magnitude(stack[place], "sobel")
        assert result.mean[place] == pytest.approx(stack[place].mean(), rel=1e-14)
        assert result.deviation[place] == pytest.approx(stack[place].std(), rel=1e-6)
        assert result.mean_gradient[place] == pytest.approx(magnitude.mean(), rel=1e-7)
        assert result.total_variation[place] == pytest.approx(magnitude.sum(), rel=1e-7)
        assert result.deviation_gradient[place] == pytest.approx(magnitude.std(), rel=1e-6)


def test_deviation_survives_an_offset():
    """Sums of raw squares would lose it: the negative control below shows that this image is hard."""
    image = 3e7 + np.random.default_rng(2).random((300, 300)) * 1e-2
    naive = np.sqrt(max(np.mean(image**2) - np.mean(image) ** 2, 0))
    assert abs(naive / image.std() - 1) > 0.1
    assert slice_statistics(image).deviation == pytest.approx(image.std(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_ends_of_rows_are_no_neighbours(dtype):
    """Across them |∇Y| would be 300 times as large as it is."""
    noise = np.random.default_rng(5).random((150, 300)) * 20
    image = (np.linspace(0, 60000, 300) + noise).astype(dtype)
    result = slice_statistics(image, "forward")
    magnitude = reference.gradient_magnitude(image, "forward")
    assert result.mean_gradient == pytest.approx(magnitude.mean(), rel=1e-7)
    assert result.deviation_gradient == pytest.approx(magnitude.std(), rel=1e-6)


def test_standardised_in_the_cache_or_beyond_it(monkeypatch):
    """Both ways, and the statistics, make the same sums."""
    image = (np.random.default_rng(6).random((150, 70)) * 255).astype(np.uint8)
    inside = standardized_gradient(image)
    monkeypatch.setattr("eigenfeatures.kernels.cpu.statistics.SLICE", 0)
    np.testing.assert_array_equal(standardized_gradient(image), inside)
    result = slice_statistics(image)
    fixed = standardized_gradient(image, mean=result.mean_gradient, deviation=result.deviation_gradient)
    np.testing.assert_array_equal(fixed, inside)


def test_slices_pool_into_a_data_set():
    stack = (np.random.default_rng(3).random((5, 33, 21)) * 255).astype(np.uint8)
    result = slice_statistics(stack)
    mean = result.mean_gradient.mean()
    deviation = np.sqrt(np.mean(result.deviation_gradient**2 + result.mean_gradient**2) - mean**2)
    pooled = standardized_gradient(stack, mean=mean, deviation=deviation).astype(np.float64)
    assert pooled.mean() == pytest.approx(0, abs=1e-6)
    assert pooled.std() == pytest.approx(1, rel=1e-6)


def test_constant_and_empty():
    constant = slice_statistics(np.full((4, 5), 7, np.uint8))
    assert constant == (7, 0, 0, 0, 0)
    assert slice_statistics(np.empty((0, 4, 5))).mean.shape == (0,)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_blank_slices_take_no_memory(dtype):
    """Slices of one grey value are usual at the ends of a stack."""
    images = np.full((2, 600, 500), 9, dtype)
    images[1, 300, 7] = 11
    slice_statistics(images)  # compiles
    tracemalloc.start()
    result = slice_statistics(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images[0].size / 2
    np.testing.assert_allclose(result.mean, [9, 9 + 2 / 300_000], rtol=1e-12)
    np.testing.assert_allclose(result.deviation, [0, images[1].std(dtype=np.float64)], rtol=1e-6)


def test_not_a_number_stays_in_its_slice():
    stack = np.random.default_rng(4).random((3, 9, 9)).astype(np.float32)
    clean = slice_statistics(stack)
    stack[1, 2, 2] = np.nan
    for before, after in zip(clean, slice_statistics(stack), strict=True):
        assert np.isnan(after[1])
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-22, 1e-20, 1e25, 1e30])
@pytest.mark.parametrize("height", [9, 100])
def test_squares_of_grey_values_beyond_float32(scale, height):
    image = (np.random.default_rng(0).random((height, 8)) * scale).astype(np.float32)
    result = slice_statistics(np.stack([image, np.ones_like(image)]))
    wide = image.astype(np.float64)
    np.testing.assert_allclose(result.mean, [wide.mean(), 1], rtol=1e-6)
    np.testing.assert_allclose(result.deviation, [wide.std(), 0], rtol=1e-6)


def test_squares_of_the_gradient_that_add_up_to_infinity():
    image = (np.random.default_rng(0).random((100, 90)) * 1e18).astype(np.float32)
    assert np.isfinite(gradient_magnitude(image)).all()
    assert np.isnan(standardized_gradient(image)).all()
