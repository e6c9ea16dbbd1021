"""Contrast of pictures by NumPy and Python's threads: its partial sort is faster than a loop of ours."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import SMALL, thread_count

# Pixels of images that are stretched together, so that Python's part of it is small: 2 MB of float32.
_TOGETHER = 1 << 19


def stretch(images: NDArray[Any], saturate: float, out: NDArray[Any]) -> None:
    """Fill `out` (N, H, W) with images (N, H, W) stretched to [0, 1]; see `stretch_contrast`."""
    pixels, threads = out.shape[1] * out.shape[2], thread_count()
    share = max(-(-len(out) // threads), SMALL // pixels)
    step = max(1, min(share, _TOGETHER // pixels))

    def some(first: int) -> None:
        filled = out[first : first + step]
        filled[:] = images[first : first + step]
        _stretch(filled.reshape(len(filled), pixels), saturate)

    parts = range(0, len(out), step)
    if min(threads, len(parts)) <= 1:
        list(map(some, parts))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, parts))


def _stretch(rows: NDArray[Any], saturate: float) -> None:
    """Stretch images (k, n) in place."""
    places = percentile_places(rows.shape[1], saturate)
    ordered = np.partition(rows, [k for below, above, _ in places for k in (below, above)], axis=1)
    unit = unit_of(ordered, places)[:, np.newaxis]
    if (unit != 1).any():
        ordered *= unit
        rows *= unit
    low, high = (ends[:, np.newaxis] for ends in percentiles(ordered, places))
    known = (np.isfinite(low) & np.isfinite(high))[:, 0] & ~np.isnan(rows.max(axis=1))
    wide = known & (high > low)[:, 0]
    equal = known & ~wide
    bright = rows[equal] > low[equal]
    low, high = np.where(wide[:, np.newaxis], (low, high), np.array([0, 1], rows.dtype).reshape(2, 1, 1))
    np.clip(rows, low, high, out=rows)
    np.subtract(rows, low, out=rows)
    np.divide(rows, high - low, out=rows)
    rows[equal], rows[~known] = bright, np.nan


def unit_of(ordered: Any, places: list[tuple[int, int, float]]) -> Any:
    """Return in what the values along the last axis are to be told, so that their differences are finite."""
    ends = abs(ordered[..., [k for below, above, _ in places for k in (below, above)]]).max(axis=-1)
    return ordered.dtype.type(1) - (ends > np.finfo(ordered.dtype).max / 4) * ordered.dtype.type(0.75)


def percentile_places(size: int, saturate: float) -> list[tuple[int, int, float]]:
    """Return the places of the two values between which each percentile lies, and its share of the way."""
    last = size - 1
    places = (saturate * last, (1 - saturate) * last)
    return [(math.floor(place), math.ceil(place), place - math.floor(place)) for place in places]


def percentiles(ordered: Any, places: list[tuple[int, int, float]]) -> list[Any]:
    """Return the two percentiles along the last axis, interpolated linearly."""
    with np.errstate(invalid="ignore"):  # of two infinite values
        return [
            ordered[..., below] + (ordered[..., above] - ordered[..., below]) * ordered.dtype.type(share)
            for below, above, share in places
        ]
