"""The strongest channel against loops."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenfeatures.kernels import strongest_channel


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(("float32", "float64", "uint8")),
    st.integers(0, 1000),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_equals_loops(shape, dtype, seed):
    # Few distinct values, so that ties are common.
    maps = np.random.default_rng(seed).integers(0 if dtype == "uint8" else -3, 3, shape).astype(dtype)
    result = strongest_channel(maps)
    expected = reference.strongest_channel(maps)
    assert result.index == expected[0]
    np.testing.assert_allclose((result.maximum, result.mean, result.positive_mean), expected[1:], rtol=1e-12)


def test_first_of_equal_channels():
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1, 0, 0] = maps[3, 1, 1] = 5
    result = strongest_channel(maps)
    assert (result.index, result.maximum, result.mean, result.positive_mean) == (1, 5, 1.25, 5)


def test_nothing_positive():
    result = strongest_channel(np.array([[[-2.0, -3.0]], [[-1.0, -4.0]]]))
    assert (result.index, result.maximum, result.mean, result.positive_mean) == (1, -1, -2.5, 0)


def test_leading_axes_and_not_a_number():
    maps = np.random.default_rng(0).random((2, 3, 4, 5, 6)).astype(np.float32)
    clean = strongest_channel(maps)
    assert clean.index.dtype == np.int64
    maps[1, 2, 3, 0, 0] = np.nan
    result = strongest_channel(maps)
    assert result.index[1, 2] == 3
    assert np.isnan([result.maximum[1, 2], result.mean[1, 2], result.positive_mean[1, 2]]).all()
    keep = np.ones((2, 3), bool)
    keep[1, 2] = False
    for name in ("index", "maximum", "mean", "positive_mean"):
        np.testing.assert_array_equal(getattr(result, name)[keep], getattr(clean, name)[keep])


def test_too_few_axes():
    with pytest.raises(ValueError, match="at least 3"):
        strongest_channel(np.zeros((3, 3)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_maxima_of_numbers_of_every_kind(dtype):
    rng = np.random.default_rng(0)
    maps = (rng.random((3, 4, 5, 7)) * 250).astype(dtype)
    if np.dtype(dtype).kind == "f":
        tiny = np.finfo(dtype).smallest_subnormal
        maps -= 300
        maps[0, 1] = -np.inf
        maps[0, 2, 0, 0] = np.inf
        maps[0, 3] = [[-0.0] * 7] * 5
        maps[1, 0, 2, 2] = -tiny
        maps[1, 1, 2, 2] = tiny
        maps[2, 3, 4, 6] = -np.nan
    result = strongest_channel(maps)
    expected = maps.max(axis=(2, 3))
    np.testing.assert_array_equal(result.index, expected.argmax(axis=1))
    np.testing.assert_array_equal(result.maximum, expected.max(axis=1).astype(np.float64))
