"""Simple descriptors of maps: how bright, how coarse, how far correlated.

They know nothing of the samples. What a linear classifier makes of them says how much a kind of map
(u₁, α, |∇Y|, the raw slice) tells of its sample by itself (`discrimination`).

References
----------
G. Matheron, "Random Sets and Integral Geometry", Wiley 1975 (granulometry; a supremum of openings is one).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.signal.windows import hann

QUANTILES = (1, 10, 25, 50, 75, 90, 99)
"""In percent."""

RADII = (1, 2, 3, 4, 6, 8)
"""Of the disks of the granulometry, in pixels."""

RINGS = 8
"""Of equal width, from frequency 0 to Nyquist's 0.5 cycles a pixel."""

DESCRIPTORS = (
    "mean",
    *(f"quantile {percent} %" for percent in QUANTILES),
    *(f"granulometry {radius}" for radius in RADII),
    *(f"log power {ring + 1}/{RINGS}" for ring in range(RINGS)),
    "autocorrelation length",
)
"""Names of the columns of `describe`."""

SCALED = slice(0, 1 + len(QUANTILES))
"""The columns that are proportional to the strength of a map; the others don't depend on it."""

# A ring without power would have the logarithm -inf; float32 maps can't tell shares below this from 0.
_LEAST_SHARE = 1e-9
_SLICES_AT_ONCE = 32


