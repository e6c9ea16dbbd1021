"""The decomposition that stands inside the graph, in torch and in ONNX Runtime, against LAPACK."""

import numpy as np
import onnxruntime
import pytest
import spectra
import torch

from eigenfeatures.export import svd_layer
from eigenfeatures.export.svd_layer import SvdLayer
from eigenfeatures.kernels import truncated_svd

RANK = 4
CHANNELS = np.arange(spectra.CHANNELS)
# At the edge of what is promised: neighbours as near, and values as small, as the layer's docstring admits.
EDGES = {
    "near_first": np.r_[1, 0.99, 0.9 * 0.9 ** CHANNELS[:22]],
    "near_first_and_flat": np.where(CHANNELS == 0, 1, 0.99),
    "near_all": 0.95**CHANNELS,
    "small": np.r_[1, 0.0583, 0.0554, 0.0526, 0.05, np.full(19, 0.0475)],
}
NAMED = {**spectra.SPECTRA, **EDGES}


# As the paper's network has them at relu2, after a slice of 266².
LARGE = (128, 133, 133)


@pytest.fixture(scope="module")
def in_onnx_runtime(tmp_path_factory):
    """The layer in a file of its own, for any batch of maps of one size."""
    shape = (spectra.CHANNELS, spectra.HEIGHT, spectra.WIDTH)
    return exported(RANK, shape, tmp_path_factory.mktemp("svd") / "svd.onnx")


