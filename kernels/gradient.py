"""The gradient of slices and its size, raw or standardised (paper, eq. 1 to 3)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, output, stacked, working_dtype
from eigenfeatures.kernels.cpu import gradient as loops
from eigenfeatures.kernels.interop import any_library
from eigenfeatures.kernels.operators import Operator, mask_of
from eigenfeatures.kernels.statistics import slice_statistics

# Below this, the deviation of |∇Y| against its mean is the rounding of float32.
_CONSTANT = 1e-6


@any_library
def gradient(images: ArrayLike, operator: Operator = "sobel") -> tuple[NDArray[Any], NDArray[Any]]:
    """Approximate the gradient of each slice.

    With d the difference ``Y[j + 1] - Y[j - 1]``: ``central`` is d/2, and ``prewitt``,
    ``sobel`` and ``scharr`` sum d over three rows with weights 1 1 1, 1 2 1 and 3 10 3,
    undivided. ``forward`` is ``Y[j + 1] - Y[j]``, zero at the last pixel. Borders repeat
    the edge pixel. Components equal those of ``cv2.Sobel`` with ``BORDER_REPLICATE`` and of
    ``scipy.ndimage.sobel`` and ``prewitt`` with ``mode="nearest"``.

    A mirrored slice has the mirrored gradient, with the sign of the component across
    the mirror changed; this doesn't hold for ``forward``, which looks one way.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats, each on its own.
    operator
        One of `OPERATORS`.

    Returns
    -------
    gy, gx : numpy.ndarray
        Components down the rows and along them, of the input's shape: float32 for 8-bit,
        16-bit and float32 input, else float64.

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than two axes, no pixels, or no such operator.
    """
    given = loop_input(images, "images", trailing=2)
    mask = mask_of(operator)
    dtype = working_dtype(given)
    gy, gx = np.empty(given.shape, dtype), np.empty(given.shape, dtype)
    weights = np.array([mask.side, mask.centre], dtype)
    loops.gradient(stacked(given, 2), weights, mask.one_sided, stacked(gy, 2), stacked(gx, 2))
    return gy, gx


@any_library
def gradient_magnitude(
    images: ArrayLike, operator: Operator = "sobel", *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Compute |∇Y| = √(Yx² + Yy²) of each slice (paper, eq. 2).

    Against scikit-image on float input (it rescales integers, so cast first), ours is
    `skimage.filters.sobel` × 4√2, `prewitt` × 3√2 and `scharr` × 16√2. Mirrors commute
    with |∇Y|, except for ``forward``.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats. Values of float32 beyond about
        10¹⁸ overflow in the squares.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.
    out
        C-contiguous array to fill, of the result's shape and dtype.

    Returns
    -------
    numpy.ndarray
        |∇Y| of the input's shape: float32 for 8-bit, 16-bit and float32 input, else float64.

    Raises
    ------
    TypeError
        Where the elements are not real numbers, or `out` has another dtype.
    ValueError
        Where there are fewer than two axes, no pixels, no such operator, or `out` doesn't fit.
    """
    given = loop_input(images, "images", trailing=2)
    leading = given.shape[:-2]
    return _magnitude(given, operator, np.zeros(leading), np.ones(leading), out)


@any_library
def standardized_gradient(
    images: ArrayLike,
    operator: Operator = "sobel",
    *,
    mean: float | None = None,
    deviation: float | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Compute |∇Y| of each slice, zero-centred and divided by its standard deviation.

    This is the network's input (paper, section 2.3). By default every slice has its own
    mean and deviation (ddof 0), and a slice whose deviation is at most 10⁻⁶ of the mean
    of |∇Y| gives zeros. With `mean` and `deviation` of a whole data set instead, the
    contrast between samples is kept.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.
    mean, deviation
        Mean and standard deviation of |∇Y| over a data set, both or neither;
        `SliceStatistics` tells how to pool them.
    out
        C-contiguous array to fill, of the result's shape and dtype.

    Returns
    -------
    numpy.ndarray
        Of the input's shape: float32 for 8-bit, 16-bit and float32 input, else float64.

    Raises
    ------
    TypeError
        Where the elements are not real numbers, or `out` has another dtype.
    ValueError
        Where there are fewer than two axes, no pixels, no such operator, only one of `mean`
        and `deviation`, a deviation that isn't positive and finite, or `out` doesn't fit.
    """
    given = loop_input(images, "images", trailing=2)
    if (mean is None) != (deviation is None):
        raise ValueError("give both mean and deviation of a data set, or neither")
    if mean is None or deviation is None:
        statistics = slice_statistics(given, operator)
        means, deviations = statistics.mean_gradient, statistics.deviation_gradient
        constant = deviations <= _CONSTANT * means
        factors = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviations))
    else:
        if not (np.isfinite(mean) and np.isfinite(deviation) and deviation > 0):
            raise ValueError(f"mean {mean} and deviation {deviation} must be finite, deviation positive")
        means = np.full(given.shape[:-2], float(mean))
        factors = np.full(given.shape[:-2], 1.0 / deviation)
    return _magnitude(given, operator, means, factors, out)


def _magnitude(
    given: NDArray[Any],
    operator: Operator,
    means: NDArray[np.float64],
    factors: NDArray[np.float64],
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    mask = mask_of(operator)
    dtype = working_dtype(given)
    filled = output(out, given.shape, dtype, given)
    loops.magnitude(
        stacked(given, 2),
        np.array([mask.side, mask.centre], dtype),
        mask.one_sided,
        means.astype(dtype).reshape(-1),
        factors.astype(dtype).reshape(-1),
        stacked(filled, 2),
    )
    return filled