def describe(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Describe every map, divided by its root mean square, by a few numbers.

    Parameters
    ----------
    maps : ndarray, shape (slices, h, w)
        Of 8 × 8 pixels or more.

    Returns
    -------
    ndarray, shape (slices, len(DESCRIPTORS)), float64
        Finite for every finite map: of a constant one, the granulometry and the length are 0. A map
        that isn't finite has a row of NaN.
    """
    rows = np.full((len(maps), len(DESCRIPTORS)), np.nan)
    finite = np.flatnonzero(np.isfinite(maps).all(axis=(1, 2)))
    for start in range(0, len(finite), _SLICES_AT_ONCE):
        chosen = finite[start : start + _SLICES_AT_ONCE]
        images = maps[chosen].astype(np.float64)
        images = _divide(images, np.sqrt(np.mean(images**2, axis=(1, 2))))
        rows[chosen] = np.column_stack(
            [
                images.mean(axis=(1, 2)),
                np.percentile(images, QUANTILES, axis=(1, 2)).T,
                granulometry(images),
                radial_spectrum(images),
                autocorrelation_length(images),
            ]
        )
    return rows


def granulometry(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of the volume is in bright structures narrower than each disk.

    Digital disks don't fit into each other: an opening by a disk may keep what a smaller one cut off.
    Hence what is kept at a radius is the maximum of the openings by this and all larger disks, which is
    itself an opening and falls from radius to radius.

    Parameters
    ----------
    images : ndarray, shape (slices, h, w), float64

    Returns
    -------
    ndarray, shape (slices, len(RADII))
        The share of the volume above the image's minimum that is lost from one opening to the next;
        0 for a constant image.
    """
    # (1, ...): a flat footprint, for slices are never mixed.
    openings = [ndimage.grey_opening(images, footprint=_disk(radius)[None]) for radius in RADII]
    kept = np.maximum.accumulate([*reversed(openings), images])[::-1]
    lowest = images.min(axis=(1, 2), keepdims=True)
    volumes = np.sum(kept - lowest, axis=(2, 3))
    return _divide(-np.diff(volumes, axis=0).T, volumes[0])


def _disk(radius: int) -> NDArray[np.bool_]:
    steps = np.arange(-radius, radius + 1)
    inside: NDArray[np.bool_] = np.hypot(steps[:, None], steps) <= radius
    return inside


def radial_spectrum(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the decimal logarithm of the share of power in each ring of frequencies.

    The mean is taken away, and a Hann window keeps the edges of the image, which isn't periodic,
    from spreading over all frequencies. The corners beyond Nyquist's frequency aren't counted.

    Parameters
    ----------
    images : ndarray, shape (slices, h, w), float64

    Returns
    -------
    ndarray, shape (slices, RINGS)
        At least -9, which also stands for no power at all.
    """
    height, width = images.shape[1:]
    window = np.outer(hann(height, sym=False), hann(width, sym=False))
    power = np.abs(fft.fft2(_centre(images) * window)) ** 2
    in_ring = _by_ring(power, _frequency_rings((height, width)), RINGS)
    share = _divide(in_ring, in_ring.sum(axis=1))
    return np.log10(np.maximum(share, _LEAST_SHARE))


def autocorrelation_length(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance at which the radially averaged autocorrelation has fallen to 1/e.

    The mean is taken away, which shortens lengths that aren't small against the image: an exponential
    correlation of 5 pixels is read as 5.0 in 256 × 256 pixels, as 4.6 in 64 × 64 and, of 8, as 6.3.

    Parameters
    ----------
    images : ndarray, shape (slices, h, w), float64

    Returns
    -------
    ndarray, shape (slices,)
        In pixels, interpolated linearly; half the shorter side where it doesn't fall so low within it,
        0 for a constant image.
    """
    reach = min(images.shape[1:]) // 2
    rings, pairs, distance = _lag_rings(images.shape[1:], reach)
    sums = _by_ring(_products(_centre(images), reach), rings, reach + 1) / pairs
    lengths = np.zeros(len(images))
    for row in np.flatnonzero(sums[:, 0] > 0):
        lengths[row] = _where_fallen(sums[row] / sums[row, 0], distance)
    return lengths


def _where_fallen(curve: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """Return where a curve that starts at 1 first crosses 1/e, else its last index, the reach."""
    below = np.flatnonzero(curve < np.exp(-1))
    if not below.size:
        return float(len(curve) - 1)
    ends = [below[0], below[0] - 1]
    return float(np.interp(np.exp(-1), curve[ends], distance[ends]))


def _products(images: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Sum the products of all pairs of pixels, by lag; lags up to `reach` are free of wrap-around."""
    shape = [fft.next_fast_len(length + reach, real=True) for length in images.shape[-2:]]
    products: NDArray[np.float64] = fft.irfft2(np.abs(fft.rfft2(images, shape)) ** 2, shape)
    return products


@lru_cache(maxsize=8)
def _lag_rings(
    shape: tuple[int, int], reach: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the ring of every lag, and of every ring the number of pairs and their mean distance."""
    pairs = _products(np.ones((1, *shape)), reach)
    rows, columns = (np.fft.fftfreq(length, 1 / length) for length in pairs.shape[1:])
    distance = np.hypot(rows[:, None], columns)
    rings = np.rint(distance).astype(np.int64)
    counts = _by_ring(pairs, rings, reach + 1)[0]
    return rings, counts, _by_ring(pairs * distance, rings, reach + 1)[0] / counts


@lru_cache(maxsize=8)
def _frequency_rings(shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the ring of every frequency; `RINGS` and more for the mean and beyond Nyquist's."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    # A ring holds its upper end, so that Nyquist's frequency is in the last.
    rings: NDArray[np.int64] = np.ceil(frequency * 2 * RINGS).astype(np.int64) - 1
    rings[0, 0] = RINGS
    return rings


def _by_ring(values: NDArray[np.float64], rings: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Sum (slices, h, w) over the pixels of each ring: (slices, count)."""
    return np.stack([values[:, rings == ring].sum(axis=1) for ring in range(count)], axis=1)


def _centre(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the mean away; a constant image is exactly 0, which rounding would spoil."""
    centred: NDArray[np.float64] = images - images.mean(axis=(1, 2), keepdims=True)
    centred[np.ptp(images, axis=(1, 2)) == 0] = 0
    return centred


def _divide(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each slice's values by its number; 0 where that is 0."""
    divisor = by.reshape(-1, *[1] * (values.ndim - 1))
    return np.divide(values, divisor, out=np.zeros_like(values), where=divisor > 0)
