"""Measures of similarity, against SciPy and scikit-image and where the answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from eigenfeatures.eigen.study.similarity import (
    MEASURES,
    compare,
    cross_pearson,
    has_contrast,
    multiple_correlation,
    pearson,
    prepare,
    residual,
    top_pixels,
)


def smooth(seed, slices=3, shape=(20, 17)):
    """Positive maps with structure of a few pixels."""
    noise = np.random.default_rng(seed).normal(size=(slices, *shape))
    return (2 + 3 * gaussian_filter(noise, (0, 1, 1))).astype(np.float32)


def similarity(a, b):
    return compare(prepare(a), prepare(b))


def unit_power(image):
    image = image.astype(np.float64)
    return image / np.sqrt((image**2).mean())


def top_tenth(image):
    """A set of pixel numbers, by sorting one after the other."""
    values = image.ravel().tolist()
    ranked = sorted(range(len(values)), key=lambda pixel: (-values[pixel], pixel))
    return set(ranked[: math.ceil(len(values) / 10)])


@pytest.mark.parametrize("kind", ["smooth", "tied"])
def test_measures_equal_those_of_the_libraries(kind):
    a, b = smooth(0), smooth(1)
    b = (a + b) / 2
    if kind == "tied":  # as after ReLU: many equal pixels, zeros among them
        a, b = (np.maximum(np.round(maps), 2) - 2 for maps in (a, b))
    found = similarity(a, b)
    assert tuple(found) == MEASURES
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        x64, y64 = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
        cosine = x64 @ y64 / np.linalg.norm(x64) / np.linalg.norm(y64)
        p, q = unit_power(x), unit_power(y)
        ssim = structural_similarity(
            p,
            q,
            data_range=max(np.ptp(p), np.ptp(q)),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert found["cosine"][k] == pytest.approx(cosine, abs=1e-12)
        assert found["pearson"][k] == pytest.approx(stats.pearsonr(x64, y64)[0], abs=1e-12)
        assert found["spearman"][k] == pytest.approx(stats.spearmanr(x64, y64)[0], abs=1e-12)
        assert found["ssim"][k] == pytest.approx(ssim, abs=1e-9)
        shared, either = top_tenth(x) & top_tenth(y), top_tenth(x) | top_tenth(y)
        assert found["iou"][k] == len(shared) / len(either)


def test_identical_maps_at_any_gain():
    found = similarity(smooth(0), 3 * smooth(0))
    for measure in MEASURES:
        np.testing.assert_allclose(found[measure], 1, atol=1e-6, err_msg=measure)


def test_sign_flipped_maps():
    found = similarity(smooth(0), -smooth(0))
    for measure in ("cosine", "pearson", "spearman"):
        np.testing.assert_allclose(found[measure], -1, atol=1e-12, err_msg=measure)
    np.testing.assert_array_equal(found["iou"], 0)
    # Of maps about zero, SSIM's structure is -1 and its luminance 1 wherever the local mean is small.
    checks = np.indices((20, 20)).sum(0)[None] % 2 - 0.5
    assert similarity(checks, -checks)["ssim"] < -0.99


def test_a_shift_by_a_constant_is_seen_by_cosine_and_ssim_alone():
    found = similarity(smooth(0), smooth(0) + 10)
    for measure in ("pearson", "spearman", "iou"):
        np.testing.assert_allclose(found[measure], 1, atol=1e-6, err_msg=measure)
    for measure in ("cosine", "ssim"):
        assert (found[measure] < 0.99).all(), measure


def test_a_monotone_change_is_not_seen_by_ranks():
    found = similarity(smooth(0), np.exp(smooth(0)))
    np.testing.assert_allclose(found["spearman"], 1, atol=1e-12)
    np.testing.assert_array_equal(found["iou"], 1)
    assert (found["pearson"] < 0.95).all()


def test_maps_moved_along_an_axis():
    """A wave moved by a quarter is uncorrelated, by a half opposite."""
    wave = np.broadcast_to(np.sin(2 * np.pi * np.arange(32) / 16), (1, 32, 32))
    for move, expected in ((4, 0), (8, -1), (16, 1)):
        found = similarity(wave, np.roll(wave, move, axis=2))
        np.testing.assert_allclose(found["pearson"], expected, atol=1e-12)


def test_independent_maps_have_nothing_in_common_but_their_sign():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 200, 24, 24))
    found = {measure: values.mean() for measure, values in similarity(a, b).items()}
    assert found["pearson"] == pytest.approx(0, abs=0.01)
    assert found["spearman"] == pytest.approx(0, abs=0.01)
    assert found["ssim"] == pytest.approx(0, abs=0.03)
    # Two random tenths share a hundredth, of the 0.19 in either.
    assert found["iou"] == pytest.approx(0.01 / 0.19, abs=0.01)
    # Raw cosine flatters maps that are nowhere negative: E[x]² / E[x²] of uniform ones.
    assert found["cosine"] == pytest.approx(0.75, abs=0.01)


def test_what_has_no_similarity():
    maps = smooth(0, slices=5)
    other = maps.copy()
    other[1], other[2], other[3, 0, 0], other[4, 0, 0] = 0, 0.3, np.nan, np.inf
    assert has_contrast(other).tolist() == [True, False, False, False, False]
    for found in (similarity(maps, other), similarity(other, maps)):
        for measure in MEASURES:
            known = [True, False, measure == "cosine", False, False]
            assert np.isfinite(found[measure]).tolist() == known, measure


def test_small_maps_have_no_ssim():
    a, b = smooth(0, shape=(10, 20)), smooth(1, shape=(10, 20))
    found = similarity(a, b)
    assert np.isnan(found["ssim"]).all()
    assert np.isfinite(found["pearson"]).all()
    assert np.isfinite(similarity(smooth(0, shape=(11, 11)), smooth(1, shape=(11, 11)))["ssim"]).all()


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="resample them first"):
        similarity(smooth(0), smooth(0, shape=(17, 20)))


@pytest.mark.parametrize(("pixels", "count"), [(9, 1), (10, 1), (11, 2), (30, 3), (289, 29)])
def test_the_number_of_top_pixels_is_exact(pixels, count):
    flat = top_pixels(np.ones((2, 1, pixels)))
    np.testing.assert_array_equal(flat[:, 0], [np.arange(pixels) < count] * 2)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (2, 1, 12, 11), elements=st.floats(-1e3, 1e3, width=32)))
def test_measures_are_symmetric_and_bounded(pair):
    a, b = pair
    forth, back = similarity(a, b), similarity(b, a)
    for measure in MEASURES:
        np.testing.assert_array_equal(forth[measure], back[measure])
        value = forth[measure][0]
        assert np.isnan(value) or (0 if measure == "iou" else -1) <= value <= 1 + 1e-9
    np.testing.assert_array_equal(np.isnan(forth["pearson"]), ~(has_contrast(a) & has_contrast(b)))


def partial_correlation(a, b, images):
    """What 'beyond the image' means."""
    return pearson(residual(a, images), residual(b, images))


def test_partial_correlation_is_the_textbook_one():
    """For one given image: (r_ab - r_ac r_bc) / sqrt((1 - r_ac²)(1 - r_bc²))."""
    c = smooth(2)
    a, b = smooth(0) + c, smooth(1) + 2 * c
    for k, found in enumerate(partial_correlation(a, b, c[:, None])):
        ab, ac, bc = (stats.pearsonr(x[k].ravel(), y[k].ravel())[0] for x, y in ((a, b), (a, c), (b, c)))
        assert found == pytest.approx((ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2)), abs=1e-5)


def test_similarity_through_the_image_alone_is_taken_out():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 2, 20, 20))
    through = images[:, 0] - 3 * images[:, 1]
    a, b, own = through + rng.normal(size=(3, 40, 20, 20)) + 5
    assert similarity(a, b)["pearson"].mean() > 0.8
    assert partial_correlation(a, b, images).mean() == pytest.approx(0, abs=0.02)
    # Half of what the image leaves is shared: that stays.
    assert partial_correlation(a + own, b + own, images).mean() == pytest.approx(0.5, abs=0.4)
    # Neither a doubled image nor one without contrast takes anything out.
    more = np.concatenate([images, images[:, :1], np.ones((40, 1, 20, 20))], axis=1)
    np.testing.assert_allclose(residual(a, more), residual(a, images), atol=1e-9)


def test_residuals_are_those_of_least_squares():
    a, images = smooth(0, slices=2), np.stack([smooth(1, slices=2), smooth(2, slices=2)], axis=1)
    left = residual(a, images)
    for k in range(2):
        design = np.column_stack([np.ones(a[k].size), *images[k].reshape(2, -1)]).astype(np.float64)
        fit = np.linalg.lstsq(design, a[k].ravel().astype(np.float64))[0]
        np.testing.assert_allclose(left[k].ravel(), a[k].ravel() - design @ fit, atol=1e-9)


def test_where_the_image_leaves_nothing_there_is_no_correlation():
    a, images = smooth(0), smooth(1)[:, None].copy()
    explained = 2 * images[:, 0] + 1
    assert np.isnan(partial_correlation(a, explained, images)).all()
    images[1, 0, 3, 3] = np.nan
    assert np.isfinite(partial_correlation(a, smooth(2), images)).tolist() == [True, False, True]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_linear_mix_is_fitted_wholly_whatever_its_signs(sign):
    images = np.stack([smooth(seed) for seed in range(4)], axis=1)
    mix = sign * (images[:, 0] - 3 * images[:, 1] + 0.2 * images[:, 3]) + 7
    np.testing.assert_allclose(multiple_correlation(mix, images), 1, atol=1e-6)
    # Without one of the images it isn't.
    assert (multiple_correlation(mix, images[:, [0, 2, 3]]) < 0.9).all()


def test_multiple_correlation_is_that_of_a_map_with_its_least_squares_fit():
    a, images = smooth(0), np.stack([smooth(1), smooth(2) + smooth(0), smooth(0) - smooth(3)], axis=1)
    found = multiple_correlation(a, images)
    for k in range(3):
        design = np.column_stack([np.ones(a[k].size), *images[k].reshape(3, -1)]).astype(np.float64)
        fit = design @ np.linalg.lstsq(design, a[k].ravel().astype(np.float64))[0]
        assert found[k] == pytest.approx(stats.pearsonr(a[k].ravel(), fit)[0], abs=1e-6)
        one = multiple_correlation(a[k : k + 1], images[k : k + 1, 1:2])
        assert one == pytest.approx(abs(stats.pearsonr(a[k].ravel(), images[k, 1].ravel())[0]), abs=1e-6)
    np.testing.assert_allclose(multiple_correlation(5 - 2 * a, images), found, atol=1e-6)


def test_independent_images_fit_no_more_than_chance_does():
    """Of k images and n pixels: R² is k / (n - 1) in the mean."""
    rng = np.random.default_rng(0)
    maps, images = rng.normal(size=(40, 20, 20)), rng.normal(size=(40, 5, 20, 20))
    found = multiple_correlation(maps, images)
    assert (found**2).mean() == pytest.approx(5 / 399, rel=0.3)
    assert found.max() < 0.25


def test_what_has_no_multiple_correlation():
    maps, images = smooth(0, slices=5), np.stack([smooth(1, slices=5), smooth(2, slices=5)], axis=1)
    maps[1], maps[2, 0, 0] = 0.3, np.inf
    images[3, 1, 4, 4] = np.nan
    images[4, 0] = 2.0  # of no use, as if it weren't there
    found = multiple_correlation(maps, images)
    assert np.isfinite(found).tolist() == [True, False, False, False, True]
    assert found[4] == pytest.approx(multiple_correlation(maps[4:], images[4:, 1:])[0])
    assert multiple_correlation(maps[:1], np.ones((1, 2, 20, 17))) == 0


def test_every_map_is_correlated_with_every_other():
    a, b = smooth(0, slices=3), np.concatenate([-smooth(0, slices=1), smooth(1, slices=4)])
    found = cross_pearson(a, b)
    assert found.shape == (3, 5)
    expected = np.corrcoef(a.reshape(3, -1), b.reshape(5, -1))[:3, 3:]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0, 0] == pytest.approx(-1)
    np.testing.assert_allclose(cross_pearson(a, a).diagonal(), 1, atol=1e-12)
    assert np.abs(cross_pearson(a, a)).max() <= 1
    a[1], b[2, 0, 0] = 0.3, np.nan
    missing = np.isnan(cross_pearson(a, b))
    assert missing[1].all()
    assert missing[:, 2].all()
    assert missing.sum() == 5 + 3 - 1
