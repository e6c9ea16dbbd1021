"""Truncated SVD of batches on a device against LAPACK in float64, over named spectra."""

import numpy as np
import pytest
import reference
import spectra

from eigenfeatures.kernels.cpu import svd as on_cpu
from eigenfeatures.kernels.cpu.krylov import random_weights
from eigenfeatures.kernels.cpu.ritz import RANDOM_PART, RATIO
from eigenfeatures.kernels.cuda import lanczos, memory, svd
from eigenfeatures.kernels.cuda.compile import SIMULATED
from eigenfeatures.kernels.cuda.triplets import completed, measured, survey

TOL = 1e-5

# Kernels get what they are compiled for.
pytestmark = [pytest.mark.usefixtures("registered_launches")] if SIMULATED else []

CHANNELS, PIXELS = (4, 70) if SIMULATED else (24, 899)
ORDER = np.arange(CHANNELS)

SPECTRA = {
    "polynomial": 1 / (1 + ORDER) ** 2.0,
    "steep": 0.01**ORDER,
    "clustered": np.where(ORDER < 3, 1 - 1e-7 * ORDER, 0.1),
    "rank_deficient": np.where(ORDER < 2, 0.7**ORDER, 0),
    "all_equal": np.ones(CHANNELS),
    "spiked": np.where(ORDER == 0, 1, 0.02),
}


def with_spectrum(values, dtype="float64", seed=0):
    """A slice (C, n) of these singular values."""
    return spectra.with_spectrum(values, dtype, seed, (CHANNELS, 1, PIXELS))[:, 0]


def rectified(seed=0, channels=CHANNELS, pixels=PIXELS):
    return spectra.rectified(seed, (channels, 1, pixels))[:, 0]


def decompose(maps, rank=1, start=None, tol=TOL, max_passes=20, seed=0, center=False, gap=False):
    """The fields of a result by their names, on the host."""
    given = None if start is None else memory.to_device(np.asarray(start))
    result = svd.decompose(memory.to_device(maps), rank, given, tol, max_passes, seed, center, gap)
    return {name: memory.to_host(value) for name, value in vars(result).items()}


def assert_contract(maps, result, tol=TOL, rounded=0.0):
    """Compare each slice's triplets with their definition and with LAPACK.

    `rounded` is how far the responses that were decomposed may be from `maps`.
    """
    for k, x in enumerate(maps):
        u, s, v = result["u"][k], result["s"][k], result["v"][k]
        exact_u, exact_s, exact_v = reference.singular_triplets(x[:, np.newaxis])
        residual, loss = spectra.measured(x, u, s, v)
        # What is reported is near the truth, or both are no more than rounding.
        rounding = 20 * np.finfo(u.dtype).eps
        assert residual <= tol
        assert residual / 2 - rounding <= result["residual"][k] <= 2 * residual + rounding
        assert loss <= 10 * tol
        np.testing.assert_allclose(s, exact_s[: len(s)], atol=tol * exact_s[0])
        np.testing.assert_allclose(result["energy"][k], np.sum(exact_s**2), rtol=1e-12 + rounded)
        for i in np.flatnonzero(s):  # any vectors do where s_i = 0
            others = np.delete(exact_s, i)
            if others.size == 0 or abs(others - exact_s[i]).min() > 0.1 * exact_s[0]:
                assert spectra.sine(u[i], exact_u[i]) <= 1e-4
                assert spectra.sine(v[i], exact_v[i]) <= 1e-4


@pytest.fixture(params=["one by one", "side by side"])
def gram_matrices_are_decomposed(request, monkeypatch):
    """By cuSOLVER, as where slices are few, and by our kernel, as where they are many."""
    monkeypatch.setattr(svd, "_FEW", {"one by one": 99, "side by side": 0}[request.param])
    monkeypatch.setattr(svd, "_WIDE", 0)