def exported(rank, shape, path):
    example = torch.zeros(2, *shape)
    torch.onnx.export(
        SvdLayer(rank, nonnegative=False).eval(),
        (example,),
        path,
        dynamo=True,
        input_names=["maps"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda maps: session.run(None, {"maps": maps})


def in_torch(maps, rank=RANK, nonnegative=False):
    with torch.inference_mode():
        return [array.numpy() for array in SvdLayer(rank, nonnegative)(torch.from_numpy(maps))]


def by_lapack(maps):
    """Left vectors as rows and singular values of maps (C, h, w), in float64."""
    _, s, u = np.linalg.svd(maps.reshape(len(maps), -1).astype(np.float64), full_matrices=False)
    return u, s


def promised(s, k):
    """The largest sine that the docstring allows for vector k, or None where it promises none."""
    if k == 0:
        return 1e-4 if s[1] <= 0.99001 * s[0] else None
    near = max(s[k] / s[k - 1], s[k + 1] / s[k])
    return 1e-3 if near <= 0.95001 and s[k] >= 0.0499 * s[0] else None


def assert_as_promised(maps, found):
    u, s, gap, residual = found
    rank = s.shape[1]
    checked = 0
    for number, one in enumerate(maps):
        vectors, values = by_lapack(one)
        np.testing.assert_allclose(s[number], values[:rank], atol=3e-4 * values[0])
        limits = [promised(values, k) for k in range(rank)]
        for k, limit in enumerate(limits):
            if limit is not None:
                assert spectra.sine(u[number, k], vectors[k]) <= limit
                assert s[number, k] == pytest.approx(values[k], abs=1e-6 * values[0])
                checked += 1
        assert gap[number] == pytest.approx(values[1] / values[0], abs=2e-5)
        if None not in limits:
            assert residual[number] <= 2e-6
    return checked


def test_vectors_of_named_spectra_meet_the_promise_in_onnx_runtime_and_torch(in_onnx_runtime):
    maps = np.stack([spectra.with_spectrum(values, "float32") for values in NAMED.values()])
    assert assert_as_promised(maps, in_onnx_runtime(maps)) >= 20
    assert assert_as_promised(maps, in_torch(maps)) >= 20


def test_the_promise_holds_for_maps_as_large_as_the_papers(tmp_path):
    """u_1 at a ratio of 0.99, u_2 between two of 0.95, of 128 maps of 133×133 pixels."""
    order = np.arange(LARGE[0])
    edges = (np.r_[1, 0.99, 0.9 * 0.9 ** order[:-2]], 0.95**order)
    maps = np.stack([spectra.with_spectrum(values, "float32", 5, LARGE) for values in edges])
    for found in (exported(2, LARGE, tmp_path / "svd.onnx")(maps), in_torch(maps, rank=2)):
        assert assert_as_promised(maps, found) == 3


@pytest.mark.parametrize("name", NAMED)
def test_the_residual_bounds_the_angle_whatever_the_spectrum(name):
    maps = spectra.with_spectrum(NAMED[name], "float32", seed=3)
    u, s, gap, residual = (array[0] for array in in_torch(maps[None], rank=1))
    vectors, values = by_lapack(maps)
    assert s[0] == pytest.approx(values[0], rel=2e-5)
    if values[1] < 0.9995 * values[0]:
        assert spectra.sine(u, vectors[0]) <= 1.5 * (residual + 1e-6) / (1 - gap**2)


def lever(values, k):
    """By how much more vector k may be turned than its residual is: what the docstring says."""
    others = np.delete(values, k)
    with np.errstate(divide="ignore"):
        return np.max(values[0] * others / np.abs(values[k] ** 2 - others**2))


# Their second vector is any mixture of it and others, whose values are the same or nearly so.
MIXED = ("clustered", "all_equal", "spiked", "near_first_and_flat")


@pytest.mark.parametrize("name", [name for name in NAMED if name not in MIXED])
def test_the_residual_bounds_the_angle_of_the_second_vector_too(name):
    maps = spectra.with_spectrum(NAMED[name], "float32", seed=3)
    u, _, _, residual = (array[0] for array in in_torch(maps[None], rank=2))
    vectors, values = by_lapack(maps)
    assert lever(values, 1) < 1e3
    assert spectra.sine(u[1], vectors[1]) <= 1.5 * (residual + 1e-6) * lever(values, 1)


@pytest.mark.parametrize("name", MIXED)
def test_a_mixed_second_vector_can_t_be_bounded_by_the_residual(name):
    _, values = by_lapack(spectra.with_spectrum(NAMED[name], "float32", seed=3))
    assert lever(values, 1) > 1e6


@pytest.mark.parametrize("squarings", [1, 2, 3, 4])
def test_a_second_vector_that_has_not_converged_shows_in_the_residual(squarings, monkeypatch):
    """Where the first one has, since it is far from all others."""
    monkeypatch.setattr(svd_layer, "_SQUARINGS", squarings)
    maps = spectra.with_spectrum(np.r_[1, 0.1, 0.09, 0.02 * 0.9 ** CHANNELS[:21]], "float32")
    u, _, _, residual = (array[0] for array in in_torch(maps[None], rank=2))
    vectors, values = by_lapack(maps)
    angle = spectra.sine(u[1], vectors[1])
    assert spectra.sine(u[0], vectors[0]) <= 1e-3
    assert 1e-3 < angle <= 1.01 * residual * lever(values, 1)


@pytest.mark.parametrize("angle", [0, 1e-5, 1e-3, 0.3])
def test_the_residual_is_that_of_the_worst_vector(angle, monkeypatch):
    """Of the second one, which is turned to the fourth."""
    maps = spectra.with_spectrum(0.8**CHANNELS, "float32")
    right = np.linalg.svd(maps.reshape(len(maps), -1).astype(np.float64), full_matrices=False)[0].T
    turned = np.cos(angle) * right[1] + np.sin(angle) * right[3]
    v = np.stack([right[0], turned, right[2]]).astype(np.float32)
    monkeypatch.setattr(svd_layer, "_eigenvectors", lambda *_: torch.from_numpy(v)[None])
    u, s, _, residual = (array[0] for array in in_torch(maps[None], rank=2))
    along = u.reshape(2, -1) @ maps.reshape(len(maps), -1).T
    signs = np.sign(np.sum(along * v[:2], axis=1))  # pairs of vectors may have been turned about
    expected, _ = spectra.measured(maps, u, s.astype(np.float64), signs[:, None] * v[:2])
    assert residual == pytest.approx(expected, rel=1e-3, abs=5e-7)
    assert (residual > 2e-6) == (angle > 0)


@pytest.mark.parametrize("angle", [0, 1e-5, 1e-3, 0.3])
def test_the_residual_is_measured_on_the_maps(angle, monkeypatch):
    """Whatever the search says, the residual is that of what is returned."""
    maps = spectra.with_spectrum(0.8**CHANNELS, "float32")
    right = np.linalg.svd(maps.reshape(len(maps), -1).astype(np.float64), full_matrices=False)[0].T
    v = np.stack([np.cos(angle) * right[0] + np.sin(angle) * right[1], right[2]]).astype(np.float32)
    monkeypatch.setattr(svd_layer, "_eigenvectors", lambda *_: torch.from_numpy(v)[None])
    u, s, _, residual = in_torch(maps[None], rank=1)
    # Pairs of vectors may have been turned about.
    expected = min(spectra.measured(maps, u[0], s[0].astype(np.float64), sign * v[:1])[0] for sign in (1, -1))
    assert residual[0] == pytest.approx(expected, rel=1e-3, abs=5e-7)
    assert (residual[0] > 2e-6) == (angle > 0)


def test_too_few_squarings_show_in_the_residual(monkeypatch):
    """The negative control: without convergence the promise fails, and the residual says so."""
    maps = spectra.with_spectrum(EDGES["near_first"], "float32")
    monkeypatch.setattr(svd_layer, "_SQUARINGS", 4)
    u, _, gap, residual = in_torch(maps[None], rank=1)
    assert spectra.sine(u[0, 0], by_lapack(maps)[0][0]) > 1e-3
    assert residual[0] / (1 - gap[0] ** 2) > 1e-3


@pytest.mark.parametrize("pixels", [(133, 133), (266, 133)])
def test_long_sums_keep_their_digits(pixels):
    maps = spectra.rectified(1, (32, *pixels))
    u, s, _, residual = in_torch(maps[None], rank=1, nonnegative=True)
    vectors, values = by_lapack(maps)
    assert spectra.sine(u[0, 0], vectors[0]) <= 1e-6
    assert s[0, 0] == pytest.approx(values[0], rel=1e-6)
    assert residual[0] <= 1e-6


def test_signs_are_those_of_the_kernel(in_onnx_runtime):
    rectified = np.stack([spectra.rectified(seed) for seed in range(3)])
    signed = np.stack([spectra.with_spectrum(0.7**CHANNELS, "float32", seed) for seed in range(3)])
    for maps in (rectified, signed, -signed):
        expected = truncated_svd(maps, 2).u
        for found in (in_onnx_runtime(maps)[0], in_torch(maps, nonnegative=np.all(maps >= 0))[0]):
            distance = np.linalg.norm((found[:, :2] - expected).reshape(3, 2, -1), axis=2)
            assert distance[:, 0].max() <= 1e-4
            assert distance.max() <= 1e-2
    u = in_torch(rectified, nonnegative=True)[0]
    assert np.all(u[:, 0].sum((1, 2)) > 0)


def test_maps_of_zeros_or_without_a_number_harm_no_other_slice(in_onnx_runtime):
    maps = np.stack([spectra.rectified(seed) for seed in range(4)])
    alone = in_onnx_runtime(maps[:1])
    maps[1], maps[2, 3, 2, 2], maps[3, 0, 0, 0] = 0, np.nan, np.inf
    for decompose in (in_onnx_runtime, in_torch):
        found = decompose(maps)
        for array, expected in zip(found, alone, strict=True):
            np.testing.assert_allclose(array[0], expected[0], atol=2e-4)
            assert np.all(array[1] == 0)
            assert np.all(np.isnan(array[2:]))


def test_directions_without_response_are_zero(in_onnx_runtime):
    maps = spectra.with_spectrum(np.where(CHANNELS < 2, 0.5**CHANNELS, 0), "float32")[None]
    for decompose in (in_onnx_runtime, in_torch):
        u, s, gap, residual = decompose(maps)
        np.testing.assert_allclose(s, [[1, 0.5, 0, 0]], atol=1e-6)
        assert np.all(u[0, 2:] == 0)
        assert gap[0] == pytest.approx(0.5, abs=1e-6)
        assert residual[0] <= 2e-6


@pytest.mark.parametrize("shape", [(1, 5, 4), (2, 1, 1), (7, 1, 3)])
def test_few_maps_or_few_pixels(shape):
    maps = np.random.default_rng(0).random(shape, np.float32)
    u, s, gap, residual = in_torch(maps[None], rank=1, nonnegative=True)
    vectors, values = by_lapack(maps)
    assert s[0, 0] == pytest.approx(values[0], rel=1e-6)
    assert gap[0] == pytest.approx(values[1] / values[0] if len(values) > 1 else 0, abs=1e-6)
    assert spectra.sine(u[0, 0], vectors[0]) <= 1e-6
    assert residual[0] <= 1e-6


@pytest.mark.parametrize("scale", [1e-12, 1e15])
def test_the_scale_of_the_maps_does_not_matter(scale):
    maps = spectra.rectified(2)[None]
    u, s, gap, residual = in_torch(np.float32(scale) * maps)
    expected = in_torch(maps)
    assert np.linalg.norm(u[0, 0] - expected[0][0, 0]) <= 1e-5
    np.testing.assert_allclose(s, scale * expected[1], rtol=1e-4)
    np.testing.assert_allclose(gap, expected[2], rtol=1e-5)
    assert residual[0] <= 3e-6


def test_dead_channels_and_two_disjoint_pictures():
    """Where whole blocks of XᵀX are zero, powers fall below the smallest float32."""
    maps = spectra.rectified(4)
    maps[::3] = 0
    maps[12:, :15], maps[:12, 15:] = 0, 0
    u, _, gap, residual = in_torch(maps[None], rank=2, nonnegative=True)
    vectors, values = by_lapack(maps)
    assert gap[0] == pytest.approx(values[1] / values[0], abs=1e-5)
    assert max(spectra.sine(u[0, k], vectors[k]) for k in (0, 1)) <= 1e-5
    assert residual[0] <= 1e-6
