"""What `truncated_svd` promises for any input: over spectra, scales, sizes and threads."""

import numba
import numpy as np
import pytest
import reference
from spectra import CHANNELS, ORDER, SPECTRA, measured, rectified, sine, with_spectrum
from svd_oracles import assert_directions, honest, rounding

from eigenfeatures.kernels import truncated_svd
from eigenfeatures.kernels.cpu.ritz import LOOSEST

TOL = 1e-5


def answer(maps, svd):
    return measured(maps, svd.u, svd.s, svd.v)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_residual_is_true(spectrum, dtype, scale):
    maps = with_spectrum(scale * SPECTRA[spectrum], dtype)
    exact = reference.singular_triplets(maps)
    for rank in (1, 3, CHANNELS):
        svd = truncated_svd(maps, rank)
        residual, loss = answer(maps, svd)
        assert honest(svd.residual, residual, dtype), (rank, svd.residual, residual)
        assert residual <= TOL
        assert loss <= 10 * TOL
        np.testing.assert_allclose(svd.s, scale * SPECTRA[spectrum][:rank], rtol=0, atol=TOL * scale)
        assert_directions(svd.u, svd.v, exact)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_vector_or_a_wrong_residual_is_seen(dtype):
    """The negative control of the test above."""
    maps = with_spectrum(SPECTRA["exponential"], dtype)
    svd = truncated_svd(maps)
    exact = reference.singular_triplets(maps)
    wrong = np.cos(2e-4) * svd.v + np.sin(2e-4) * exact[2][1]
    left = wrong @ maps.reshape(CHANNELS, -1)
    size = np.linalg.norm(left)
    residual, _ = measured(maps, left / size, np.array([size]), wrong)
    assert residual > TOL
    assert not honest(svd.residual, residual, dtype)
    assert not honest(3 * residual, residual, dtype)
    assert not honest(residual / 3, residual, dtype)
    assert assert_directions(svd.u, svd.v, exact) == 1
    with pytest.raises(AssertionError):
        assert_directions(svd.u, wrong, exact)
    with pytest.raises(AssertionError):
        assert_directions(svd.u + 2e-4 * exact[0][1].reshape(svd.u.shape), svd.v, exact)


EARLY = {
    "one": (lambda: with_spectrum(0.75**ORDER)[np.newaxis], {}),
    "stack": (lambda: np.stack([rectified(seed) for seed in range(4)]), {}),
    "centred": (lambda: with_spectrum(0.75**ORDER, seed=1)[np.newaxis], {"center": True}),
    "gap": (lambda: np.stack([with_spectrum(0.8**ORDER, seed=seed) for seed in range(2)]), {"gap": True}),
    "few_pixels": (lambda: rectified(shape=(90, 8, 9))[np.newaxis], {}),
    "many_channels": (lambda: np.maximum(np.random.default_rng(0).normal(size=(1, 1024, 33, 32)), 0), {}),
}

# Whose last pass takes the residual down to rounding.
CONVERGED = ("stack", "few_pixels", "many_channels")


@pytest.mark.parametrize("tol", [1e-1, 1e-4])
@pytest.mark.parametrize("case", EARLY)
def test_the_residual_of_a_search_that_stops_early_is_true(case, tol):
    """Where it is far above rounding, only a measured one is within twice the true one."""
    make, options = EARLY[case]
    for dtype in ("float32", "float64"):
        stack = make().astype(dtype)
        svd = truncated_svd(stack, tol=tol, max_passes=20, **options)
        if options.get("center"):
            stack = stack - stack.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
        for k, maps in enumerate(stack):
            residual, _ = measured(maps, svd.u[k], svd.s[k], svd.v[k])
            assert residual <= min(tol, 2 * LOOSEST)
            assert honest(svd.residual[k], residual, dtype)
            assert case in CONVERGED or tol < 0.1 or residual > rounding(np.float32)


def test_no_response_at_all():
    for rank in (1, CHANNELS):
        svd = truncated_svd(np.zeros((CHANNELS, 31, 29), np.float32), rank)
        assert (svd.method, svd.residual, svd.energy) == ("zero", 0, 0)
        for values in (svd.u, svd.s, svd.v):
            assert not values.any()


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
