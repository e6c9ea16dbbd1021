"""Contrast of pictures; no measurement uses it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, working_dtype
from eigenfeatures.kernels.interop import any_library


@any_library
def stretch_contrast(images: ArrayLike, saturate: float = 0.01) -> NDArray[Any]:
    """Stretch the grey values of each image to [0, 1], for looking at (paper, section 3.2).

    The lowest and highest `saturate` of the pixels are clipped, at the percentiles of
    `numpy.percentile` (linear). Where the two coincide, pixels above them become 1 and
    all others 0, so a constant image is black.

    Parameters
    ----------
    images
        Images ``(..., H, W)`` of integers or floats.
    saturate
        Fraction of the pixels clipped at each end, at least 0 and below 0.5.

    Returns
    -------
    numpy.ndarray
        Of the input's shape: float32 for 8-bit, 16-bit and float32 input, else float64.

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than two axes, no pixels, or `saturate` is out of range.
    """
    given = loop_input(images, "images", trailing=2)
    if not 0 <= saturate < 0.5:
        raise ValueError(f"saturate is {saturate} and must be at least 0 and below 0.5")
    values = given.astype(working_dtype(given))
    percentiles = [100 * saturate, 100 * (1 - saturate)]
    low, high = np.percentile(values, percentiles, axis=(-2, -1), keepdims=True).astype(values.dtype)
    width = high - low
    stretched = np.clip((values - low) / np.where(width > 0, width, 1), 0, 1)
    result: NDArray[Any] = np.where(width > 0, stretched, values > low).astype(values.dtype)
    return result
