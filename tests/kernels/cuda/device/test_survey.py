"""What is known of slices before they are decomposed, against NumPy."""

import numpy as np
import pytest

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import SIMULATED, WARP
from eigenfeatures.kernels.cuda.survey import (
    EACH,
    ENERGY,
    EXPONENT,
    NONNEGATIVE,
    SURVEYORS,
    part_count,
    sum_squares,
    summarise,
)

# A part that isn't full, one that is, and several.
SIZES = [1, 70, SURVEYORS * EACH, 2 * SURVEYORS * EACH + 7]
if not SIMULATED:
    SIZES.append(128 * 17689)


def sums_of(maps):
    """The sums of the parts (N, parts, 4); what isn't written is NaN."""
    out = memory.to_device(np.full((len(maps), part_count(maps.shape[1]), 4), np.nan))
    blocks = out.shape[0] * out.shape[1]
    memory.launch(sum_squares, blocks, SURVEYORS, memory.to_device(maps), out)
    return out


def surveyed(maps):
    return memory.to_host(sums_of(maps)).sum(axis=1).T


def told_of(maps):
    limits = np.finfo(maps.dtype)
    told = memory.to_device(np.full((3, len(maps)), np.nan))
    bound = 2.0 ** (limits.maxexp // 2)
    memory.launch(summarise, len(maps), WARP, sums_of(maps), bound, -int(limits.minexp), told)
    return memory.to_host(told)


def responses(size, dtype, count=2):
    return np.random.default_rng(0).standard_normal((count, size)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_sums(dtype, size):
    values = responses(size, dtype)
    values[1] = abs(values[1])
    negative, squares, _, _ = surveyed(values)
    np.testing.assert_array_equal(negative, [(values[0] < 0).sum(), 0])
    np.testing.assert_allclose(squares, (values.astype(np.float64) ** 2).sum(axis=1), rtol=1e-13)


@pytest.mark.filterwarnings("ignore:overflow")
def test_sums_far_out():
    """Where squares of float64 leave its range, one of the other sums holds them."""
    values = responses(70, "float64")
    expected = (values**2).sum(axis=1)
    reduced = surveyed(values * 2.0**900)[2]
    np.testing.assert_allclose(reduced * 2.0**-600, expected, rtol=1e-14)
    magnified = surveyed(values * 2.0**-900)[3]
    np.testing.assert_allclose(magnified * 2.0**600, expected, rtol=1e-14)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    ("dtype", "exponents"),
    [("float32", (0, 31, -31, 40, -40, 110, -110)), ("float64", (0, 255, -255, 300, -300, 1000, -1000))],
)
def test_the_norm_is_brought_into_range(dtype, exponents):
    """Exactly: a power of two changes no digit. Within the range nothing is changed."""
    values = responses(70, "float64", 1).astype(dtype)[0]
    energy = (values.astype(np.float64) ** 2).sum()
    told = told_of(np.stack([np.ldexp(values, k) for k in exponents]))
    bound = np.finfo(dtype).maxexp // 2
    for k, found, shift in zip(exponents, told[ENERGY], told[EXPONENT], strict=True):
        np.testing.assert_allclose(found, np.ldexp(energy, 2 * int(k + shift)), rtol=1e-13)
        size = np.log2(energy) / 2
        if abs(2 * (k + size)) < bound:
            assert shift == 0
        else:
            assert 0.5 <= np.sqrt(found) < 1


def test_what_has_no_norm_is_told():
    maps = np.ones((4, 70), np.float32)
    maps[1], maps[2, 5], maps[3, 6] = 0, np.nan, -np.inf
    told = told_of(maps)
    np.testing.assert_array_equal(told[ENERGY], [70, 0, np.nan, np.inf])
    np.testing.assert_array_equal(told[EXPONENT], 0)
    np.testing.assert_array_equal(told[NONNEGATIVE], [1, 1, 1, 0])
