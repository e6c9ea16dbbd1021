"""Descriptors of images whose brightness, coarseness and correlation are known."""

import numpy as np
import pytest
from scipy import optimize, special

from eigenfeatures.eigen.study.descriptors import (
    DESCRIPTORS,
    QUANTILES,
    RADII,
    RINGS,
    SCALED,
    autocorrelation_length,
    describe,
    granulometry,
    radial_spectrum,
)

COLUMN = {name: number for number, name in enumerate(DESCRIPTORS)}


def exponential_fields(length: float, count: int, size: int = 256) -> np.ndarray:
    """Draw random fields whose autocorrelation is exp(−r/length)."""
    steps = np.minimum(np.arange(size), size - np.arange(size))
    power = np.fft.fft2(np.exp(-np.hypot(steps[:, None], steps) / length)).real.clip(0)
    noise = np.random.default_rng(0).standard_normal((count, size, size))
    return np.fft.ifft2(np.fft.fft2(noise) * np.sqrt(power)).real


CORNERS = ((16, 16), (16, 48), (48, 16), (48, 48))


def disks(radius: int, centres=CORNERS, size: int = 64) -> np.ndarray:
    """Draw bright disks that don't touch each other or the border."""
    rows, columns = np.indices((size, size))
    inside = [np.hypot(rows - row, columns - column) <= radius for row, column in centres]
    return np.any(inside, axis=0).astype(np.float64)


def test_mean_and_quantiles_are_those_of_the_values():
    values = np.random.default_rng(0).random((3, 16, 20))
    values /= np.sqrt(np.mean(values**2, axis=(1, 2), keepdims=True))
    rows = describe(values)
    assert rows.shape == (3, len(DESCRIPTORS))
    np.testing.assert_allclose(rows[:, COLUMN["mean"]], values.mean(axis=(1, 2)))
    for percent in QUANTILES:
        expected = [np.quantile(image, percent / 100) for image in values]
        np.testing.assert_allclose(rows[:, COLUMN[f"quantile {percent} %"]], expected)


def test_strength_does_not_count():
    values = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(describe(values), describe(values * 1000), rtol=1e-5, atol=1e-5)
    unit = describe(values)[:, 0] * np.sqrt(np.mean(values.astype(float) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(unit, values.mean(axis=(1, 2)), rtol=1e-5)


def test_just_the_scaled_columns_are_proportional_to_the_strength():
    """The mean and quantiles of any values are; the others don't depend on it."""
    values = np.random.default_rng(0).random((2, 16, 16))
    assert DESCRIPTORS[SCALED] == ("mean", *(f"quantile {percent} %" for percent in QUANTILES))
    for shape in (granulometry, radial_spectrum, autocorrelation_length):
        np.testing.assert_allclose(shape(50 * values), shape(values), rtol=1e-9)


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 6])
def test_disks_vanish_at_the_first_larger_radius(radius):
    lost = granulometry(disks(radius)[None])[0]
    expected = [float(previous == radius) for previous in (0, *RADII[:-1])]
    np.testing.assert_allclose(lost, expected, atol=1e-12)


def test_two_sizes_of_disks_share_the_volume():
    small, large = disks(2, [(32, 32), (8, 32)]), disks(6)
    assert not np.any(small * large)
    lost = dict(zip(RADII, granulometry((small + large)[None])[0], strict=True))
    assert lost[3] == pytest.approx(small.sum() / (small.sum() + large.sum()))
    assert lost[8] == pytest.approx(large.sum() / (small.sum() + large.sum()))


def test_granulometry_ignores_offset_and_scale_and_is_never_negative():
    image = np.random.default_rng(0).standard_normal((4, 32, 24))
    lost = granulometry(image)
    np.testing.assert_allclose(granulometry(3 * image + 50), lost, atol=1e-10)
    assert lost.min() >= 0
    assert lost.sum(axis=1).max() <= 1


@pytest.mark.parametrize("ring", range(RINGS))
@pytest.mark.parametrize("axis", [0, 1])
def test_a_sinusoid_has_its_power_in_its_ring(ring, axis):
    frequency = (ring + 0.5) / (2 * RINGS)
    image = 7 + np.sin(2 * np.pi * frequency * np.indices((64, 80))[axis])
    share = 10 ** radial_spectrum(image[None])[0]
    assert share[ring] > 0.98
    assert share.sum() == pytest.approx(1, abs=1e-7)


def test_white_noise_has_power_in_proportion_to_the_area_of_a_ring():
    noise = np.random.default_rng(0).standard_normal((64, 64, 64))
    share = (10 ** radial_spectrum(noise)).mean(axis=0)
    area = np.diff(np.arange(RINGS + 1) ** 2) / RINGS**2
    np.testing.assert_allclose(share, area, rtol=0.05)


@pytest.mark.parametrize("length", [2, 3, 5])
def test_the_length_of_an_exponential_correlation(length):
    assert autocorrelation_length(exponential_fields(length, 6)).mean() == pytest.approx(length, rel=0.05)


def test_a_cosine_decorrelates_where_its_autocorrelation_is_known():
    """cos(kx) averaged over all directions is J0(kr)."""
    k = 2 * np.pi / 32
    expected = optimize.brentq(lambda r: special.j0(k * r) - np.exp(-1), 1, 12)
    wave = np.cos(k * np.indices((256, 256))[1])
    assert autocorrelation_length(wave[None])[0] == pytest.approx(expected, rel=0.02)


def test_the_length_ends_at_half_the_shorter_side():
    slow = np.zeros((1, 16, 64))
    slow[:, :, 32:] = 1
    assert autocorrelation_length(slow)[0] == 8


def test_white_noise_falls_within_the_first_ring():
    """Its lags (0, 1) and (1, 1) are (1 + √2)/2 away on average, and there nothing is left."""
    noise = np.random.default_rng(0).standard_normal((16, 64, 64))
    expected = (1 - np.exp(-1)) * (1 + np.sqrt(2)) / 2
    assert autocorrelation_length(noise).mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("size", [8, 64])
def test_constant_maps_give_finite_numbers(value, size):
    row = describe(np.full((1, size, size), value, np.float32))[0]
    assert row[SCALED] == pytest.approx(np.sign(value))
    assert np.all(row[[COLUMN[f"granulometry {radius}"] for radius in RADII]] == 0)
    assert np.all(row[[COLUMN[f"log power {ring + 1}/{RINGS}"] for ring in range(RINGS)]] == -9)
    assert row[COLUMN["autocorrelation length"]] == 0


def test_small_maps_are_finite_and_maps_are_described_one_by_one():
    maps = np.random.default_rng(0).random((70, 8, 9)).astype(np.float32)
    kept = maps.copy()
    maps[3, 0, 0] = np.nan
    rows = describe(maps)
    assert np.all(np.isnan(rows[3]))
    assert np.isfinite(np.delete(rows, 3, axis=0)).all()
    np.testing.assert_allclose(rows[[0, 40, 69]], describe(kept[[0, 40, 69]]), rtol=1e-12)
    np.testing.assert_array_equal(np.delete(maps, 3, axis=0), np.delete(kept, 3, axis=0))
    assert describe(maps[:0]).shape == (0, len(DESCRIPTORS))
