"""Contrast of pictures against sorted loops."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenfeatures.kernels import stretch_contrast


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(("uint8", "int16", "float32", "float64")),
    st.sampled_from((0.0, 0.01, 0.1, 0.4)),
    st.integers(0, 1000),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_equals_loops(shape, dtype, saturate, seed):
    image = (np.random.default_rng(seed).random(shape) * 200).astype(dtype)
    result = stretch_contrast(image, saturate)
    np.testing.assert_allclose(result, reference.stretch_contrast(image, saturate), atol=1e-5)
    assert result.dtype == ("float64" if dtype == "float64" else "float32")


def test_each_image_has_its_own_range():
    stack = np.random.default_rng(0).random((2, 2, 20, 20)) * np.arange(1, 5).reshape(2, 2, 1, 1)
    result = stretch_contrast(stack)
    for place in np.ndindex(2, 2):
        np.testing.assert_array_equal(result[place], stretch_contrast(stack[place]))
        assert (result[place].min(), result[place].max()) == (0, 1)


def test_images_that_are_stretched_together_are_so_each_by_itself(monkeypatch):
    """Two at a time and the last one alone, by several threads; of each kind one."""
    monkeypatch.setattr("eigenfeatures.kernels.cpu.contrast.SMALL", 0)
    monkeypatch.setattr("eigenfeatures.kernels.cpu.contrast._TOGETHER", 2 * 13 * 17)
    stack = np.random.default_rng(0).random((9, 13, 17)).astype(np.float32)
    stack[1], stack[2, 3, 4], stack[3, 0, 0], stack[4] = 5, np.nan, np.inf, stack[4] * np.float32(3e38)
    for saturate in (0.0, 0.1):
        expected = [stretch_contrast(image, saturate) for image in stack]
        np.testing.assert_array_equal(stretch_contrast(stack, saturate), expected)


def test_constant_is_black_and_rare_pixels_are_white():
    np.testing.assert_array_equal(stretch_contrast(np.full((5, 5), 3.0)), 0)
    sparse = np.zeros((20, 20))
    sparse[3, 4] = 2
    np.testing.assert_array_equal(stretch_contrast(sparse), sparse / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_without_finite_percentiles_are_marked(bad, dtype):
    stack = np.random.default_rng(0).random((3, 21, 20)).astype(dtype)
    expected = stretch_contrast(stack)
    stack[1, 3] = bad
    result = stretch_contrast(stack)
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[::2], expected[::2])


def test_one_nan_marks_its_image_and_few_infinite_pixels_are_clipped():
    image = np.arange(5 * 5.0).reshape(5, 5)
    image[4, 4] = np.inf
    stretched = stretch_contrast(image, 0.125)
    np.testing.assert_allclose(stretched.ravel(), np.clip((np.arange(25) - 3) / 18, 0, 1))
    image[0, 0] = np.nan
    assert np.isnan(stretch_contrast(image, 0.125)).all()


@pytest.mark.parametrize("saturate", [-0.1, 0.5, float("nan")])
def test_saturation_out_of_range(saturate):
    with pytest.raises(ValueError, match="saturate"):
        stretch_contrast(np.zeros((3, 3)), saturate)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("saturate", [0.0, 0.2])
@pytest.mark.parametrize(("dtype", "most"), [("float32", 3e38), ("float64", 1.7e308)])
def test_values_whose_difference_is_no_number(dtype, most, saturate):
    image = np.linspace(-1, 1, 11).reshape(1, 11)
    expected = stretch_contrast(image, saturate)
    result = stretch_contrast((image * most).astype(dtype), saturate)
    np.testing.assert_allclose(result, expected, atol=1e-6)
