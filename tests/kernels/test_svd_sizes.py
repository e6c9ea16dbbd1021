"""Truncated SVD of maps of any size: from one pixel to those of the paper, from one channel to 1,024."""

import numpy as np
import pytest
import reference
from spectra import measured, rectified, with_spectrum
from svd_oracles import assert_directions, by_gram, honest

from eigenfeatures.kernels import truncated_svd

TOL = 1e-5


def assert_contract(maps, svd, exact, place=()):
    """Compare with the definition and exact triplets; return how many vectors were compared."""
    u, s, v = svd.u[place], svd.s[place], svd.v[place]
    residual, loss = measured(maps, u, s, v)
    assert residual <= TOL
    assert honest(svd.residual[place], residual, maps.dtype)
    assert loss <= 10 * TOL
    np.testing.assert_allclose(s, exact[1][: len(s)], rtol=0, atol=TOL * exact[1][0])
    return assert_directions(u, v, exact)


@pytest.mark.parametrize("pixels", [(1, 1), (1, 3), (7, 7), (20, 21)])
@pytest.mark.parametrize("channels", [1, 2, 5, 64, 257])
def test_any_size_and_every_rank(channels, pixels):
    maps = np.random.default_rng(channels).normal(1, 1, (channels, *pixels)).astype(np.float32)
    exact = reference.singular_triplets(maps)
    most = len(exact[1])
    for rank in {1, min(2, most), most}:
        assert assert_contract(maps, truncated_svd(maps, rank), exact) > 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("channels", "pixels"), [(5, 5), (5, 70), (70, 5)])
def test_every_vector_where_all_stand_apart(channels, pixels, dtype, scale):
    """Up to the last one, whose value is apart from 0, of as few pixels or channels."""
    values = scale * np.linspace(1, 0.2, 5)
    maps = with_spectrum(values, dtype, shape=(5, 1, max(channels, pixels)))
    if channels > pixels:
        maps = maps.T.copy()
    exact = reference.singular_triplets(maps)
    for rank in range(1, 6):
        assert assert_contract(maps, truncated_svd(maps, rank), exact) == rank


@pytest.mark.parametrize("pixels", [(1, 1), (5, 6), (33, 32)])
def test_a_thousand_channels(pixels):
    maps = rectified(shape=(1024, *pixels))
    most = min(8, pixels[0] * pixels[1])
    exact = by_gram(maps, most)
    for rank in (1, most):
        assert assert_contract(maps, truncated_svd(maps, rank), exact) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("channels", "pixels", "method"), [(96, 96, "gram"), (130, 70, "gram"), (130, 60, "svd"), (40, 40, "svd")]
)
def test_no_more_pixels_than_channels(channels, pixels, method, dtype):
    """A Gram matrix takes less time than LAPACK up to half as many pixels as channels."""
    values = np.r_[0.7 ** np.arange(8), np.linspace(0.03, 0.02, pixels - 8)]  # four stand a tenth apart
    maps = with_spectrum(values, dtype, shape=(pixels, 1, channels)).T.copy()
    exact = reference.singular_triplets(maps)
    for rank in (2, 8, pixels):
        svd = truncated_svd(maps, rank)
        assert svd.method == method
        assert assert_contract(maps, svd, exact) == min(rank, 4)


@pytest.mark.parametrize("seed", [0, 2, 6])
def test_small_values_of_float64_that_a_gram_matrix_can_not_tell_apart(seed):
    values = np.random.default_rng(seed).permutation([1, 3e-9, 2e-9, 1e-9])
    maps = np.ascontiguousarray(with_spectrum(values, shape=(4, 10, 10)))
    svd = truncated_svd(maps, 2, tol=1e-12)
    np.testing.assert_allclose(svd.s, [1, 3e-9], rtol=1e-6)
    assert svd.method == "svd"


def groups(seed, channels, side):
    """Maps after a ReLU: eight kinds of places, to each of which a share of the channels responds."""
    rng = np.random.default_rng(seed)
    maps = rng.random((channels, side * side), np.float32)
    maps -= np.float32(0.8)  # noise that is mostly cut
    for k in range(8):
        places = slice(k * side * side // 8, (k + 1) * side * side // 8)
        maps[k * channels // 8 : (k + 1) * channels // 8, places] += np.float32(4 - 0.45 * k)
    return np.maximum(maps, 0, out=maps).reshape(channels, side, side)


@pytest.mark.parametrize("side", [133, 266])
def test_the_papers_sizes(side):
    """Two slices of 128 channels, in both orders: each has a cold start, and one from the other."""
    slices = [rectified(shape=(128, side, side)), groups(1, 128, side)]
    exact, apart = [by_gram(maps, 8) for maps in slices], [1, 8]
    for order in ([0, 1], [1, 0]):
        stack = np.stack([slices[k] for k in order])
        for rank in (1, 8)[: 2 - order[0]]:  # from rank 2 on a start makes no difference
            svd = truncated_svd(stack, rank)
            for place, k in enumerate(order):
                assert assert_contract(slices[k], svd, exact[k], place) == min(rank, apart[k])