# A random direction may lie in the space already, with nothing left to divide by its length.
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.usefixtures("gram_matrices_are_decomposed")
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_contract_on_every_spectrum(dtype, rank):
    maps = np.stack([with_spectrum(values, dtype) for values in SPECTRA.values()])
    result = decompose(maps, rank)
    assert_contract(maps, result)
    assert result["u"].dtype == dtype
    method = dict(zip(SPECTRA, result["method"], strict=True))
    assert method["spiked"] == ("lanczos" if rank == 1 else "gram")
    # Of float64 responses, a Gram matrix can't tell a value of zero from a small one.
    unresolved = {"rank_deficient"} if (dtype, rank) == ("float64", 3) else set()
    assert {name for name in SPECTRA if method[name] == "svd"} == unresolved


SHAPES = [(1, 1), (1, 5), (3, 2), (3, 3), (2, 9), (5, 7)]
if not SIMULATED:
    SHAPES += [(12, 4), (33, 700), (300, 400), (1024, 1100), (64, 17689), (2000, 30)]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.usefixtures("gram_matrices_are_decomposed")
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_with_ties_and_lost_rank(shape, center):
    """Few distinct values; integers; all triplets, up to 12."""
    maps = np.random.default_rng(sum(shape)).integers(0, 3, (2, *shape)).astype(np.uint8)
    result = decompose(maps, min(*shape, 12), center=center)
    wide = maps.astype(np.float64)
    if center:
        wide -= wide.mean(axis=2, keepdims=True)
    kept = abs(wide).max(axis=(1, 2)) > 1e-12
    np.testing.assert_array_equal(result["method"] == "zero", ~kept)
    of_kept = {name: values[kept] for name, values in result.items()}
    assert_contract(wide[kept], of_kept, rounded=1e-7 if center else 0.0)
    assert result["u"].dtype == np.float32


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e-30), ("float32", 1e30), ("float64", 1e-200), ("float64", 1e200)]
)
@pytest.mark.usefixtures("gram_matrices_are_decomposed")
@pytest.mark.parametrize("rank", [1, 2])
def test_scale_changes_nothing_else(dtype, scale, rank):
    plain = rectified().astype(dtype)
    result = decompose(np.stack([plain, plain * np.dtype(dtype).type(scale)]), rank)
    s, u = result["s"], result["u"]
    np.testing.assert_allclose(s[1], s[0] * scale, rtol=1e-6)
    np.testing.assert_allclose(u[1], u[0], atol=1e-5)
    with np.errstate(over="ignore", under="ignore"):
        expected = result["energy"][0] * np.float64(scale) * np.float64(scale)
    np.testing.assert_allclose(result["energy"][1], expected, rtol=1e-6)
    assert (result["residual"] <= TOL).all()


@pytest.mark.usefixtures("gram_matrices_are_decomposed")
@pytest.mark.parametrize("rank", [1, 2])
def test_subnormal_responses(rank):
    maps = (rectified().astype(np.float64) * 1e-42).astype(np.float32)[np.newaxis]
    result = decompose(maps, rank)
    assert_contract(maps, result)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.usefixtures("gram_matrices_are_decomposed")
@pytest.mark.parametrize("rank", [1, 2])
def test_zero_and_invalid_slices_harm_no_others(rank):
    maps = np.stack([rectified(seed) for seed in range(5)])
    maps[1] = 0
    maps[2, 1, 5], maps[3, 3, 0] = np.nan, np.inf
    result, expected = decompose(maps, rank), decompose(maps[[0, 4]], rank)
    assert result["method"][1:4].tolist() == ["zero", "invalid", "invalid"]
    np.testing.assert_array_equal(result["passes"][1:4], 0)
    for name in ("u", "s", "v", "residual", "energy"):
        values = result[name]
        np.testing.assert_array_equal(values[1], 0)
        assert np.isnan(values[2:4]).all()
        # cuBLAS may choose another order of sums for another number of slices.
        np.testing.assert_allclose(values[[0, 4]], expected[name], atol=0 if rank == 1 else 1e-5)


def test_method_follows_what_it_takes():
    spiked, steep = with_spectrum(SPECTRA["spiked"]), with_spectrum(SPECTRA["steep"] ** 2)
    assert decompose(spiked[np.newaxis])["method"] == ["lanczos"]
    without = decompose(spiked[np.newaxis], max_passes=0)
    assert (without["method"], without["passes"]) == (["gram"], [1])
    assert decompose(np.ones((1, 9, 4)))["method"] == ["svd"]
    last = decompose(steep[np.newaxis], CHANNELS, tol=1e-7)
    assert (last["method"], last["passes"]) == (["svd"], [2])
    assert_contract(steep[np.newaxis], last, tol=1e-7)


