"""What `truncated_svd` promises for any input: over spectra, scales, sizes, threads and many calls."""

import numba
import numpy as np
import own_process
import pytest
import reference
from spectra import CHANNELS, SPECTRA, measured, rectified, sine, with_spectrum

from eigenfeatures.kernels import truncated_svd

TOL = 1e-5


def honest(told, true, dtype):
    """Tell whether a residual is within twice the true one, or both are rounding."""
    rounding = 20 * np.finfo(dtype).eps
    return true / 2 <= told <= 2 * true or max(told, true) <= rounding


def answer(maps, svd):
    return measured(maps, svd.u, svd.s, svd.v)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_residual_is_true(spectrum, dtype, scale):
    maps = with_spectrum(scale * SPECTRA[spectrum], dtype)
    for rank in (1, 3, CHANNELS):
        svd = truncated_svd(maps, rank)
        residual, loss = answer(maps, svd)
        assert honest(svd.residual, residual, dtype), (rank, svd.residual, residual)
        assert residual <= TOL
        assert loss <= 10 * TOL
        np.testing.assert_allclose(svd.s, scale * SPECTRA[spectrum][:rank], rtol=0, atol=TOL * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_vector_or_a_wrong_residual_is_seen(dtype):
    """The negative control of the test above."""
    maps = with_spectrum(SPECTRA["exponential"], dtype)
    svd = truncated_svd(maps)
    _, _, v = reference.singular_triplets(maps)
    wrong = np.cos(1e-4) * svd.v + np.sin(1e-4) * v[1]
    left = wrong @ maps.reshape(CHANNELS, -1)
    size = np.linalg.norm(left)
    residual, _ = measured(maps, left / size, np.array([size]), wrong)
    assert residual > TOL
    assert not honest(svd.residual, residual, dtype)
    assert not honest(3 * residual, residual, dtype)
    assert not honest(residual / 3, residual, dtype)


def test_no_response_at_all():
    for rank in (1, CHANNELS):
        svd = truncated_svd(np.zeros((CHANNELS, 31, 29), np.float32), rank)
        assert (svd.method, svd.residual, svd.energy) == ("zero", 0, 0)
        for values in (svd.u, svd.s, svd.v):
            assert not values.any()


@pytest.mark.parametrize("pixels", [(1, 1), (1, 3), (7, 7), (20, 21)])
@pytest.mark.parametrize("channels", [1, 2, 5, 64, 257])
def test_any_size_and_every_rank(channels, pixels):
    maps = np.random.default_rng(channels).normal(0.3, 1, (channels, *pixels)).astype(np.float32)
    _, s, _ = reference.singular_triplets(maps)
    for rank in {1, min(2, len(s)), len(s)}:
        svd = truncated_svd(maps, rank)
        residual, loss = answer(maps, svd)
        assert residual <= TOL
        assert loss <= 10 * TOL
        np.testing.assert_allclose(svd.s, s[:rank], rtol=0, atol=TOL * s[0])


@pytest.mark.parametrize("pixels", [(1, 1), (5, 6), (33, 32)])
def test_a_thousand_channels(pixels):
    maps = rectified(shape=(1024, *pixels))
    for rank in (1, min(8, pixels[0] * pixels[1])):
        svd = truncated_svd(maps, rank)
        residual, loss = answer(maps, svd)
        assert residual <= TOL
        assert loss <= 10 * TOL


def sparse(seed, share):
    """Maps after a ReLU of which few pixels respond, and channels seldom at the same ones."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((16, 25, 24)) < share, rng.random((16, 25, 24)), 0).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.005])
def test_eigenfeatures_after_a_relu_are_not_negative(share):
    """Up to what the residual and the gap allow: none where two maps lead together."""
    for seed in range(10):
        maps = sparse(seed, share)
        for svd in (truncated_svd(maps), truncated_svd(maps, 2)):
            s = reference.singular_triplets(maps)[1]
            allowed = 2 * max(svd.residual, 2e-7) / (1 - s[1] / s[0])
            assert svd.u[0].min() >= -allowed
            assert svd.u[0].sum() >= 0


def test_maps_that_share_no_pixel_lead_together():
    """Two equal singular values: any mixture is right, so u_1 may be negative, and its sum is not."""
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0, :5], maps[1, 5:] = 1, 1
    svd = truncated_svd(maps, 2)
    assert svd.s[1] / svd.s[0] == pytest.approx(1, abs=1e-6)
    assert answer(maps, svd)[0] <= TOL
    assert svd.u[0].sum() >= 0


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_stack_has_the_eigenfeatures_of_its_slices(dtype):
    """Started from a neighbour, a search ends at the same vectors, if not at the same bits."""
    stack = (50 * np.stack([rectified(seed) for seed in range(5)])).astype(dtype)
    svd = truncated_svd(stack)
    for k, maps in enumerate(stack):
        alone = truncated_svd(maps)
        assert sine(svd.u[k], alone.u) <= 4 * TOL
        np.testing.assert_allclose(svd.s[k], alone.s, rtol=TOL)
        assert answer(maps.astype(np.float64), alone)[0] <= TOL


def test_every_slice_that_is_not_finite_is_marked():
    stack = np.stack([rectified(seed) for seed in range(5)])
    clean = truncated_svd(stack[::2], 3)
    stack[1, 0, 0, 0], stack[3, 2, 3, 4] = -np.inf, np.nan
    given = stack.copy()
    svd = truncated_svd(stack, 3)
    assert (svd.method == "invalid").tolist() == [False, True, False, True, False]
    np.testing.assert_array_equal(svd.u[::2], clean.u)
    np.testing.assert_array_equal(svd.s[::2], clean.s)
    assert np.isnan(svd.u[1::2]).all()
    np.testing.assert_array_equal(stack, given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_for_any_number_of_threads(dtype):
    threads = numba.get_num_threads()
    if threads == 1:
        pytest.skip("Numba has one thread here")
    inputs = [with_spectrum(values, dtype) for values in SPECTRA.values()]
    inputs += [rectified(shape=(64, 60, 50)).astype(dtype)]
    # All threads on a slice, and on the second stack each on its own.
    inputs += [
        np.stack([rectified(seed, shape) for seed in range(17)]) for shape in ((6, 100, 95), (6, 9, 9))
    ]
    try:
        for maps in inputs:
            for rank in (1, 5):
                results = []
                for count in (1, threads):
                    numba.set_num_threads(count)
                    results.append(vars(truncated_svd(maps, rank)))
                for name, value in results[0].items():
                    np.testing.assert_array_equal(results[1][name], value, err_msg=name)
    finally:
        numba.set_num_threads(threads)


GROWTH = """
import contextlib
import ctypes
import gc

import psutil
from eigenfeatures.kernels import truncated_svd
from spectra import rectified

def held():
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)  # without pages of files, which come and go

maps, kept = rectified(shape=(16, 80, 80)), []
for call in range(220):
    if call == 20:  # pools are full
        before = held()
    {call}
print((held() - before) / (200 * maps.nbytes))
"""


def growth(call):
    """Return by how many maps a process grows in each of 200 calls."""
    (maps,) = own_process.printed(GROWTH.format(call=call))
    return maps


@pytest.mark.parametrize("rank", [1, 4])
def test_memory_stays_flat(rank):
    assert growth(f"truncated_svd(maps, {rank})") < 1 / 4


def test_memory_that_is_kept_is_seen():
    """The negative control of the test above."""
    assert growth("kept.append(maps + truncated_svd(maps).u[0])") > 1 / 2
