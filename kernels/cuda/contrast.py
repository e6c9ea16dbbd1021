"""Contrast of pictures by CuPy; no measurement uses it."""

import numpy as np

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.memory import Array


def stretch(images: Array, saturate: float, out: Array) -> None:
    """Fill `out` (N, H, W) with images (N, H, W) stretched to [0, 1]; see `stretch_contrast`."""
    if len(images) == 0:
        return  # `percentile` refuses a batch of none
    xp = memory.xp()
    values = images.astype(out.dtype)
    percentiles = [100 * saturate, 100 * (1 - saturate)]
    low, high = xp.percentile(values, percentiles, axis=(1, 2), keepdims=True).astype(out.dtype)
    width = high - low
    stretched = xp.clip((values - low) / xp.where(width > 0, width, 1), 0, 1)
    out[:] = xp.where(width > 0, stretched, (values > low).astype(np.float32))
