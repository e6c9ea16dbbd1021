"""Contrast of pictures; no measurement uses it."""

from typing import Any, overload

from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import Foreign, ForeignArray, real_number, stacked, working_dtype
from eigenfeatures.kernels.call import Backend, Call


@overload
def stretch_contrast(
    images: Foreign, saturate: float = ..., *, backend: Backend = ..., stream: object = ...
) -> Foreign: ...
@overload
def stretch_contrast(
    images: ArrayLike, saturate: float = ..., *, backend: Backend = ..., stream: object = ...
) -> NDArray[Any]: ...
def stretch_contrast(
    images: ArrayLike | ForeignArray,
    saturate: float = 0.01,
    *,
    backend: Backend = "auto",
    stream: object = None,
) -> NDArray[Any] | ForeignArray:
    """Stretch the grey values of each image to [0, 1], for looking at (paper, section 3.2).

    The lowest and highest `saturate` of the pixels are clipped, at the percentiles of
    `numpy.percentile` (linear). Where the two coincide, pixels above them become 1 and
    all others 0, so a constant image is black. An image with a NaN, or with so many infinite pixels that
    a percentile is not finite, is NaN throughout, without harm to others. The percentiles take a partial
    sort, O(N·H·W) on average.

    Parameters
    ----------
    images
        Images ``(..., H, W)`` of integers or floats.
    saturate
        Fraction of the pixels clipped at each end, at least 0 and below 0.5.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    array
        Of the input's shape: float32 for 8-bit, 16-bit and float32 input, else float64.

    Raises
    ------
    TypeError
        Where the elements or `saturate` are not real numbers.
    ValueError
        Where there are fewer than two axes, no pixels, or `saturate` is out of range.
    OSError
        As of `gradient_magnitude`.

    Examples
    --------
    >>> import numpy as np
    >>> stretch_contrast(np.array([[10, 20], [30, 40]], np.uint8), 0.0).round(2).tolist()
    [[0.0, 0.33000001311302185], [0.6700000166893005, 1.0]]
    """
    saturate = real_number(saturate, "saturate")
    if not 0 <= saturate < 0.5:
        raise ValueError(f"saturate is {saturate} and must be at least 0 and below 0.5")
    with Call(backend, stream, images=images) as call:
        given = call.input("images", trailing=2)
        out: NDArray[Any] = call.xp.empty(given.shape, working_dtype(given))
        call.loops("contrast").stretch(stacked(given, 2), saturate, stacked(out, 2))
        return call.result(out)
