"""Streaming SVD against LAPACK and the SVD of the whole, over spectra, tilings, scales and signs."""

import numpy as np
import pytest
import reference
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from spectra import CHANNELS, HEIGHT, SPECTRA, WIDTH, measured, rectified, sine, with_spectrum
from streams import (
    TILINGS,
    assert_contract,
    assert_empty_stacks_add_nothing,
    assert_near_lapack,
    assert_smallest_values_found,
    side_by_side,
    streamed,
    tiles,
)
from svd_oracles import honest, rounding

from eigenfeatures.kernels import truncated_svd
from eigenfeatures.kernels.streaming import StreamingSVD

TOL = 1e-5


@pytest.mark.parametrize("rank", [1, 8, CHANNELS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECTRA)
def test_contract_on_every_spectrum(name, dtype, rank):
    maps = with_spectrum(SPECTRA[name], dtype)
    assert_contract(maps, *streamed(StreamingSVD(rank), tiles(maps, *TILINGS["tiles"])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("leading", [1, CHANNELS // 2])
def test_left_vectors_of_the_smallest_values_that_count(leading, dtype):
    assert_smallest_values_found(leading, dtype, (CHANNELS, HEIGHT, WIDTH), TILINGS["bands"])


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(
    ("channels", "pixels", "dtype"),
    [
        (24, 899, "float32"),
        (24, 899, "float64"),
        (60, 12, "float32"),
        (60, 12, "float64"),
        (1024, 30, "float32"),
    ],
)
def test_a_residual_above_rounding_is_true(channels, pixels, dtype, center):
    """Values that count as 0 leave one as large as they are."""
    count = min(channels, pixels)
    values = np.where(np.arange(count) < count // 2, np.linspace(1, 0.5, count), 4e-6)
    maps = with_spectrum(values, dtype, shape=(count, 1, max(channels, pixels)))
    if channels > pixels:
        maps = maps.T.copy()
    u, svd, residual = streamed(StreamingSVD(count, center=center), tiles(maps, [], [5]))
    wide = maps.astype(np.float64)
    if center:
        wide -= wide.mean(axis=(1, 2), keepdims=True)
    by_definition, loss = measured(wide, u, svd.s, svd.v)
    assert rounding(np.float32) < by_definition <= TOL
    assert honest(residual, by_definition, dtype)
    assert loss <= 10 * TOL


@pytest.mark.parametrize("tiling", TILINGS)
def test_tilings_agree_with_the_whole(tiling):
    maps = rectified()
    u, svd, residual = streamed(StreamingSVD(3), tiles(maps, *TILINGS[tiling]))
    whole = truncated_svd(maps, 3)
    assert residual <= TOL
    np.testing.assert_allclose(svd.s, whole.s, rtol=1e-6)
    sign = np.sign((svd.v * whole.v).sum(axis=1))
    assert sign[0] == 1
    np.testing.assert_allclose(svd.v, sign[:, np.newaxis] * whole.v, atol=TOL)
    np.testing.assert_allclose(u, sign[:, np.newaxis, np.newaxis] * whole.u, atol=TOL)
    assert svd.energy == pytest.approx(whole.energy)
    assert svd.pixels == HEIGHT * WIDTH


@given(
    st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(("float32", "float64", ">f4", "uint8", "int16")),
    st.integers(1, 8),
    st.integers(0, 1000),
    st.booleans(),
    st.data(),
)
@settings(deadline=None, derandomize=True, max_examples=80)
def test_contract_on_any_tiling(shape, dtype, rank, seed, center, data):
    """Few distinct values, hence exact ties and lost rank; tiles of one pixel; n < C."""
    rank = min(rank, shape[0])
    maps = np.random.default_rng(seed).integers(0, 3, shape).astype(dtype)
    rows, columns = (
        data.draw(st.lists(st.integers(1, size - 1), unique=True).map(sorted)) if size > 1 else []
        for size in shape[1:]
    )
    before = maps.copy()
    u, svd, residual = streamed(StreamingSVD(rank, center=center), tiles(maps, rows, columns))
    np.testing.assert_array_equal(maps, before)
    wide = maps.astype(np.float64)
    if center:
        wide -= wide.mean(axis=(1, 2), keepdims=True)
    assert_near_lapack(wide, u, svd, residual)


def test_a_second_pass_over_other_responses_shows():
    """The negative control of `residual`: one pixel in one of the parts."""
    maps = rectified()
    stream = StreamingSVD(2)
    parts = tiles(maps, *TILINGS["bands"])
    for (part,) in parts:
        stream.add(part)
    parts[1][0][3, 4, 5] += 1
    for (part,) in parts:
        stream.left(part)
    assert stream.residual > 10 * TOL


def test_slices_side_by_side():
    """One decomposition of a data set, its slices of two sizes and in several calls."""
    stack = np.stack([rectified(seed) for seed in range(4)]).reshape(2, 2, CHANNELS, HEIGHT, WIDTH)
    last = rectified(9, (CHANNELS, 70, 90))
    stream = StreamingSVD(2)
    stream.add(stack)
    stream.add(last)
    svd = stream.finish()
    u, u_last = stream.left(stack), stream.left(last)
    assert u.shape == (2, 2, 2, HEIGHT, WIDTH)
    whole = truncated_svd(side_by_side([*stack.reshape(-1, CHANNELS, HEIGHT, WIDTH), last]), 2)
    assert stream.residual <= TOL
    np.testing.assert_allclose(svd.s, whole.s, rtol=1e-6)
    found = side_by_side([*u.reshape(4, 2, HEIGHT, WIDTH), u_last])
    np.testing.assert_allclose(found[0], whole.u[0], atol=TOL)
    assert sine(found[1], whole.u[1]) <= 1e-4
    assert svd.pixels == found.shape[-1]


def test_the_second_pass_may_be_cut_otherwise():
    maps = rectified()
    stream = StreamingSVD()
    stream.add(maps)
    u = np.block([[stream.left(part) for part in band] for band in tiles(maps, *TILINGS["tiles"])])
    np.testing.assert_allclose(u, truncated_svd(maps).u, atol=TOL)
    assert stream.residual <= TOL


def test_an_empty_stack_adds_nothing():
    assert_empty_stacks_add_nothing()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_changes_nothing_else(scale, dtype):
    maps = rectified().astype(dtype)
    scaled = maps * np.dtype(dtype).type(scale)
    u, svd, _ = streamed(StreamingSVD(3), tiles(maps, *TILINGS["bands"]))
    u_scaled, svd_scaled, residual = streamed(StreamingSVD(3), tiles(scaled, *TILINGS["bands"]))
    np.testing.assert_allclose(svd_scaled.s, svd.s * scale, rtol=1e-6)
    np.testing.assert_allclose(svd_scaled.energy, svd.energy * scale**2, rtol=1e-6)
    np.testing.assert_allclose(u_scaled, u, atol=1e-5)
    assert residual <= TOL


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_parts_of_very_different_scale(order):
    """No scale fits all of them, and the first one seen doesn't bind the others."""
    parts = [rectified(seed).astype(np.float64) * scale for seed, scale in enumerate((0, 1e-200, 1, 1e200))]
    stream = StreamingSVD(2)
    for k in order:
        stream.add(parts[k])
    svd = stream.finish()
    alone = truncated_svd(parts[3], 2)
    np.testing.assert_allclose(svd.s, alone.s, rtol=1e-9)
    np.testing.assert_allclose(svd.v[0], alone.v[0], atol=TOL)
    assert svd.energy == np.inf
    for k in order:
        u = stream.left(parts[k])
        if k == 3:
            np.testing.assert_allclose(u[0], alone.u[0], atol=TOL)
    assert stream.residual <= TOL


def test_channels_far_weaker_than_others():
    maps = rectified().astype(np.float64)
    maps[:5] *= 1e-82
    maps[:5, :10], maps[5:, 10:] = 0, 0  # no pixel in common
    u, svd, residual = streamed(StreamingSVD(2), [[maps]])
    by_definition, loss = measured(maps, u, svd.s, svd.v)
    assert max(residual, by_definition) <= TOL
    assert loss <= 10 * TOL


@pytest.mark.parametrize("scale", [1e-200, 1e-300, 1e-42])
def test_tiny_parts_beside_zeros(scale):
    dtype = np.float32 if scale == 1e-42 else np.float64
    maps = (rectified().astype(np.float64) * scale).astype(dtype)
    stream = StreamingSVD(2)
    for part in (0 * maps, maps, 0 * maps):
        stream.add(part)
    np.testing.assert_allclose(stream.finish().s, truncated_svd(maps, 2).s, rtol=1e-6)
    np.testing.assert_allclose(stream.left(maps)[0], truncated_svd(maps).u[0], atol=TOL)
    stream.left(np.stack([0 * maps, 0 * maps]))
    assert stream.residual <= TOL


def test_a_long_stream_loses_nothing():
    """Parts that each add less than float64 resolves beside the first."""
    stream = StreamingSVD()
    stream.add(np.full((1, 1, 1), 2.0**27))
    for _ in range(64):
        stream.add(np.ones((1, 1, 1)))
    assert 2.0**54 + 1 == 2.0**54
    assert stream.finish().energy == 2.0**54 + 64


def test_zeros():
    maps = np.zeros((4, 5, 6), np.float32)
    u, svd, residual = streamed(StreamingSVD(2), tiles(maps, [2], []))
    assert not u.any()
    assert not svd.s.any()
    assert not svd.v.any()
    assert (svd.energy, residual) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_sign_after_a_relu(seed):
    """Perron–Frobenius: the first pair of vectors of X ≥ 0 is at least 0."""
    u, svd, _ = streamed(StreamingSVD(3), tiles(rectified(seed), *TILINGS["tiles"]))
    assert u[0].min() >= -1e-5
    assert svd.v[0].min() >= -1e-5


@pytest.mark.parametrize("center", [False, True])
def test_sign_otherwise_follows_the_right_vectors(center):
    maps = with_spectrum(SPECTRA["exponential"])
    for sign in (1, -1):
        _, svd, _ = streamed(StreamingSVD(4, center=center), tiles(sign * maps, *TILINGS["bands"]))
        assert ((svd.v * np.abs(svd.v)).sum(axis=1) > 0).all()


@pytest.mark.parametrize("first", [True, False])
def test_one_part_below_zero_changes_the_rule(first):
    """All but one of the maps are negative there: the rule for X ≥ 0 would turn v_1 the other way."""
    maps = -rectified()
    maps[0] = 1
    maps[:, :11] = 0
    _, svd, _ = streamed(StreamingSVD(), tiles(maps if first else maps[:, ::-1], *TILINGS["bands"]))
    assert (svd.v[0] * np.abs(svd.v[0])).sum() > 0
    assert svd.v[0] @ maps.reshape(CHANNELS, -1).sum(axis=1) < 0


def test_sign_after_a_relu_where_the_first_vectors_are_tied():
    """Groups of maps that share no pixel and are equally strong: v_1 is a mixture with both signs."""
    against_the_other_rule = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = [rng.random((3, 3 * size)) for size in (1, 4, 30)]
        maps = scipy.linalg.block_diag(*(group / np.linalg.norm(group, 2) for group in groups))
        u, svd, _ = streamed(StreamingSVD(), [[rng.permutation(maps)[:, np.newaxis]]])
        assert u[0].sum() >= 0
        against_the_other_rule += (svd.v[0] * np.abs(svd.v[0])).sum() < 0
    assert against_the_other_rule > 0


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centred(offset, dtype):
    """Means that differ from part to part and far exceed the deviations."""
    drift = np.linspace(0, 5, HEIGHT)[:, np.newaxis] * np.linspace(-1, 1, CHANNELS)[:, np.newaxis, np.newaxis]
    maps = (rectified() + drift + offset).astype(dtype)
    u, svd, residual = streamed(StreamingSVD(3, center=True), tiles(maps, *TILINGS["tiles"]))
    wide = maps.astype(np.float64) - maps.astype(np.float64).mean(axis=(1, 2), keepdims=True)
    by_definition, loss = measured(wide, u, svd.s, svd.v)
    assert max(residual, by_definition) <= TOL
    assert loss <= 10 * TOL
    np.testing.assert_allclose(svd.s, reference.singular_triplets(wide)[1][:3], rtol=1e-9)
    np.testing.assert_allclose(svd.s, truncated_svd(maps, 3, center=True).s, rtol=1e-6)


def test_centring_by_subtraction_would_lose_the_digits():
    """The negative control of `test_centred`: XᵀX − n m mᵀ at an offset of 10⁶."""
    maps = rectified().astype(np.float64) + 1e6
    x = maps.reshape(CHANNELS, -1)
    mean = x.mean(axis=1)
    naive = np.linalg.eigvalsh(x @ x.T - x.shape[1] * np.outer(mean, mean))[::-1][:3]
    _, s, _ = reference.singular_triplets(maps - maps.mean(axis=(1, 2), keepdims=True))
    assert np.abs(naive - s[:3] ** 2).max() > 1e-6 * s[0] ** 2


def test_centred_constant_maps_are_zero():
    constant = np.full((3, 4, 5), 0.1) * np.arange(1, 4).reshape(3, 1, 1)
    u, svd, residual = streamed(StreamingSVD(center=True), tiles(constant, [1, 3], [2]))
    assert svd.s[0] == svd.energy == residual == 0
    assert not u.any()


@pytest.mark.parametrize("seed", range(3))
def test_centred_float32_of_a_wide_spectrum(seed):
    """What is left of a map once its mean is gone is magnified by s_1/s_i, and so would its rounding be."""
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.normal(size=(size, 8))).Q for size in (9000, 8))
    maps = (right * np.geomspace(1, 6e-6, 8)) @ left.T
    maps = maps.reshape(8, 90, 100).astype(np.float32)
    u, svd, residual = streamed(StreamingSVD(8, center=True), tiles(maps, *TILINGS["bands"]))
    centred = maps.reshape(8, -1).astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    exact, _ = measured(centred, u.reshape(8, -1), svd.s, svd.v)
    assert max(residual, exact) <= 1e-6
