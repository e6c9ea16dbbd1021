"""Streaming SVD of parts on a device against LAPACK in float64 and the same on the host."""

import pickle
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import reference
import spectra
from spectra import measured
from streams import (
    assert_contract,
    assert_empty_stacks_add_nothing,
    assert_near_lapack,
    assert_refused_whole,
    assert_smallest_values_found,
    streamed,
    tiles,
)

from eigenfeatures.kernels import call, host_parts, truncated_svd
from eigenfeatures.kernels import streaming as public
from eigenfeatures.kernels.cuda import memory, streaming
from eigenfeatures.kernels.cuda.compile import SIMULATED
from eigenfeatures.kernels.streaming import StreamingSVD

TOL = 1e-5

# Kernels get what they are compiled for.
pytestmark = [pytest.mark.usefixtures("registered_launches")] if SIMULATED else []

CHANNELS, HEIGHT, WIDTH = (6, 15, 14) if SIMULATED else (24, 151, 140)
ORDER = np.arange(CHANNELS)

SPECTRA = {
    "steep": 0.01**ORDER,
    "clustered": np.where(ORDER < 3, 1 - 1e-7 * ORDER, 0.1),
    "near": np.where(ORDER < 2, 1 - 1e-3 * ORDER, 0.3),
    "rank_deficient": np.where(ORDER < 4, 0.7**ORDER, 0),
    "all_equal": np.ones(CHANNELS),
    "spiked": np.where(ORDER == 0, 1, 0.05),
}

TILINGS = {
    "whole": ([], []),
    "bands": ([5, 11], []),
    "tiles": ([1, 9], [3, 4, 12]),
    "single pixels": ([1, 2], [1]),
}

rectified = partial(spectra.rectified, shape=(CHANNELS, HEIGHT, WIDTH))
with_spectrum = partial(spectra.with_spectrum, shape=(CHANNELS, HEIGHT, WIDTH))


@contextmanager
def computing(backend):
    """Compute host arrays on a backend and bring the results back; the class follows where they lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(public, "Call", lambda _, **arrays: call.Call(backend, **arrays))
        yield


@pytest.fixture(autouse=True)
def _on_the_device():
    with computing("cuda"):
        yield


@pytest.fixture(params=["one portion", "several"])
def _portions(request, monkeypatch):
    """Sums over few columns, of which few are converted at a time, or all at once."""
    if request.param == "several":
        monkeypatch.setattr(streaming, "ADDED", 16)
        monkeypatch.setattr(streaming, "_COPIES", 8 * CHANNELS * 40)


def added(stream, *parts):
    for part in parts:
        stream.add(part)
    return stream


def without_means(maps):
    wide = maps.astype(np.float64)
    return wide - wide.mean(axis=(1, 2), keepdims=True)


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("rank", [1, 3, CHANNELS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECTRA)
def test_contract_on_every_spectrum(name, dtype, rank):
    maps = with_spectrum(SPECTRA[name], dtype)
    assert_contract(maps, *streamed(StreamingSVD(rank), tiles(maps, *TILINGS["bands"])))


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("leading", [1, CHANNELS // 2])
def test_left_vectors_of_the_smallest_values_that_count(leading, dtype):
    assert_smallest_values_found(leading, dtype, (CHANNELS, HEIGHT, WIDTH), TILINGS["bands"])


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("tiling", TILINGS)
def test_tilings_agree_with_the_whole_on_the_host(tiling, center):
    maps = rectified()
    with computing("cpu"):
        expected_u, expected, _ = streamed(StreamingSVD(3, center=center), [[maps]])
    u, svd, residual = streamed(StreamingSVD(3, center=center), tiles(maps, *TILINGS[tiling]))
    assert residual <= TOL
    np.testing.assert_allclose(svd.s, expected.s, rtol=1e-13)
    np.testing.assert_allclose(svd.v, expected.v, atol=1e-10)
    np.testing.assert_allclose(u, expected_u, atol=1e-6)
    assert svd.energy == pytest.approx(expected.energy, rel=1e-13)
    assert svd.pixels == HEIGHT * WIDTH


SHAPES = [(1, 1, 1), (3, 1, 2), (5, 2, 2), (2, 1, 9), (4, 7, 5)]
if not SIMULATED:
    SHAPES += [(3, 32, 32), (7, 1, 1025), (128, 133, 133), (300, 15, 20), (2000, 5, 6)]


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "uint8", "uint16", "int16", "int64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_with_ties_and_lost_rank(shape, dtype, center):
    """Few distinct values; integers; parts of one pixel; fewer pixels than channels."""
    maps = np.random.default_rng(sum(shape)).integers(0, 3, shape).astype(dtype)
    rank = min(shape[0], 8)
    before = maps.copy()
    parts = tiles(maps, list(range(1, min(shape[1], 4))), [1] if shape[2] > 1 else [])
    u, svd, residual = streamed(StreamingSVD(rank, center=center), parts)
    np.testing.assert_array_equal(maps, before)
    assert u.dtype == (np.float64 if dtype in ("float64", "int64") else np.float32)
    wide = without_means(maps) if center else maps.astype(np.float64)
    assert_near_lapack(wide, u, svd, residual)


def test_the_hosts_loops_take_no_part(monkeypatch):
    """Nor does more than sums of the maps' products come to the host."""
    maps = rectified()
    sizes = []

    def refuse(*_):
        raise AssertionError

    def noted(array):
        sizes.append(array.size)
        return to_host(array)

    to_host = memory.to_host
    monkeypatch.setattr(host_parts, "block_moments", refuse)
    monkeypatch.setattr(host_parts, "left_vectors", refuse)
    monkeypatch.setattr(memory, "to_host", noted)
    stream = added(StreamingSVD(2), maps)
    assert sizes
    assert max(sizes) == CHANNELS**2
    sizes.clear()
    stream.left(maps)
    # The caller's array is on the host, so that the left vectors come there too.
    assert sizes.pop() == 2 * HEIGHT * WIDTH
    assert max(sizes) == 2 * CHANNELS


