"""Contrast of pictures by CuPy; no measurement uses it."""

import numpy as np

from eigenfeatures.kernels.cpu.contrast import percentile_places, percentiles, unit_of
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.memory import Array


def stretch(images: Array, saturate: float, out: Array) -> None:
    """Fill `out` (N, H, W) with images (N, H, W) stretched to [0, 1]; see `stretch_contrast`."""
    if len(images) == 0:
        return
    xp = memory.xp()
    values = images.reshape(len(images), -1).astype(out.dtype)
    ordered = xp.sort(values, axis=1)  # NaN last
    places = percentile_places(values.shape[1], saturate)
    unit = unit_of(ordered, places)[:, np.newaxis]
    ordered *= unit
    values *= unit
    low, high = percentiles(ordered, places)
    defined = (xp.isfinite(low) & xp.isfinite(high) & ~xp.isnan(ordered[:, -1]))[:, np.newaxis]
    low = xp.where(defined, low[:, np.newaxis], 0).astype(out.dtype)
    width = xp.where(defined, high[:, np.newaxis], 0).astype(out.dtype) - low
    with np.errstate(over="ignore"):  # beyond the percentiles
        stretched = xp.clip((values - low) / xp.where(width > 0, width, 1), 0, 1)
    bright = xp.where(width > 0, stretched, (values > low).astype(np.float32))
    out[:] = xp.where(defined, bright, np.nan).reshape(out.shape)