def test_the_default_of_passes_has_room():
    passes = [svd.default_passes(channels) for channels in range(1, 1025)]
    assert passes[0] == 2
    assert passes == sorted(passes)
    assert passes[127] == passes[-1] == lanczos.MOST_PASSES


def test_slices_that_miss_the_tolerance_are_done_again(monkeypatch):
    """Some of a batch need products in float64, and are copied one at a time."""
    monkeypatch.setattr(svd, "_COPIES", 1)
    weak = np.where(ORDER < 3, [1, 1e-3, 5e-4, *ORDER[3:]], 0)
    maps = np.stack([with_spectrum(v, "float32") for v in (weak, SPECTRA["all_equal"], weak)])
    result = decompose(maps, 3)
    assert result["method"].tolist() == ["gram"] * 3
    assert result["passes"].tolist() == [2, 1, 2]
    assert_contract(maps, result)


@pytest.mark.parametrize("gap", [False, True])
def test_opposite_maps_whose_sum_is_zero(gap):
    """The sum of the maps has no part in v₁ = (e_0 − e_1)/√2, and random signs often had none."""
    strong, weak = np.zeros(PIXELS, np.float32), np.zeros(PIXELS, np.float32)
    strong[:8] = weak[8:16] = np.arange(1, 9)
    maps = np.stack([strong, -strong, *[0.3 * weak] * (CHANNELS - 2)])[np.newaxis]
    for seed in range(4):
        assert_contract(maps, decompose(maps, seed=seed, gap=gap))


def test_small_values_of_float64_that_a_gram_matrix_can_not_tell_apart():
    maps = spectra.with_spectrum(np.array([1e-9, 3e-9, 1, 2e-9]), shape=(4, 1, 60))[:, 0][np.newaxis]
    result = decompose(maps, 2, tol=1e-12)
    np.testing.assert_allclose(result["s"][0], [1, 3e-9], rtol=1e-6)
    assert result["method"] == ["svd"]