@pytest.mark.usefixtures("_portions")
def test_a_second_pass_over_other_responses_shows():
    """The negative control of `residual`: one pixel in one of the parts."""
    maps = rectified()
    parts = [part for (part,) in tiles(maps, *TILINGS["bands"])]
    stream = added(StreamingSVD(2), *parts)
    parts[1][3, 4, 5] += 1
    for part in parts:
        stream.left(part)
    assert stream.residual > 10 * TOL


def test_slices_side_by_side():
    """One decomposition of slices of two sizes, in several calls, cut otherwise the second time."""
    stack = np.stack([rectified(seed) for seed in range(4)]).reshape(2, 2, CHANNELS, HEIGHT, WIDTH)
    last = spectra.rectified(9, (CHANNELS, 7, 30))
    stream = added(StreamingSVD(2), stack, last)
    with computing("cpu"):
        expected = added(StreamingSVD(2), stack, last)
        expected_u = expected.left(stack)
    np.testing.assert_allclose(stream.finish().s, expected.finish().s, rtol=1e-13)
    u = np.stack([stream.left(stack[0]), stream.left(stack[1])])
    assert u.shape == (2, 2, 2, HEIGHT, WIDTH)
    np.testing.assert_allclose(u, expected_u, atol=1e-6)
    stream.left(last[:, :, :4])
    stream.left(last[:, :, 4:])
    assert stream.residual <= TOL


def test_an_empty_stack_adds_nothing():
    assert_empty_stacks_add_nothing()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("center", [False, True])
def test_scale_changes_nothing_else(scale, dtype, center):
    maps = rectified().astype(dtype)
    scaled = maps * np.dtype(dtype).type(scale)
    u, svd, _ = streamed(StreamingSVD(3, center=center), [[maps]])
    u_scaled, svd_scaled, residual = streamed(StreamingSVD(3, center=center), [[scaled]])
    np.testing.assert_allclose(svd_scaled.s, svd.s * scale, rtol=1e-6)
    np.testing.assert_allclose(svd_scaled.energy, svd.energy * scale**2, rtol=1e-6)
    np.testing.assert_allclose(u_scaled, u, atol=1e-5)
    assert residual <= TOL


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_parts_of_very_different_scale(order):
    """No scale fits all of them, and the first one seen doesn't bind the others."""
    parts = [rectified(seed).astype(np.float64) * scale for seed, scale in enumerate((0, 1e-200, 1, 1e200))]
    stream = added(StreamingSVD(2), *(parts[k] for k in order))
    svd = stream.finish()
    alone = truncated_svd(parts[3], 2)
    np.testing.assert_allclose(svd.s, alone.s, rtol=1e-9)
    np.testing.assert_allclose(svd.v[0], alone.v[0], atol=TOL)
    assert svd.energy == np.inf
    found = {k: stream.left(parts[k]) for k in order}
    np.testing.assert_allclose(found[3][0], alone.u[0], atol=TOL)
    assert stream.residual <= TOL


@pytest.mark.parametrize("scale", [1e-200, 1e-300, 1e-42])
def test_tiny_parts_beside_zeros(scale):
    """At 10⁻⁴² the responses are subnormal numbers of float32, which CuPy would take for zeros."""
    dtype = np.float32 if scale == 1e-42 else np.float64
    maps = (rectified().astype(np.float64) * scale).astype(dtype)
    stream = added(StreamingSVD(2), 0 * maps, maps, 0 * maps)
    np.testing.assert_allclose(stream.finish().s, truncated_svd(maps, 2).s, rtol=1e-6)
    np.testing.assert_allclose(stream.left(maps)[0], truncated_svd(maps).u[0], atol=TOL)
    stream.left(np.stack([0 * maps, 0 * maps]))
    assert stream.residual <= TOL


def test_zeros():
    u, svd, residual = streamed(StreamingSVD(2), [[np.zeros((4, 5, 6), np.float32)]])
    assert not u.any()
    assert not svd.s.any()
    assert not svd.v.any()
    assert (svd.energy, residual) == (0, 0)


