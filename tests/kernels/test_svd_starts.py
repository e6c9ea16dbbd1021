"""A search finds the leading vector also from a start with next to nothing of it, and gives up in time."""

import numpy as np
import pytest
from spectra import SPECTRA, measured, with_spectrum

from eigenfeatures.kernels import truncated_svd
from eigenfeatures.kernels.cpu.krylov import random_weights
from eigenfeatures.kernels.cpu.ritz import RANDOM_PART

TOL = 1e-5


def leading_values(maps):
    """σ₁ of each slice of maps (N, C, h, w) by LAPACK."""
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    return np.linalg.svd(flat, compute_uv=False)[:, 0]


def opposite_maps(i, j):
    """Eight maps (1, 8, 4, 4): two are opposite and strong, six equal and weak, with no pixel in common."""
    strong, weak = np.zeros((4, 4)), np.zeros((4, 4))
    strong.ravel()[:8] = weak.ravel()[8:] = np.arange(1, 9)
    maps = np.stack([0.2 * weak] * 8)
    maps[i], maps[j] = strong, -strong
    return maps[np.newaxis]


@pytest.mark.parametrize("gap", [False, True])
def test_opposite_maps_whose_sum_is_zero(gap):
    """The sum of the maps has no part in v₁ = (e_i − e_j)/√2; random signs often have none."""
    for i in range(8):
        for j in range(i + 1, 8):
            maps = opposite_maps(i, j)
            np.testing.assert_allclose(truncated_svd(maps, gap=gap).s[:, 0], leading_values(maps), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_maps_along_a_stack(dtype):
    """A region has two channels. Where another leads in the next slice, v₁ is orthogonal to the start."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        regions = rng.integers(0, 4, (8, 8, 8))[:, np.newaxis] == np.arange(4)[:, np.newaxis, np.newaxis]
        maps = np.repeat(regions * rng.random((8, 4, 1, 1)), 2, axis=1).astype(dtype)
        svd = truncated_svd(maps)
        np.testing.assert_allclose(svd.s[:, 0], leading_values(maps), rtol=1e-5)
        np.testing.assert_allclose(svd.s, [truncated_svd(of_slice).s for of_slice in maps], rtol=1e-5)


@pytest.mark.parametrize("channels", [3, 4])
def test_maps_of_ones_and_minus_ones(channels):
    for seed in range(200):
        maps = np.random.default_rng(seed).choice([-1.0, 1.0], (1, channels, 4, 4))
        np.testing.assert_allclose(truncated_svd(maps).s[:, 0], leading_values(maps), rtol=1e-6)


@pytest.mark.parametrize("tol", [1e-3, 1e-2, 0.1, 0.9])
def test_a_loose_tolerance_ends_at_no_other_vector(tol):
    for seed in range(200, 300):
        maps = np.random.default_rng(seed).normal(size=(8, 4, 6, 6))
        maps[:, ::2] = 0
        svd = truncated_svd(maps, tol=tol)
        np.testing.assert_allclose(svd.s[:, 0], leading_values(maps), rtol=1e-6)
        assert (svd.residual <= min(tol, 1e-3)).all()


def test_a_start_that_the_maps_send_to_zero():
    """Two opposite maps, to which a start, with its random part, gives equal weights."""
    maps = np.zeros((8, 9, 9), np.float32)
    maps[0], maps[4] = 1, -1
    start = 1 - RANDOM_PART * random_weights(8, 0)
    svd = truncated_svd(maps, start=start)
    assert svd.s[0] == pytest.approx(np.sqrt(2) * 9)
    assert measured(maps, svd.u, svd.s, svd.v)[0] <= TOL


def areas(seed, *shares, channels=32, side=40):
    """Maps (N, C, side, side) with no pixel in common: `shares` of slices are pixels of some channels."""
    rng = np.random.default_rng(seed)
    chosen, stack = rng.permutation(channels), np.zeros((len(shares), channels, side * side), np.float32)
    for maps, counts in zip(stack, shares, strict=True):
        places = np.split(rng.permutation(side * side), np.cumsum(counts))
        for channel, place in zip(chosen, places, strict=False):
            maps[channel, place] = 1 + rng.random(len(place))
    return stack.reshape(len(shares), channels, side, side)


@pytest.mark.parametrize(
    "shares",
    [
        pytest.param([(900, 600), (0, 500, 1000)], id="the first is gone and a third leads"),
        pytest.param([(900, 600, 50), (400, 500, 700)], id="a third has overtaken both"),
        pytest.param([(900, 600), (0, 0), (0, 500, 1000)], id="after a blank slice"),
    ],
)
@pytest.mark.parametrize("gap", [False, True])
def test_a_third_vector_of_maps_with_no_common_pixel_overtakes_both_starts(shares, gap):
    for seed in range(20):
        maps = areas(seed, *shares)
        exact = leading_values(maps)
        np.testing.assert_allclose(truncated_svd(maps, gap=gap).s[:, 0], exact, rtol=1e-5)


def test_equal_values_are_seen_where_the_slice_before_had_other_channels():
    maps = np.zeros((2, 32, 20, 15), np.float32)
    for k, channels in enumerate(([1, 2, 3], [4, 5, 6])):
        maps[k, channels, 0, [0, 1, 2]] = 127
    np.testing.assert_allclose(truncated_svd(maps, gap=True).gap, 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        pytest.param(np.r_[1, 0.99 * np.arange(1, 128) ** -0.5], 10, id="slow tail"),
        pytest.param(np.r_[1, 0.95 * 0.9 ** np.arange(127)], 12, id="exponential tail"),
    ],
)
def test_a_search_goes_on_while_convergence_may_speed_up(values, passes):
    """After three passes residuals fall so that more than 14 would be needed."""
    svd = truncated_svd(with_spectrum(values, "float32", shape=(128, 40, 40)))
    assert svd.method == "lanczos"
    assert svd.passes <= passes
    assert svd.residual <= 1e-5
    assert svd.s[0] == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_search_makes_no_more_passes_than_it_may(most):
    """The passes after it are those of the Gram matrix and of its triplets."""
    after = truncated_svd(with_spectrum(SPECTRA["polynomial"]), max_passes=0).passes
    assert truncated_svd(with_spectrum(SPECTRA["polynomial"]), max_passes=most).passes == most + after