def test_a_loose_tolerance_ends_at_no_other_vector():
    maps = np.stack([with_spectrum(0.9**ORDER, seed=seed) for seed in range(4)])
    loose, exact = decompose(maps, tol=0.5), decompose(maps)
    np.testing.assert_allclose(loose["s"], exact["s"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_start_that_the_maps_send_to_zero():
    """Two opposite maps, to which a start, with its random part, gives equal weights."""
    maps = np.zeros((1, CHANNELS, PIXELS), np.float32)
    maps[0, 0], maps[0, 1] = 1, -1
    start = 1 - RANDOM_PART * random_weights(CHANNELS, 0)
    start /= np.linalg.norm(start)
    assert_contract(maps, decompose(maps, start=start))


def test_start_at_a_singular_vector_that_does_not_lead():
    maps = with_spectrum(np.where(ORDER < 2, 1 - 0.05 * ORDER, 0.1), "float32")[np.newaxis]
    _, _, v = reference.singular_triplets(maps[0][:, np.newaxis])
    assert_contract(maps, decompose(maps, start=v[1]))


def test_start_near_the_leading_vector_saves_passes():
    maps = with_spectrum(0.23**ORDER, "float32")[np.newaxis]
    cold = decompose(maps)
    warm = decompose(maps, start=cold["v"][0, 0])
    assert cold["method"] == warm["method"] == ["lanczos"]
    assert warm["passes"][0] < cold["passes"][0]


def test_equals_the_cpu():
    maps = np.stack([with_spectrum(SPECTRA["spiked"] / (1 + ORDER), seed=seed) for seed in (3, 4)])
    for rank in (1, 2):
        result = decompose(maps, rank, seed=5)
        expected = on_cpu.decompose(maps, rank, None, TOL, 20, 5, False, False)
        for name, value in result.items():
            if name in ("method", "passes"):  # along a stack the CPU starts from the slice before
                assert value[0] == getattr(expected, name)[0]
            else:
                np.testing.assert_allclose(value, getattr(expected, name), atol=TOL)


def test_the_gap():
    """Of all spectra, of none, and where there is one map."""
    maps = np.stack([with_spectrum(values, "float32") for values in SPECTRA.values()])
    asked, two = decompose(maps, gap=True), decompose(maps, 2)
    ratios = [values[1] / values[0] for values in SPECTRA.values()]
    np.testing.assert_allclose(two["gap"], ratios, atol=TOL)
    np.testing.assert_allclose(asked["gap"], ratios, atol=RATIO)
    assert "lanczos" in asked["method"]
    assert asked["u"].shape == (len(maps), 1, PIXELS)
    assert all(asked[name].flags.c_contiguous for name in "usv"), "the second vector is kept alive"
    assert_contract(maps, asked)
    assert np.isnan(decompose(maps)["gap"]).all()
    odd = np.zeros((3, CHANNELS, PIXELS), np.float32)
    odd[1, 3, 4], odd[2, 3, 4] = np.nan, 1
    np.testing.assert_array_equal(decompose(odd, gap=True)["gap"], [0, np.nan, 0])
    np.testing.assert_array_equal(decompose(np.ones((1, 1, 9)), gap=True)["gap"], [0])


def test_same_seed_same_bits():
    maps = rectified()[np.newaxis]
    first, again = decompose(maps, seed=3), decompose(maps, seed=3)
    for name in ("u", "s", "v"):
        np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.parametrize("rank", [1, 2])
def test_signs(rank):
    """Of responses without a negative one u_1 sums to at least 0; of others the energy points the way."""
    maps = np.stack([rectified().astype(np.float64), with_spectrum(SPECTRA["steep"], seed=7)])
    result, opposite = decompose(maps, rank), decompose(-maps, rank)
    assert result["u"][0, 0].min() >= -1e-5
    for each in (result, opposite):
        weight = (each["v"] * abs(each["v"])).sum(axis=2) + (each["u"] * abs(each["u"])).sum(axis=2)
        assert (weight[1] > 0).all()
    # −X = u s (−v) = (−u) s v: one of the two vectors turns, never both.
    turned = (result["u"] * opposite["u"]).sum(axis=2) * (result["v"] * opposite["v"]).sum(axis=2)
    assert (turned < 0).all()


def test_a_wrong_vector_is_seen():
    """The negative control: a vector off by 10⁻³ is not accepted, and its residual is told."""
    maps = with_spectrum(SPECTRA["polynomial"])[np.newaxis]
    _, _, v = reference.singular_triplets(maps[0][:, np.newaxis])
    slices, _ = survey(memory.to_device(maps))
    for angle, good in ((0, True), (1e-3, False)):
        candidate = np.cos(angle) * v[0] + np.sin(angle) * v[2]
        found = memory.to_device(np.ones(1, np.bool_))
        candidates = completed(slices, memory.to_device(candidate[np.newaxis, np.newaxis]), found)
        triplets, accepted = measured(slices, candidates, TOL)
        assert bool(memory.to_host(accepted)[0]) is good
        residual, _ = spectra.measured(maps[0], *(memory.to_host(array)[0] for array in triplets[:3]))
        assert memory.to_host(triplets.residual)[0] == pytest.approx(residual, abs=1e-14)
        assert (residual > 1e-4) is not good


def test_vectors_that_are_not_orthogonal_are_seen():
    maps = with_spectrum(SPECTRA["all_equal"])[np.newaxis]
    v = np.eye(CHANNELS)[:2]
    v[1, :2] = 1e-3, np.sqrt(1 - 1e-6)
    (slices, _), found = survey(memory.to_device(maps)), memory.to_device(np.ones(1, np.bool_))
    _, accepted = measured(slices, completed(slices, memory.to_device(v[np.newaxis]), found), TOL)
    assert not memory.to_host(accepted)[0]


def test_empty_stack():
    result = decompose(np.empty((0, 5, 12), np.float32), 2)
    assert (result["u"].shape, result["s"].shape, result["v"].shape) == ((0, 2, 12), (0, 2), (0, 2, 5))
    assert result["method"].shape == result["residual"].shape == (0,)