@pytest.mark.parametrize("first", [True, False])
def test_one_part_below_zero_changes_the_rule_of_signs(first):
    """All but one of the maps are negative there: the rule for X ≥ 0 would turn v_1 the other way."""
    positive = spectra.rectified()
    _, svd, _ = streamed(StreamingSVD(), [[positive]])
    assert svd.v[0].min() >= -TOL
    maps = -positive
    maps[0] = 1
    maps[:, :11] = 0
    _, svd, _ = streamed(StreamingSVD(), tiles(maps if first else maps[:, ::-1], [10, 20], []))
    assert (svd.v[0] * np.abs(svd.v[0])).sum() > 0
    assert svd.v[0] @ maps.reshape(len(maps), -1).sum(axis=1) < 0


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centred(offset, dtype):
    """Means that differ from part to part and far exceed the deviations."""
    drift = np.linspace(0, 5, HEIGHT)[:, np.newaxis] * np.linspace(-1, 1, CHANNELS)[:, np.newaxis, np.newaxis]
    maps = (rectified() + drift + offset).astype(dtype)
    u, svd, residual = streamed(StreamingSVD(3, center=True), tiles(maps, *TILINGS["tiles"]))
    wide = without_means(maps)
    by_definition, loss = measured(wide, u, svd.s, svd.v)
    assert max(residual, by_definition) <= TOL
    assert loss <= 10 * TOL
    np.testing.assert_allclose(svd.s, reference.singular_triplets(wide)[1][:3], rtol=1e-9)


@pytest.mark.usefixtures("_portions")
def test_centred_constant_maps_are_zero():
    constant = np.full((3, 4, 25), 0.1) * np.arange(1, 4).reshape(3, 1, 1)
    u, svd, residual = streamed(StreamingSVD(center=True), tiles(constant, [1, 3], [2]))
    assert svd.s[0] == svd.energy == residual == 0
    assert not u.any()


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("center", [False, True])
def test_a_part_with_an_invalid_value_is_refused_whole(bad, dtype, center):
    assert_refused_whole(rectified(0).astype(dtype), rectified(1).astype(dtype), bad, center)


def test_second_pass_far_beyond_the_first_is_refused():
    stream = added(StreamingSVD(), np.full((2, 3, 3), 1e-3, np.float32))
    with pytest.raises(ValueError, match="values far beyond those of the first pass"):
        stream.left(np.full((2, 3, 3), 3e38, np.float32))


@pytest.mark.parametrize("center", [False, True])
def test_parts_of_host_and_device_make_one_stream(center):
    """In turn in each pass, and those of the first pass change sides for the second."""
    slices = [rectified(seed) for seed in range(4)]
    with computing("cpu"):
        expected_u, expected, _ = streamed(StreamingSVD(2, center=center), [slices])
    stream = StreamingSVD(2, center=center)
    for k, maps in enumerate(slices):
        with computing(("cpu", "cuda")[k % 2]):
            stream.add(maps)
    np.testing.assert_allclose(stream.finish().s, expected.s, rtol=1e-13)
    pieces = []
    for k, maps in enumerate(slices):
        with computing(("cuda", "cpu")[k % 2]):
            pieces.append(stream.left(maps))
    np.testing.assert_allclose(np.block(pieces), expected_u, atol=1e-6)
    assert stream.residual <= TOL


def test_streams_of_host_and_device_are_merged():
    """Objects travel by pickle: nothing of them is on the device."""

    def sent(stream):
        return pickle.loads(pickle.dumps(stream))  # noqa: S301 - our own, made on this line

    one, other = rectified(0), rectified(1)
    with computing("cpu"):
        expected_u, expected, _ = streamed(StreamingSVD(2), [[one, other]])
        total = added(StreamingSVD(2), one)
    total.merge(sent(added(StreamingSVD(2), other)))
    np.testing.assert_allclose(total.finish().s, expected.s, rtol=1e-13)
    copy = sent(total)
    pieces = [copy.left(one)]
    with computing("cpu"):
        pieces.append(total.left(other))
    np.testing.assert_allclose(np.block(pieces), expected_u, atol=1e-6)
    total.merge(sent(copy))
    assert total.residual <= TOL


def test_products_over_many_columns():
    """Whole tiles and a rest: to the rounding of sums over one tile, and exactly symmetric."""
    block = np.random.default_rng(0).random((3, 40_000)) + 0.5
    exact = (block[:, np.newaxis].astype(np.longdouble) * block).sum(axis=2)
    found = streaming._gram(memory.to_device(block))
    np.testing.assert_array_equal(found, found.T)
    assert abs(found / exact - 1).max() < 2e-15


def test_portions_cover_all_columns_with_whole_tiles(monkeypatch):
    monkeypatch.setattr(streaming, "_COPIES", 8 * 3 * 5000)
    found = list(streaming._portions(memory.to_device(np.zeros((3, 10_001), np.uint8))))
    assert found == [slice(0, 4096), slice(4096, 8192), slice(8192, 10_001)]
    # One tile at least, however many channels.
    found = list(streaming._portions(memory.to_device(np.zeros((50, 2000), np.uint8))))
    assert found == [slice(0, 1024), slice(1024, 2000)]
