"""Truncated SVD against LAPACK in float64, over named spectra."""

from typing import Any

import numpy as np
import pytest
import reference
import scipy.ndimage
import spectra
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from spectra import CHANNELS, HEIGHT, ORDER, SPECTRA, WIDTH, rectified, sine, with_spectrum
from svd_oracles import assert_directions

from eigenfeatures.kernels import TruncatedSVD, standardized_gradient, truncated_svd

TOL = 1e-5


def measured(maps: NDArray[Any], svd: TruncatedSVD) -> tuple[float, float]:
    return spectra.measured(maps, svd.u, svd.s, svd.v)


@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECTRA)
def test_contract_on_every_spectrum(name, dtype, rank):
    maps = with_spectrum(SPECTRA[name], dtype)
    svd = truncated_svd(maps, rank)
    u, s, v = reference.singular_triplets(maps)
    residual, loss = measured(maps, svd)
    assert residual <= TOL
    assert svd.residual == pytest.approx(residual, abs=2e-7)
    assert loss <= 10 * TOL
    np.testing.assert_allclose(svd.s, s[:rank], atol=TOL)
    assert svd.energy == pytest.approx(np.sum(s**2), rel=1e-12 if dtype == "float64" else 1e-6)
    assert_directions(svd.u, svd.v, (u, s, v))


def test_a_wrong_answer_is_seen():
    """The negative control: a vector off by 10⁻³ fails each check that the others rest on."""
    maps = with_spectrum(SPECTRA["near"])
    svd = truncated_svd(maps)
    _, _, v = reference.singular_triplets(maps)
    wrong = np.cos(1e-3) * svd.v + np.sin(1e-3) * v[3]
    left = wrong @ maps.reshape(CHANNELS, -1)
    size = np.linalg.norm(left)
    off = TruncatedSVD(
        left.reshape(1, HEIGHT, WIDTH) / size,
        np.array([size]),
        wrong,
        svd.gap,
        svd.residual,
        svd.passes,
        svd.method,
        svd.energy,
    )
    assert measured(maps, off)[0] > 10 * TOL
    assert sine(off.v[0], svd.v[0]) > 1e-4
    assert sine(off.u[0], svd.u[0]) > 1e-4


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(("float32", "float64", ">f4", "uint8", "int16")),
    st.integers(1, 12),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(deadline=None, derandomize=True, max_examples=80)
def test_contract_on_any_shape(shape, dtype, rank, seed, center):
    """C = 1, n = 1, n < C and few distinct values, hence exact ties and lost rank."""
    rank = min(rank, shape[0], shape[1] * shape[2])
    maps = np.random.default_rng(seed).integers(0, 3, shape).astype(dtype)
    before = maps.copy()
    svd = truncated_svd(maps, rank, center=center)
    np.testing.assert_array_equal(maps, before)
    wide = maps.astype(np.float64)
    if center:
        wide -= wide.mean(axis=(1, 2), keepdims=True)
    _, s, _ = reference.singular_triplets(wide)
    if s[0] < 1e-12:
        assert svd.method == "zero"
        return
    residual, loss = measured(wide, svd)
    assert residual <= TOL
    assert loss <= 10 * TOL
    np.testing.assert_allclose(svd.s, s[:rank], atol=TOL * s[0])
    assert svd.energy == pytest.approx(np.sum(s**2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*SPECTRA, "slow", "half"])
def test_the_gap_on_every_spectrum(name, dtype):
    """Also where singular values tie, and by searches from starts that lack one of the two vectors."""
    more = {"slow": (1 + ORDER) ** -0.3, "half": np.where(ORDER == 0, 1, 0.5 * 0.97**ORDER)}
    values = {**SPECTRA, **more}[name]
    methods = set()
    for seed in range(3):
        maps = with_spectrum(values, dtype, seed)
        _, s, v = reference.singular_triplets(maps)
        truth = s[1] / s[0]
        for start in (None, v[0], v[1]):
            svd = truncated_svd(maps, start=start, max_passes=CHANNELS, gap=True)
            methods.add(str(svd.method))
            assert svd.gap == pytest.approx(truth, abs=2e-3)
            assert measured(maps, svd)[0] <= TOL
        assert truncated_svd(maps, 2).gap == pytest.approx(truth, abs=TOL)
        assert truncated_svd(maps, max_passes=0).gap == pytest.approx(truth, abs=1e-3)
    assert "lanczos" in methods


def test_the_gap_where_the_third_value_is_near_the_second():
    """A mixture of the two is no answer. That the search finds the third alone is rare."""
    errors = []
    for seed in range(40):
        values = np.r_[1, 0.27, 0.265 * 0.9 ** np.arange(62)]
        maps = with_spectrum(values, "float32", seed, shape=(64, 30, 40))
        svd = truncated_svd(maps, max_passes=20, gap=True)
        assert svd.method == "lanczos"
        errors.append(abs(svd.gap - 0.27))
    assert np.sum(np.array(errors) > 1e-3) <= 6
    assert max(errors) < 0.006  # the third's


