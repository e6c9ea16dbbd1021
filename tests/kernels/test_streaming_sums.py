"""What the first pass of a streaming SVD sums, in which precision, and over more columns than one block."""

import numpy as np
import pytest
from spectra import measured
from streams import assert_accurate

from eigenfeatures.kernels import StreamingSVD, host_parts
from eigenfeatures.kernels.cpu.gram import TILE
from eigenfeatures.kernels.moments import joined

# Unit roundoff of float32.
UNIT = 2.0**-24

# Of a Gram matrix in float64 and the same one summed in another order.
ROUNDING = 1e-14


def responses(pixels, channels=6, seed=0, dtype="float32"):
    """Rows that are at least 0 and have no short binary fractions, so that products are rounded."""
    return np.random.default_rng(seed).gamma(0.3, size=(channels, pixels)).astype(dtype)


def error(x, first_only=True, center=False):
    """The largest error of the products of rows, against their sum of squares; and the number of blocks."""
    blocks = list(host_parts.block_moments(x, center, first_only))
    total = None
    for block in blocks:
        total = joined(total, block, center)
    wide = x.astype(np.float64)
    if center:
        wide = wide - wide.mean(axis=1, keepdims=True)
    exact = wide @ wide.T
    assert total.pixels == x.shape[1]
    np.testing.assert_allclose(total.mean, x.mean(axis=1, dtype=np.float64), rtol=1e-6)
    assert total.nonnegative == (x.min() >= 0)
    found = np.ldexp(total.gram + total.lost, 2 * total.exponent)
    return np.abs(found - exact).max() / exact.trace(), len(blocks)


@pytest.mark.parametrize("pixels", [1, TILE, TILE + 1, 17 * TILE - 3, 130 * TILE + 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_sums_of_one_tile_or_many_blocks(pixels, dtype):
    x = responses(pixels) * (1 if dtype.startswith("float") else 90)
    x[0, 0] = 1
    x = x.astype(dtype)
    for center in (False, True):
        if pixels > 1 or not center:
            found, blocks = error(x, first_only=False, center=center)
            assert found <= ROUNDING
            assert blocks == -(-pixels // (64 * TILE))
    assert error(x)[0] <= (ROUNDING if dtype == "float64" else 160 * UNIT)


def test_float32_is_taken_where_the_first_triplet_alone_is_asked_for():
    """The control of those below: another error than that of float64."""
    assert 1e-10 < error(responses(40 * TILE))[0] <= 160 * UNIT
    assert error(responses(40 * TILE), first_only=False)[0] <= ROUNDING
    assert error(responses(40 * TILE), center=True)[0] <= ROUNDING
    assert error(responses(40 * TILE, dtype="float64"))[0] <= ROUNDING


def test_tiles_with_values_below_zero_take_float64():
    """Products of both signs may cancel, and what float32 lost of them would be all that is left."""
    x = responses(20 * TILE)
    x[1, ::TILE] = -1e-3  # one of each tile
    assert error(x)[0] <= ROUNDING
    x = responses(20 * TILE)
    x[:, : 19 * TILE] = 0
    x[2, -1] = -0.0  # not below zero
    assert error(x)[0] > 1e-10


def test_one_value_below_zero_spoils_no_other_tile():
    x = responses(20 * TILE)
    x[5, 3 * TILE + 7] = -0.5
    assert 1e-10 < error(x)[0] <= 160 * UNIT


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-16, 1e16, 1e30])
def test_products_that_float32_does_not_hold_take_float64(scale):
    x = (responses(20 * TILE).astype(np.float64) * scale).astype(np.float32)
    assert error(x)[0] <= ROUNDING
    svd_of = StreamingSVD()
    svd_of.add(x[:, np.newaxis])
    svd = svd_of.finish()
    u = svd_of.left(x[:, np.newaxis])
    by_definition, _ = measured(x[:, np.newaxis].astype(np.float64) / scale, u, svd.s / scale, svd.v)
    assert max(svd_of.residual, by_definition) <= 2e-7


@pytest.mark.parametrize("weak", [1e-25, 1e-15])
def test_a_channel_far_weaker_than_float32_resolves_beside_others(weak):
    """Its products vanish in float32, and beside the others' they count for nothing."""
    x = responses(20 * TILE)
    x[2] *= np.float32(weak)
    assert error(x)[0] <= 160 * UNIT


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_errors_that_all_agree_keep_the_promise(sign):
    """Equal values, the worst that lanes can sum: each addition rounds the same way."""
    maps = np.full((8, 40, TILE), sign * 0.1, np.float32)
    maps[:, ::2] *= np.arange(1, 9, dtype=np.float32)[:, np.newaxis, np.newaxis]
    stream = StreamingSVD()
    stream.add(maps)
    svd = stream.finish()
    assert_accurate(maps, stream.left(maps), svd, stream.residual)
    assert stream.residual <= 1e-5
    assert svd.energy == pytest.approx(np.sum(maps.astype(np.float64) ** 2), rel=160 * UNIT)


def test_centred_where_the_first_tile_is_far_from_all_others():
    """The shift is of no use then, and what it leaves is subtracted."""
    x = responses(30 * TILE, dtype="float64") + 1e5
    x[:, :TILE] = 0
    assert error(x, center=True)[0] <= ROUNDING
    offset = np.linspace(1e6, 2e6, 6)[:, np.newaxis]
    assert error(responses(30 * TILE, dtype="float64") + offset, center=True)[0] <= ROUNDING


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15 * TILE + 1, 100 * TILE])
def test_what_is_not_finite_is_seen_wherever_it_stands(place, bad, center):
    x = responses(101 * TILE)
    x[3, place] = bad
    for first_only in (True, False):
        with pytest.raises(FloatingPointError):
            list(host_parts.block_moments(x, center, first_only))


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_centred_left_vectors_are_those_of_the_difference(rank, dtype):
    """More tiles than one, the last cut; ranks that are worked on one by one and four together."""
    maps = (responses(2 * TILE + 77, channels=7) * 40 + 100).astype(dtype)[:, np.newaxis]
    stream = StreamingSVD(rank, center=True)
    stream.add(maps)
    svd = stream.finish()
    u = stream.left(maps)
    wide = maps.astype(np.float64)
    wide -= wide.mean(axis=(1, 2), keepdims=True)
    by_definition, loss = measured(wide, u, svd.s, svd.v)
    assert max(by_definition, stream.residual) <= 2e-7
    assert stream.residual == pytest.approx(by_definition, abs=1e-7)
    assert loss <= 1e-6


@pytest.mark.parametrize("scale", [2.0**-600, 2.0**600])
def test_centred_beyond_what_can_be_squared(scale):
    maps = responses(3 * TILE, dtype="float64")[:, np.newaxis] + 5
    found = []
    for given in (maps, scale * maps):
        stream = StreamingSVD(2, center=True)
        stream.add(given)
        found.append((stream.finish().s, stream.left(given), stream.residual))
    (s, u, _), (s_scaled, u_scaled, residual) = found
    np.testing.assert_allclose(s_scaled, scale * s, rtol=1e-12)
    np.testing.assert_allclose(u_scaled, u, atol=1e-12)
    assert residual <= 1e-12
