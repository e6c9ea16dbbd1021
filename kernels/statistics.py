"""Statistics of slices and of the size of their gradient (paper, Fig. 3)."""

from typing import Any, Generic, NamedTuple, overload

from numpy.typing import ArrayLike

from eigenfeatures.kernels.arrays import Array, Foreign, ForeignArray, stacked
from eigenfeatures.kernels.call import Backend, Call
from eigenfeatures.kernels.operators import Operator, mask_of


class SliceStatistics(NamedTuple, Generic[Array]):
    """Statistics of each slice: arrays of the images' library, float64 of the batch's leading shape.

    Slices of one size pool exactly: over a set of them, the mean of |∇Y| is the
    mean of `mean_gradient`, and its variance is the mean of
    ``deviation_gradient**2 + mean_gradient**2`` less the square of that mean.

    Attributes
    ----------
    mean, deviation
        Mean and standard deviation (ddof 0) of the grey values, in grey values.
    mean_gradient
        Mean of |∇Y| (paper, Fig. 3b), in grey values a pixel times the operator's scale.
    total_variation
        Sum of |∇Y| over the slice (paper, section 2.2.2).
    deviation_gradient
        Standard deviation (ddof 0) of |∇Y|.
    """

    mean: Array
    deviation: Array
    mean_gradient: Array
    total_variation: Array
    deviation_gradient: Array


@overload
def slice_statistics(
    images: Foreign, operator: Operator = ..., *, backend: Backend = ..., stream: object = ...
) -> SliceStatistics[Foreign]: ...
@overload
def slice_statistics(
    images: ArrayLike, operator: Operator = ..., *, backend: Backend = ..., stream: object = ...
) -> SliceStatistics: ...
def slice_statistics(
    images: ArrayLike | ForeignArray,
    operator: Operator = "sobel",
    *,
    backend: Backend = "auto",
    stream: object = None,
) -> SliceStatistics[Any]:
    """Measure each slice and its |∇Y| in one pass that writes no image.

    Reads each pixel once: time and memory traffic are O(N·H·W), memory O(N). Sums are in the precision of
    the arithmetic over 2,048 pixels and in float64 beyond, over fixed blocks of rows, so the
    result doesn't depend on the number of threads.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats, of NumPy, torch, CuPy or any library with DLPack.
        Of float32, components of the gradient below about 10⁻¹⁹ lose digits in the squares, to 0 below
        10⁻²³; where one is above 10¹⁷ the deviation of |∇Y| may be infinite, and above 10¹⁹ its statistics
        are NaN.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    SliceStatistics
        Five float64 arrays of shape ``(...)``.

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than two axes, no pixels, or no such operator.
    OSError
        As of `gradient_magnitude`.

    Examples
    --------
    A ramp of 2 grey values a pixel; Sobel's masks multiply a gradient by 8, and by 4 at the border:

    >>> import numpy as np
    >>> ramp = np.tile(2 * np.arange(5, dtype=np.uint8), (4, 1))
    >>> statistics = slice_statistics(ramp)
    >>> float(statistics.mean), float(statistics.mean_gradient), float(statistics.total_variation)
    (4.0, 12.8, 256.0)
    """
    with Call(backend, stream, images=images) as call:
        given = call.input("images", trailing=2)
        slices = stacked(given, 2)
        out = call.xp.empty((len(slices), 2, 3))
        call.loops("statistics").moments(slices, mask_of(operator), out)
        count, mean, squares = call.xp.moveaxis(out, -1, 0).reshape((3, *given.shape[:-2], 2))
        deviation, totals = call.xp.sqrt(squares / count), mean * count
        return call.result(
            SliceStatistics(
                mean=mean[..., 0],
                deviation=deviation[..., 0],
                mean_gradient=mean[..., 1],
                total_variation=totals[..., 1],
                deviation_gradient=deviation[..., 1],
            )
        )