def test_the_gap_along_a_stack():
    """A third map that grows until it ties with the second, and beyond."""
    maps = with_spectrum(0.5**ORDER)
    _, _, v = reference.singular_triplets(maps)
    weights = v[2][:, np.newaxis] * (v[2] @ maps.reshape(CHANNELS, -1))
    stack = np.stack([maps + k * weights.reshape(maps.shape) for k in np.linspace(0, 2.5, 8)])
    svd = truncated_svd(stack, max_passes=CHANNELS, gap=True)
    assert set(svd.method) == {"lanczos"}
    ratios = [(s[1] / s[0]) for _, s, _ in map(reference.singular_triplets, stack)]
    assert max(ratios) > 0.8
    np.testing.assert_allclose(svd.gap, ratios, atol=2e-3)


def test_the_gap_costs_a_search_a_pass_or_two_and_is_not_told_without():
    maps = with_spectrum(0.6**ORDER)
    without, asked = (truncated_svd(maps, max_passes=CHANNELS, gap=gap) for gap in (False, True))
    assert without.method == asked.method == "lanczos"
    assert np.isnan(without.gap)
    assert asked.gap == pytest.approx(0.6, abs=1e-3)
    assert asked.passes <= without.passes + 2


def test_the_gap_where_there_is_no_second_value():
    for gap in (False, True):
        assert truncated_svd(np.ones((1, 3, 3)), gap=gap).gap == 0
        assert truncated_svd(np.ones((9, 1, 1)), gap=gap).gap == 0
        assert truncated_svd(np.zeros((9, 10, 10)), gap=gap).gap == 0
        assert np.isnan(truncated_svd(np.full((9, 10, 10), np.nan), gap=gap).gap)
    alike = np.multiply.outer(1.0 + ORDER, np.ones((HEIGHT, WIDTH)))
    assert truncated_svd(alike, gap=True).gap == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_changes_nothing_else(scale, dtype):
    maps = rectified().astype(dtype)
    plain, scaled = truncated_svd(maps, 3), truncated_svd(maps * np.dtype(dtype).type(scale), 3)
    np.testing.assert_allclose(scaled.s, plain.s * scale, rtol=1e-6)
    np.testing.assert_allclose(scaled.energy, plain.energy * scale**2, rtol=1e-6)
    np.testing.assert_allclose(scaled.u, plain.u, atol=1e-5)
    assert scaled.residual <= TOL


def test_the_pass_that_finds_a_slice_out_of_range_counts():
    maps = rectified()
    plain, scaled = truncated_svd(maps), truncated_svd(maps * np.float32(2.0**100))
    assert plain.method == scaled.method == "lanczos"
    assert scaled.passes == plain.passes + 1


def test_squares_beyond_float64():
    maps = rectified().astype(np.float64)
    svd = truncated_svd(maps * 1e200)
    np.testing.assert_allclose(svd.s, truncated_svd(maps).s * 1e200, rtol=1e-6)
    assert svd.energy == np.inf


def test_subnormal_responses():
    maps = rectified()
    svd = truncated_svd((maps.astype(np.float64) * 1e-42).astype(np.float32))
    assert svd.residual <= TOL
    assert svd.s[0] > 0


@pytest.mark.parametrize("weak", [1e-82, 1e-160])
def test_channels_far_weaker_than_others(weak):
    maps = rectified().astype(np.float64)
    maps[:5] *= weak
    maps[:5, :10], maps[5:, 10:] = 0, 0  # no pixel in common
    for rank in (1, 2, 8):
        svd = truncated_svd(maps, rank)
        residual, loss = measured(maps, svd)
        assert residual <= TOL
        assert loss <= 10 * TOL


def test_method_follows_the_spectrum():
    assert truncated_svd(with_spectrum(SPECTRA["spiked"])).method == "lanczos"
    assert truncated_svd(with_spectrum(SPECTRA["all_equal"])).method == "lanczos"
    assert truncated_svd(with_spectrum(np.linspace(1, 0.5, CHANNELS))).method == "gram"
    assert truncated_svd(with_spectrum(SPECTRA["spiked"]), max_passes=0).method == "gram"
    assert truncated_svd(with_spectrum(SPECTRA["spiked"]), max_passes=2**70).method == "lanczos"
    assert truncated_svd(with_spectrum(SPECTRA["steep"]), 8).method == "svd"
    assert truncated_svd(np.ones((9, 2, 2))).method == "svd"
    assert truncated_svd(np.zeros((9, 20, 20))).method == "zero"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_vector_is_searched_too_where_there_are_fewer_pixels_than_channels(dtype):
    """As in the deep layers of AlexNet, whose maps are small."""
    maps = rectified(shape=(90, 8, 9)).astype(dtype)
    svd = truncated_svd(maps)
    assert svd.method == "lanczos"
    u, s, v = np.linalg.svd(maps.reshape(90, -1).T.astype(np.float64), full_matrices=False)
    assert svd.s[0] == pytest.approx(s[0], rel=1e-5)
    assert sine(svd.u.ravel(), u[:, 0]) < 1e-4
    assert sine(svd.v[0], v[0]) < 1e-4
    assert svd.residual <= 1e-5


