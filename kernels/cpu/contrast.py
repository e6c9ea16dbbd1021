"""Contrast of pictures by NumPy, a slice a thread: its partial sort is faster than a loop of ours."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import thread_count


def stretch(images: NDArray[Any], saturate: float, out: NDArray[Any]) -> None:
    """Fill `out` (N, H, W) with images (N, H, W) stretched to [0, 1]; see `stretch_contrast`."""

    def one(image: NDArray[Any], filled: NDArray[Any]) -> None:
        _stretch(image, saturate, filled)

    threads = min(thread_count(), len(images))
    if threads <= 1:
        list(map(one, images, out))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, images, out))


def _stretch(image: NDArray[Any], saturate: float, out: NDArray[Any]) -> None:
    out[:] = image
    places = percentile_places(out.size, saturate)
    ordered = np.partition(out.ravel(), [k for below, above, _ in places for k in (below, above)])
    if (unit := unit_of(ordered, places)) != 1:
        ordered = ordered * unit
        np.multiply(out, unit, out=out)
    low, high = (np.nan, np.nan) if np.isnan(out).any() else percentiles(ordered, places)
    if not (np.isfinite(low) and np.isfinite(high)):
        out[:] = np.nan
    elif high > low:
        np.clip(out, low, high, out=out)
        np.subtract(out, low, out=out)
        np.divide(out, high - low, out=out)
    else:
        np.greater(out, low, out=out)


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
