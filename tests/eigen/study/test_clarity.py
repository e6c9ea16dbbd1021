"""Repeatability and contrast-to-noise, on stacks whose signal and noise are known."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from eigenfeatures.eigen.study.clarity import contrast_to_noise, repeatability


def stack(noise, slices=30, seed=0, contrast=1.0):
    """Slices that share a bright square, a tenth of 40×40 pixels, each with noise of its own."""
    signal = np.zeros((40, 40))
    signal.ravel()[:160] = contrast
    return (1 + signal + noise * np.random.default_rng(seed).normal(size=(slices, 40, 40))).astype(np.float32)


def by_hand(first, second):
    """Contrast-to-noise of two maps, as the documentation words it."""
    maps = [
        image.astype(np.float64) / np.sqrt((image.astype(np.float64) ** 2).mean())
        for image in (first, second)
    ]
    contrast = []
    for own, neighbour in (maps, maps[::-1]):
        order = np.argsort(-neighbour.ravel())
        zone, rest = order[:160], order[160:]
        contrast.append(own.ravel()[zone].mean() - own.ravel()[rest].mean())
    return np.mean(contrast) / (np.std(maps[0] - maps[1]) / np.sqrt(2))


def test_both_are_what_they_are_said_to_be():
    maps = stack(0.3, slices=4)
    correlation, ratio = repeatability(maps), contrast_to_noise(maps)
    assert correlation.shape == ratio.shape == (3,)
    for k in range(3):
        expected = stats.pearsonr(maps[k].ravel().astype(np.float64), maps[k + 1].ravel().astype(np.float64))[
            0
        ]
        assert correlation[k] == pytest.approx(expected, abs=1e-12)
        assert ratio[k] == pytest.approx(by_hand(maps[k], maps[k + 1]), rel=1e-9)


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.15])
def test_known_signal_and_noise(noise):
    """Where noise leaves the zone in place, the ratio is contrast over noise, at any gain."""
    maps = stack(noise)
    assert contrast_to_noise(maps).mean() == pytest.approx(1 / noise, rel=0.02)
    np.testing.assert_allclose(contrast_to_noise(5 * maps), contrast_to_noise(maps), rtol=1e-4)
    signal = 0.1 * 0.9
    assert repeatability(maps).mean() == pytest.approx(signal / (signal + noise**2), rel=0.02)


def test_more_noise_is_less_clear():
    levels = [
        (repeatability(maps).mean(), contrast_to_noise(maps).mean()) for maps in map(stack, (0.1, 0.3, 1))
    ]
    assert levels == sorted(levels, reverse=True)
    assert all(levels[0][k] > levels[1][k] > levels[2][k] for k in range(2))


def test_noise_does_not_select_itself():
    """Independent slices have no contrast, though each has bright pixels of its own."""
    maps = stack(1, slices=60, contrast=0)
    assert repeatability(maps).mean() == pytest.approx(0, abs=0.01)
    assert contrast_to_noise(maps).mean() == pytest.approx(0, abs=0.03)
    top = np.sort(maps.reshape(60, -1))[:, -160:].mean()
    assert top - maps.mean() > 1.5  # a zone of its own would have shown this much


def test_blur_raises_both_as_the_documentation_warns():
    maps = stack(1)
    blurred = gaussian_filter(maps, (0, 2, 2))
    assert repeatability(blurred).mean() > repeatability(maps).mean()
    assert contrast_to_noise(blurred).mean() > contrast_to_noise(maps).mean()


def test_equal_and_empty_maps():
    maps = stack(0.3, slices=6)
    maps[1] = 3 * maps[0]
    maps[3], maps[5, 0, 0] = 0.7, np.nan
    ratio = contrast_to_noise(maps)
    assert ratio[0] == np.inf
    assert np.isfinite(ratio[1])
    for values in (ratio, repeatability(maps)):
        assert np.isnan(values).tolist() == [False, False, True, True, True]
    for measure in (contrast_to_noise, repeatability):
        assert measure(maps[:1]).shape == (0,)
