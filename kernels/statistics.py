"""Statistics of slices and of the size of their gradient (paper, Fig. 3)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, stacked, working_dtype
from eigenfeatures.kernels.cpu import gradient as gradient_loops
from eigenfeatures.kernels.cpu import statistics as loops
from eigenfeatures.kernels.interop import any_library
from eigenfeatures.kernels.operators import Operator, mask_of


class SliceStatistics(NamedTuple):
    """Statistics of each slice, float64 of the batch's leading shape.

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

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    mean_gradient: NDArray[np.float64]
    total_variation: NDArray[np.float64]
    deviation_gradient: NDArray[np.float64]


@any_library
def slice_statistics(images: ArrayLike, operator: Operator = "sobel") -> SliceStatistics:
    """Measure each slice and its |∇Y| in one pass that writes no image.

    Sums are float64 and over fixed blocks of rows, so the result doesn't depend
    on the number of threads.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.

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
    """
    given = loop_input(images, "images", trailing=2)
    mask = mask_of(operator)
    slices = stacked(given, 2)
    weights = np.array([mask.side, mask.centre], working_dtype(given))
    count, height, width = slices.shape
    blocks = np.empty((count, gradient_loops.block_count(height), 4))
    loops.sums(slices, weights, mask.one_sided, blocks)
    moments = np.moveaxis(blocks.sum(axis=1), -1, 0).reshape((4, *given.shape[:-2]))
    total, squares, variation, steepness = moments
    pixels = height * width
    first = slices[:, 0, 0].astype(np.float64).reshape(given.shape[:-2])
    return SliceStatistics(
        mean=first + total / pixels,
        deviation=_deviation(total / pixels, squares / pixels),
        mean_gradient=variation / pixels,
        total_variation=variation,
        deviation_gradient=_deviation(variation / pixels, steepness / pixels),
    )


def _deviation(mean: NDArray[np.float64], mean_square: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite sums make a NaN, as they should
        variance = np.asarray(mean_square - mean * mean)
    return np.sqrt(np.maximum(variance, 0.0))