def test_float32_falls_back_to_a_float64_gram_matrix():
    """Small singular values: products in float32 would give them a wrong left vector."""
    svd = truncated_svd(with_spectrum(SPECTRA["polynomial"] ** 2, "float32"), 8)
    assert (svd.method, svd.passes) == ("gram", 2)
    assert svd.residual <= TOL


def test_a_third_vector_that_overtakes_both_vectors_of_the_slice_before():
    """Along a stack, a search starts in the space of the first two: random weights lead it out of there."""
    before = with_spectrum(np.where(ORDER < 3, 1 - 0.1 * ORDER, 0.1), "float32")
    after = with_spectrum(np.where(ORDER == 2, 1.1, np.where(ORDER < 2, 1 - 0.1 * ORDER, 0.1)), "float32")
    found = truncated_svd(np.stack([before, after]), max_passes=20)
    assert found.method.tolist() == ["lanczos", "lanczos"]
    u, s, _ = reference.singular_triplets(after)
    assert sine(found.u[1, 0], u[0]) <= 1e-4
    assert found.s[1, 0] == pytest.approx(s[0], rel=1e-5)


def test_the_second_vector_of_the_slice_before_saves_passes():
    """From both vectors of a neighbour, fewer passes are needed than from the first alone."""
    maps = with_spectrum(np.where(ORDER < 2, 1 - 0.3 * ORDER, 0.3 * 0.8**ORDER), "float32")
    turned = maps + np.float32(0.01) * with_spectrum(np.ones(len(ORDER)), "float32", seed=1)
    stack = truncated_svd(np.stack([maps, turned]), max_passes=20)
    first_alone = truncated_svd(turned, start=stack.v[0, 0], max_passes=20)
    assert stack.method.tolist() == ["lanczos", "lanczos"]
    assert stack.passes[1] < first_alone.passes
    assert sine(stack.u[1, 0], first_alone.u[0]) <= 1e-4


def test_start_at_a_singular_vector_that_does_not_lead():
    """Where two singular values cross along a stack, the neighbour's vector is the wrong one."""
    maps = with_spectrum(np.where(ORDER < 2, 1 - 0.05 * ORDER, 0.1), "float32")
    u, _, v = reference.singular_triplets(maps)
    assert sine(truncated_svd(maps, start=v[1]).u[0], u[0]) <= 1e-4


@pytest.mark.parametrize("tail", ["exponential", "flat", "slow"])
@pytest.mark.parametrize("gap", [0.3, 0.1, 0.03])
def test_no_start_hides_the_leading_vector(gap, tail):
    """The start of a search is another singular vector than the first, exactly."""
    tails = {"exponential": 0.8**ORDER, "flat": np.where(ORDER == 0, 1, 0.5), "slow": (1 + ORDER) ** -0.5}
    values = np.r_[1, (1 - gap) * tails[tail][:-1]]
    for seed in range(8):
        maps = with_spectrum(values, "float32", seed)
        _, _, v = reference.singular_triplets(maps)
        for start in (None, v[1], v[2], v[CHANNELS - 1]):
            assert truncated_svd(maps, start=start, seed=seed).s[0] == pytest.approx(1, abs=TOL)


def test_warm_start_saves_passes():
    maps = with_spectrum(0.6**ORDER, "float32")
    cold = truncated_svd(maps, max_passes=20)
    warm = truncated_svd(maps, start=cold.v[0] + 1e-3 * np.cos(ORDER), max_passes=20)
    assert cold.method == warm.method == "lanczos"
    assert warm.passes < cold.passes
    for v in (cold.v, truncated_svd(maps, 2).v):  # as results have it
        again = truncated_svd(maps, start=v, max_passes=20)
        assert again.passes < cold.passes
        assert sine(again.u[0], cold.u[0]) <= 1e-4
    stack = truncated_svd(np.stack([maps, maps * np.float32(1.01)]), max_passes=20)
    assert stack.passes[0] == cold.passes
    assert stack.passes[1] < cold.passes


