"""The gradient of slices and its size, raw or standardised (paper, eq. 1 to 3)."""

import math
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import Foreign, ForeignArray, real_number, stacked, working_dtype
from eigenfeatures.kernels.call import Backend, Call
from eigenfeatures.kernels.operators import Operator, mask_of


@overload
def gradient(
    images: Foreign, operator: Operator = ..., *, backend: Backend = ..., stream: object = ...
) -> tuple[Foreign, Foreign]: ...
@overload
def gradient(
    images: ArrayLike, operator: Operator = ..., *, backend: Backend = ..., stream: object = ...
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def gradient(
    images: ArrayLike | ForeignArray,
    operator: Operator = "sobel",
    *,
    backend: Backend = "auto",
    stream: object = None,
) -> tuple[NDArray[Any] | ForeignArray, NDArray[Any] | ForeignArray]:
    """Approximate the gradient of each slice.

    With d the difference ``Y[j + 1] - Y[j - 1]``: ``central`` is d/2, and ``prewitt``,
    ``sobel`` and ``scharr`` sum d over three rows with weights 1 1 1, 1 2 1 and 3 10 3,
    undivided. ``forward`` is ``Y[j + 1] - Y[j]``, zero at the last pixel. Borders repeat
    the edge pixel. Components equal those of ``cv2.Sobel`` with ``BORDER_REPLICATE`` and of
    ``scipy.ndimage.sobel`` and ``prewitt`` with ``mode="nearest"``.

    Reads each pixel from memory once and writes two numbers for it: O(N·H·W). Masks: Prewitt 1970,
    Sobel and Feldman 1968, Scharr 2000; the paper's is Sobel's (Fig. 4d).

    A mirrored slice has the mirrored gradient, with the sign of the component across
    the mirror changed; this doesn't hold for ``forward``, which looks one way.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats, each on its own.
    operator
        One of `OPERATORS`.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    gy, gx : array
        Components down the rows and along them, of the input's shape, in grey values a pixel times the
        operator's scale: float32 for 8-bit, 16-bit and float32 input, else float64.

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
    >>> import numpy as np
    >>> gy, gx = gradient(np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]], np.uint8), "central")
    >>> gx[1].tolist(), gy[1].tolist()
    ([0.5, 1.0, 0.5], [0.0, 0.0, 0.0])
    """
    with Call(backend, stream, images=images) as call:
        given = call.input("images", trailing=2)
        mask = mask_of(operator)
        dtype = working_dtype(given)
        gy, gx = call.xp.empty(given.shape, dtype), call.xp.empty(given.shape, dtype)
        call.loops("gradient").gradient(stacked(given, 2), mask, stacked(gy, 2), stacked(gx, 2))
        return call.result((gy, gx))


@overload
def gradient_magnitude(
    images: Foreign,
    operator: Operator = ...,
    *,
    out: Foreign | None = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> Foreign: ...
@overload
def gradient_magnitude(
    images: ArrayLike,
    operator: Operator = ...,
    *,
    out: NDArray[Any] | None = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> NDArray[Any]: ...
def gradient_magnitude(
    images: ArrayLike | ForeignArray,
    operator: Operator = "sobel",
    *,
    out: NDArray[Any] | ForeignArray | None = None,
    backend: Backend = "auto",
    stream: object = None,
) -> NDArray[Any] | ForeignArray:
    """Compute |∇Y| = √(Yx² + Yy²) of each slice (paper, eq. 2).

    Against scikit-image on float input (it rescales integers, so cast first), ours is
    `skimage.filters.sobel` × 4√2, `prewitt` × 3√2 and `scharr` × 16√2. Mirrors commute
    with |∇Y|, except for ``forward``. Reads each pixel from memory once and writes one number: O(N·H·W).

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats. Of float32, components of the gradient below about
        10⁻¹⁹ lose digits in the squares, to 0 below 10⁻²³, and those above 10¹⁹ give infinity.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.
    out
        Array to fill, of the result's shape and dtype and of the same library and device as `images`.
        One that isn't C-contiguous or of native byte order costs a copy.
    backend
        ``"auto"`` computes where the arrays are. ``"cuda"`` brings host arrays to the GPU and the
        result back; ``"cpu"`` refuses arrays of a GPU.
    stream
        CUDA stream to work on: of CuPy, of torch, or its address. By default the current
        one of the arrays' library.

    Returns
    -------
    array
        |∇Y| of the input's shape, of its library and on its device, in grey values a pixel times the
        operator's scale: float32 for 8-bit, 16-bit and float32 input, else float64. `out` itself if it is
        given.

    Raises
    ------
    TypeError
        Where the elements are not real numbers, `out` has another dtype, or arrays are of two
        libraries or devices.
    ValueError
        Where there are fewer than two axes, no pixels, no such operator, or `out` doesn't fit.
    OSError
        Where a GPU is asked for and its packages or the device are missing, or that is older than compute
        capability 8.0.

    Examples
    --------
    >>> import numpy as np
    >>> spot = np.zeros((3, 3), np.uint8)
    >>> spot[1, 1] = 1
    >>> gradient_magnitude(spot)[1].tolist()
    [2.0, 0.0, 2.0]
    """
    with Call(backend, stream, images=images, out=out) as call:
        given = call.input("images", trailing=2)
        return call.result(_magnitude(call, given, operator, 0.0, 1.0))


@overload
def standardized_gradient(
    images: Foreign,
    operator: Operator = ...,
    *,
    mean: float | None = ...,
    deviation: float | None = ...,
    out: Foreign | None = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> Foreign: ...
@overload
def standardized_gradient(
    images: ArrayLike,
    operator: Operator = ...,
    *,
    mean: float | None = ...,
    deviation: float | None = ...,
    out: NDArray[Any] | None = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> NDArray[Any]: ...
def standardized_gradient(
    images: ArrayLike | ForeignArray,
    operator: Operator = "sobel",
    *,
    mean: float | None = None,
    deviation: float | None = None,
    out: NDArray[Any] | ForeignArray | None = None,
    backend: Backend = "auto",
    stream: object = None,
) -> NDArray[Any] | ForeignArray:
    """Compute |∇Y| of each slice, zero-centred and divided by its standard deviation.

    A slice up to 1 MB of results is divided while it is in a core's cache; a larger one is read and
    written once more. O(N·H·W).

    This is the network's input (paper, section 2.3). By default every slice has its own
    mean and deviation (ddof 0), and a slice whose deviation is at most 10⁻⁶ of the mean
    of |∇Y| gives zeros. With `mean` and `deviation` of a whole data set instead, the
    contrast between samples is kept.

    Parameters
    ----------
    images
        Slices ``(..., H, W)`` of integers or floats. The range of float32 is that of `gradient_magnitude`:
        a slice whose |∇Y| is infinite, or above 10¹⁷ so that its squares may add up to infinity, is NaN
        throughout where it has its own mean.
    operator
        One of `OPERATORS`; see `gradient` for their scales and borders.
    mean, deviation
        Mean and standard deviation of |∇Y| over a data set, both or neither;
        `SliceStatistics` tells how to pool them.
    out, backend, stream
        What to fill and where to compute; see `gradient_magnitude`.

    Returns
    -------
    array
        Of the input's shape, in standard deviations: float32 for 8-bit, 16-bit and float32 input, else
        float64.

    Raises
    ------
    TypeError
        Where the elements, `mean` or `deviation` are not real numbers, or `out` has another dtype.
    ValueError
        Where there are fewer than two axes, no pixels, no such operator, only one of `mean`
        and `deviation`, a deviation that isn't positive and finite, either of them beyond what the precision
        of the result computes with, or `out` doesn't fit.
    OSError
        As of `gradient_magnitude`.

    Examples
    --------
    >>> import numpy as np
    >>> slices = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    >>> standardized = standardized_gradient(slices)
    >>> bool(np.allclose(standardized.mean(axis=(1, 2)), 0, atol=1e-6))
    True
    >>> bool(np.allclose(standardized.std(axis=(1, 2)), 1, atol=1e-5))
    True
    """
    if (mean is None) != (deviation is None):
        raise ValueError("give both mean and deviation of a data set, or neither")
    with Call(backend, stream, images=images, out=out) as call:
        given = call.input("images", trailing=2)
        if mean is None or deviation is None:
            filled = call.output(given.shape, working_dtype(given))
            call.loops("statistics").standardized(stacked(given, 2), mask_of(operator), stacked(filled, 2))
            return call.result(filled)
        mean, deviation = real_number(mean, "mean"), real_number(deviation, "deviation")
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
            raise ValueError(f"mean {mean} and deviation {deviation} must be finite, deviation positive")
        working = working_dtype(given)
        least = float(np.finfo(working).tiny)
        if abs(mean) > 1 / least or not least <= deviation <= 1 / least:
            raise ValueError(f"mean {mean} and deviation {deviation} are beyond what {working} computes with")
        return call.result(_magnitude(call, given, operator, mean, 1.0 / deviation))


def _magnitude(
    call: Call, given: NDArray[Any], operator: Operator, mean: float, factor: float
) -> NDArray[Any]:
    mask = mask_of(operator)
    filled = call.output(given.shape, working_dtype(given))
    call.loops("gradient").magnitude(stacked(given, 2), mask, mean, factor, stacked(filled, 2))
    return filled
