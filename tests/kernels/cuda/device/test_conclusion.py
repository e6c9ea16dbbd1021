"""Triplets from right vectors and their products, against NumPy."""

import numpy as np
import pytest

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.conclusion import CONCLUDERS, ORDERERS, arrange, conclude

NEGLIGIBLE, ROUNDING = 1e-6, 1e-8


def concluded(vectors, across, sums, nonnegative):
    """s, v, factors, order and residuals by the kernel; what isn't written is NaN or −1."""
    count, rank, channels = vectors.shape
    empty = [np.full(shape, np.nan) for shape in ((count, rank), (count, rank, channels), (count, rank))]
    filled = [*empty, np.full((count, rank), -1, np.int32), np.full(count, np.nan)]
    given = [memory.to_device(array) for array in (vectors, across, sums, nonnegative)]
    out = [memory.to_device(array) for array in filled]
    memory.launch(conclude, count, CONCLUDERS, *given, NEGLIGIBLE, ROUNDING, *out)
    return [memory.to_host(array) for array in out]


def given(count, rank, channels):
    draw = np.random.default_rng(rank)
    vectors, across = draw.standard_normal((2, count, rank, channels))
    sums = draw.random((count, rank, 3))
    sums[..., 1:] -= 0.5
    return vectors, across, sums, np.arange(count) % 2.0


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_sizes_signs_and_order(rank):
    """More vectors than warps, and fewer."""
    vectors, across, sums, nonnegative = given(3, rank, 40)
    sums[1, -1, 0] = 1e-14 * sums[1, 0, 0]  # noise, unless it is all there is
    s, v, factors, order, residuals = concluded(vectors, across, sums, nonnegative)
    size = np.sqrt(sums[..., 0])
    noise = size <= NEGLIGIBLE * size.max(axis=1, keepdims=True)
    np.testing.assert_array_equal(order, np.argsort(-size, axis=1, kind="stable"))
    np.testing.assert_allclose(s, np.take_along_axis(np.where(noise, 0, size), order, axis=1), rtol=1e-14)
    divisor = np.where(noise, 1, size)
    missed = np.linalg.norm(across / divisor[..., None] - size[..., None] * vectors, axis=2)
    missed = np.where(noise, size, np.maximum(missed, size * ROUNDING))
    np.testing.assert_allclose(residuals, missed.max(axis=1) / size.max(axis=1), rtol=1e-12)
    direction = (vectors * abs(vectors)).sum(axis=2) + np.where(noise, 0, sums[..., 2] / divisor**2)
    leads = (nonnegative != 0)[:, None] & (np.arange(rank) == 0)
    sign = np.where(np.where(leads, sums[..., 1], direction) < 0, -1.0, 1.0)
    signed = np.take_along_axis(sign[..., None] * vectors, order[..., None].astype(int), axis=1)
    np.testing.assert_allclose(v, signed)
    expected = np.take_along_axis(np.where(noise, 0, sign / divisor), order, axis=1)
    np.testing.assert_allclose(factors, expected, rtol=1e-14)


def test_nan_comes_last_and_ties_stay_in_order():
    vectors, across, sums, nonnegative = given(2, 4, 7)
    sums[0, :, 0], sums[1, :, 0] = (2, np.nan, 3, np.nan), (1, 2, 1, 2)
    s, _, _, order, residuals = concluded(vectors, across, sums, nonnegative)
    np.testing.assert_array_equal(order, [[2, 0, 1, 3], [1, 3, 0, 2]])
    np.testing.assert_allclose(s[0], np.sqrt([3, 2, np.nan, np.nan]))
    assert not residuals[0] <= 1  # so that it isn't accepted
    assert residuals[1] > 0


def test_a_slice_of_zeros_misses_every_tolerance():
    zeros = np.zeros((1, 1, 7))
    s, _, factors, _, residuals = concluded(zeros, zeros, np.zeros((1, 1, 3)), np.ones(1))
    assert (s[0, 0], factors[0, 0], residuals[0]) == (0, 0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixels", [1, ORDERERS, ORDERERS + 3])
def test_arrange(dtype, pixels):
    draw = np.random.default_rng(0)
    products = draw.standard_normal((2, 3, pixels)).astype(dtype)
    factors, order = draw.standard_normal((2, 3)), np.array([[2, 0, 1], [0, 1, 2]], np.int32)
    u = memory.to_device(np.full(products.shape, np.nan, dtype))
    blocks = 6 * -(-pixels // ORDERERS)
    arguments = [memory.to_device(array) for array in (factors, order, products)]
    memory.launch(arrange, blocks, ORDERERS, *arguments, u)
    chosen = np.take_along_axis(products, order[..., None].astype(int), axis=1)
    np.testing.assert_array_equal(memory.to_host(u), chosen * factors.astype(dtype)[..., None])