def test_same_seed_same_bits_and_other_seed_same_answer():
    maps = rectified()
    first, again, other = (truncated_svd(maps, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.u, again.u)
    np.testing.assert_array_equal(first.v, again.v)
    np.testing.assert_allclose(first.u, other.u, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_sign_after_a_relu(seed):
    """Perron–Frobenius: the first pair of vectors of X ≥ 0 is at least 0."""
    svd = truncated_svd(rectified(seed), 3)
    assert svd.u[0].min() >= -1e-5
    assert svd.v[0].min() >= -1e-5


@pytest.mark.parametrize("rank", [1, 4])
def test_sign_otherwise_follows_the_data(rank):
    maps = with_spectrum(SPECTRA["exponential"])
    svd, opposite = truncated_svd(maps, rank), truncated_svd(-maps, rank)
    weight = (svd.v * np.abs(svd.v)).sum(axis=-1) + (svd.u * np.abs(svd.u)).sum(axis=(-2, -1))
    assert (weight > 0).all()
    # −X = u s (−v) = (−u) s v: one of the two vectors turns, never both.
    for i in range(rank):
        turned = np.sign([np.sum(svd.u[i] * opposite.u[i]), svd.v[i] @ opposite.v[i]])
        assert turned.prod() == -1


def test_permuted_channels_and_mirrored_maps():
    maps = rectified()
    svd = truncated_svd(maps)
    order = np.random.default_rng(0).permutation(CHANNELS)
    permuted = truncated_svd(maps[order])
    np.testing.assert_allclose(permuted.u, svd.u, atol=1e-5)
    np.testing.assert_allclose(permuted.v[0], svd.v[0][order], atol=1e-5)
    for axis in (-1, -2):
        np.testing.assert_allclose(truncated_svd(np.flip(maps, axis)).u, np.flip(svd.u, axis), atol=1e-5)


def test_centred_constant_maps_are_zero():
    constant = np.full((3, 4, 5), 0.1) * np.arange(1, 4).reshape(3, 1, 1)
    assert truncated_svd(constant, center=True).method == "zero"


def test_many_tiles():
    """More pixels than one tile and one chunk, and a rest of channels beside the unrolled four."""
    maps = rectified(shape=(7, 70, 61))
    for rank in (1, 7):
        svd = truncated_svd(maps, rank)
        u, s, _ = reference.singular_triplets(maps)
        np.testing.assert_allclose(svd.s, s[:rank], rtol=1e-5)
        assert sine(svd.u[0], u[0]) <= 1e-4
        assert svd.residual == pytest.approx(measured(maps, svd)[0], abs=2e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank 0 is out of range; give 1 to 4"),
        ({"rank": 5}, "rank 5"),
        ({"tol": 1e-7}, "tol 1e-07"),
        ({"tol": 1}, r"tol 1.0 is out of range; give 2.0e-06 \(for float32\) to below 1"),
        ({"tol": float("nan")}, "tol nan"),
        ({"seed": -1}, "seed -1"),
        ({"max_passes": -1}, "max_passes -1"),
        ({"start": [0, 0, 0, 0]}, "start must be 4"),
        ({"start": [1, 2]}, "start must be 4"),
        ({"start": [1, 2, 3, np.nan]}, "start must be 4"),
        ({"start": [1, 2, 3, np.inf]}, "start must be 4"),
        ({"start": []}, "start must be 4"),
        ({"start": np.ones((0, 4))}, "start must be 4"),
        ({"start": np.ones((1, 2, 4))}, "start must be 4"),
        ({"start": 1}, "start must be 4"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        truncated_svd(np.ones((4, 3, 3), np.float32), **arguments)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e300, 1e-320])
def test_a_start_of_any_size(scale):
    maps = np.random.default_rng(0).random((3, 6, 5))
    start = [scale, 0, 2 * scale]
    np.testing.assert_array_equal(truncated_svd(maps, start=start).u, truncated_svd(maps, start=[1, 0, 2]).u)


def test_responses_to_real_ct(ct_data):
    """Random filters on |∇Y| of real slices, then a ReLU: the shape of what the network gives."""
    filters = np.random.default_rng(0).standard_normal((32, 5, 5))
    files = sorted((ct_data / "polymer").iterdir())[40:80:10]
    images = standardized_gradient(np.stack([tifffile.imread(file) for file in files]))
    stack = np.array([[scipy.ndimage.correlate(y, f, mode="constant") for f in filters] for y in images])
    stack = np.maximum(stack, 0).astype(np.float32)
    one, eight = truncated_svd(stack, max_passes=20), truncated_svd(stack, 8)
    for k, maps in enumerate(stack):
        u, s, v = reference.singular_triplets(maps)
        assert one.method[k] == "lanczos"
        for svd in (one, eight):
            assert svd.residual[k] <= TOL
            assert sine(svd.u[k, 0], u[0]) <= 1e-4
            assert sine(svd.v[k, 0], v[0]) <= 1e-4
        np.testing.assert_allclose(eight.s[k], s[:8], atol=TOL * s[0])
