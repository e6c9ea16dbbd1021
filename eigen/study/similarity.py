"""How alike two maps of a slice are, by five measures, and how alike beyond the image they come from.

==========  =================================================================================
cosine      of the angle between the maps as vectors, not centred; high for any two maps that
            are nowhere negative, so never to be read alone
pearson     the same of the centred maps
ssim        structural similarity (Wang et al. 2004), Gaussian window of 1.5 pixels, of maps
            scaled to unit root mean square
spearman    Pearson's of the ranks of the pixels, ties averaged
iou         of the brightest tenth of the pixels: shared by both, over those in either
==========  =================================================================================

Slices are independent of each other, so that a large set can be taken in pieces. A map that is
not finite has no similarity (NaN); nor has a map without contrast, save for ``cosine``, where
only a zero map has none. SSIM also needs maps of 11×11 pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

MEASURES = ("cosine", "pearson", "ssim", "spearman", "iou")

# Maps are float32: differences below its rounding are none.
ROUNDING = 1e-6

_SIGMA, _RADIUS = 1.5, 5  # of SSIM's window, cut at 3.5 standard deviations
_K1, _K2 = 0.01, 0.03

Maps = NDArray[np.float32] | NDArray[np.float64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class PreparedMaps:
    """What `compare` needs of a run's maps; each row is a slice, n the number of pixels.

    Attributes
    ----------
    shape : tuple of int
        Slices, height, width.
    unit, centred, ranks : ndarray
        ``(slices, n)`` float64: the map, the map less its mean, and its ranks less their mean,
        each scaled to unit length; NaN where there is no such thing.
    top : ndarray
        ``(slices, n)`` bool: see `top_pixels`.
    extent : ndarray
        ``(slices,)``: largest less smallest pixel of `unit`, NaN without contrast.
    local_mean, local_variance : ndarray
        ``(slices, h', w')`` float64: of `unit` under SSIM's window, away from the borders.
    """

    shape: tuple[int, int, int]
    unit: Array
    centred: Array
    ranks: Array
    top: NDArray[np.bool_]
    extent: Array
    local_mean: Array
    local_variance: Array


def prepare(maps: Maps) -> PreparedMaps:
    """Compute once what all comparisons with a run's maps, ``(slices, h, w)``, have in common."""
    slices, height, width = maps.shape
    pixels = _rows(maps)
    unit = _unit(pixels)
    # The scale of both maps alike cancels in SSIM: unit length does for unit root mean square.
    images = unit.reshape(maps.shape)
    local_mean = _window_mean(images)
    contrast = has_contrast(maps)
    ranks = rankdata(pixels, axis=1)
    return PreparedMaps(
        shape=(slices, height, width),
        unit=unit,
        centred=_centred_unit(pixels),
        ranks=_unit(_blank(ranks - ranks.mean(1, keepdims=True), ~contrast)),
        top=top_pixels(maps).reshape(pixels.shape),
        extent=np.where(contrast, np.ptp(unit, axis=1), np.nan),
        local_mean=local_mean,
        local_variance=_window_mean(images**2) - local_mean**2,
    )


def compare(a: PreparedMaps, b: PreparedMaps) -> dict[str, Array]:
    """Compare the maps of two runs slice by slice.

    Returns
    -------
    dict
        Each of `MEASURES` to ``(slices,)`` float64: -1 to 1, ``iou`` 0 to 1; NaN as the module says.

    Raises
    ------
    ValueError
        Where the maps have different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {a.shape} and {b.shape} can't be compared; resample them first")
    either = np.count_nonzero(a.top | b.top, axis=1)
    iou = np.count_nonzero(a.top & b.top, axis=1) / either
    return {
        "cosine": _dot(a.unit, b.unit),
        "pearson": _dot(a.centred, b.centred),
        "ssim": _ssim(a, b),
        "spearman": _dot(a.ranks, b.ranks),
        "iou": np.where(np.isnan(a.extent + b.extent), np.nan, iou),
    }


def pearson(a: Maps, b: Maps) -> Array:
    """Return Pearson's correlation of maps ``(slices, h, w)``, ``(slices,)``; NaN without contrast."""
    return _dot(_centred_unit(_rows(a)), _centred_unit(_rows(b)))


def residual(maps: Maps, given: Maps) -> Array:
    """Return what is left of maps after a least-squares fit of other images and a constant.

    Parameters
    ----------
    maps
        ``(slices, h, w)``.
    given
        The images that each slice's map is fitted by, ``(slices, k, h, w)``.

    Returns
    -------
    ndarray
        ``(slices, h, w)`` float64; zero where nothing is left beyond rounding, NaN where either isn't finite.
    """
    pixels = _rows(maps)
    pixels = pixels - pixels.mean(1, keepdims=True)
    slices, images = given.shape[:2]
    fitted = _centred_unit(_rows(given.reshape(slices * images, *given.shape[2:])))
    # Of no use to the fit: images without contrast. Nor does a doubled image count twice.
    design = np.nan_to_num(fitted).reshape(slices, images, -1)
    weights = pixels[:, None, :] @ np.linalg.pinv(design, rcond=ROUNDING)
    left: Array = pixels - (weights @ design)[:, 0, :]
    left[np.linalg.norm(left, axis=1) <= ROUNDING * np.linalg.norm(pixels, axis=1)] = 0
    left[~np.isfinite(given).reshape(slices, -1).all(1)] = np.nan
    return left.reshape(maps.shape)


def multiple_correlation(maps: Maps, given: Maps) -> Array:
    """Return how well other images and a constant fit each map by least squares.

    Returns
    -------
    ndarray
        ``(slices,)`` float64 from 0 to 1: the correlation of the map with its fit, whatever the signs;
        NaN for a map without contrast or what isn't finite. Shapes as in `residual`.
    """
    pixels = _rows(maps)
    total = np.linalg.norm(pixels - pixels.mean(1, keepdims=True), axis=1)
    left = np.linalg.norm(_rows(residual(maps, given)), axis=1)
    share = left / np.where(_varies(pixels), total, np.nan)
    return np.asarray(np.sqrt(np.clip(1 - share**2, 0.0, 1.0)))


def cross_pearson(a: Maps, b: Maps) -> Array:
    """Correlate (Pearson) every map of `a` ``(m, h, w)`` with every one of `b` ``(k, h, w)``: ``(m, k)``."""
    return np.clip(_centred_unit(_rows(a)) @ _centred_unit(_rows(b)).T, -1.0, 1.0)


def has_contrast(maps: Maps) -> NDArray[np.bool_]:
    """Tell which maps ``(slices, h, w)`` are finite and vary by more than their rounding."""
    return _varies(_rows(maps))


def top_pixels(maps: Maps) -> NDArray[np.bool_]:
    """Mark the brightest tenth of each map's pixels, rounded up; of equal pixels, the first ones.

    Parameters
    ----------
    maps
        ``(slices, h, w)``.
    """
    pixels = _flat(maps)
    count = -(-pixels.shape[1] // 10)
    top = np.zeros(pixels.shape, np.bool_)
    np.put_along_axis(top, np.argsort(-pixels, axis=1, kind="stable")[:, :count], True, axis=1)
    return top.reshape(maps.shape)


def _flat(maps: Maps) -> Maps:
    return maps.reshape(len(maps), math.prod(maps.shape[1:]))


def _rows(maps: Maps) -> Array:
    """Return a float64 row of pixels for each map, all NaN where one of them isn't finite."""
    pixels = _flat(maps).astype(np.float64)
    pixels[~np.isfinite(pixels).all(1)] = np.nan
    return pixels


def _varies(pixels: Array) -> NDArray[np.bool_]:
    varies: NDArray[np.bool_] = np.ptp(pixels, axis=1) > ROUNDING * np.abs(pixels).max(1)
    return varies


def _blank(pixels: Array, rows: NDArray[np.bool_]) -> Array:
    return np.where(rows[:, None], np.nan, pixels)


def _unit(pixels: Array) -> Array:
    length = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.asarray(pixels / np.where(length > 0, length, np.nan))


def _centred_unit(pixels: Array) -> Array:
    return _unit(_blank(pixels - pixels.mean(1, keepdims=True), ~_varies(pixels)))


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.clip(np.einsum("sn,sn->s", a, b), -1.0, 1.0))


def _window_mean(images: Array) -> Array:
    """Average under SSIM's window, where it doesn't reach over the border, ``(slices, h - 10, w - 10)``."""
    mean: Array = gaussian_filter(images, _SIGMA, radius=_RADIUS, axes=(1, 2))
    return mean[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _ssim(a: PreparedMaps, b: PreparedMaps) -> Array:
    if a.local_mean.size == 0:
        return np.full(a.shape[0], np.nan)
    product = _window_mean((a.unit * b.unit).reshape(a.shape))
    covariance = product - a.local_mean * b.local_mean
    extent = np.maximum(a.extent, b.extent)[:, None, None]
    c1, c2 = (_K1 * extent) ** 2, (_K2 * extent) ** 2
    luminance = (2 * a.local_mean * b.local_mean + c1) / (a.local_mean**2 + b.local_mean**2 + c1)
    structure = (2 * covariance + c2) / (a.local_variance + b.local_variance + c2)
    return np.asarray((luminance * structure).mean((1, 2)))
