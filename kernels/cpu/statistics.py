"""Moments of slices and their |∇Y|, and the slices standardised by them.

Sums are in the precision of the arithmetic over short runs of pixels and in float64 beyond, taken
about a mean of nearby pixels so that a small deviation survives a large mean. Blocks of rows are joined
in order (Chan, Golub, LeVeque 1983), so the result doesn't depend on the number of threads.
"""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import working_dtype
from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction
from eigenfeatures.kernels.cpu.gradient import BLOCK_ROWS, block_count, magnitude_block, weights_for
from eigenfeatures.kernels.operators import Mask

# Pixels whose sum is in the precision of the arithmetic: with 8 vector lanes or more, the rounding
# of 64 additions, at most 4·10⁻⁶ and typically 3·10⁻⁷ of the sum in float32.
RUN = 512

# Bytes of |∇Y| that stay in a core's first-level cache until they are summed.
BUFFER = 16384

# Bytes of a standardised slice that stay in a core's second-level cache until they are divided.
SLICE = 1 << 20

# Below this, the deviation of |∇Y| against its mean is the rounding of float32.
CONSTANT = 1e-6


@reduction
def run_sums(values: Any, centre: Any) -> tuple[Any, Any]:
    """Return Σ(v − centre) and Σ(v − centre)² of a short run."""
    total = squares = centre - centre
    for j in range(values.size):
        value = type(centre)(values[j]) - centre
        total += value
        squares += value * value
    return total, squares


@helper
def sums(values: Any, centre: Any) -> tuple[float, float]:
    """Return Σ(v − centre) and Σ(v − centre)² in float64."""
    total, squares = 0.0, 0.0
    for first in range(0, values.size, RUN):
        of_run = run_sums(values[first : first + RUN], centre)
        total += np.float64(of_run[0])
        squares += np.float64(of_run[1])
    return total, squares


@helper
def row_mean(row: Any, zero: Any) -> Any:
    """Return the mean of a row in the precision of `zero`, cut to an integer for integers.

    So differences from it are exact for 8 and 16 bits.
    """
    return type(zero)(row.dtype.type(sums(row, zero)[0] / row.size))


@helper
def join(moments: Any, other: Any) -> None:
    """Add a part's count, mean and sum of squares about the mean to those of others (3)."""
    count = moments[0] + other[0]
    apart = other[1] - moments[1]
    moments[1] += apart * (other[0] / count)
    moments[2] += other[2] + apart * apart * (moments[0] * other[0] / count)
    moments[0] = count


@helper
def about_mean(values: Any, centre: Any, out: Any) -> None:
    """Fill `out` (3) with the count, the mean and the sum of squares about the mean."""
    total, squares = sums(values, centre)
    out[0] = values.size
    out[1] = np.float64(centre) + total / values.size
    out[2] = max(squares - total * (total / values.size), 0.0) if squares == squares else squares


@helper
def gradient_moments(
    image: Any, first: int, stop: int, mask: Any, one_sided: bool, rows: Any, out: Any
) -> None:
    """Fill `out` (3) with the moments of |∇Y| in rows `first` to `stop`, which pass through `rows`.

    `rows` holds them all, and keeps them, or a number of rows at a time.
    """
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    width = image.shape[1]
    step = step_rows(width, rows)
    of_part = np.empty(3)
    out[:] = 0.0
    for start in range(first, stop, step):
        count = min(step, stop - start)
        place = start - first if len(rows) == stop - first else 0
        part = rows[place : place + count]
        magnitude_block(image, start, start + count, mask, one_sided, zero, one, part)
        about_mean(part.reshape(count * width), row_mean(part[0], zero), of_part)
        join(out, of_part)


@helper
def step_rows(width: int, rows: Any) -> Any:
    """Return how many rows of |∇Y| of the type of `rows` stay in the first-level cache."""
    return max(1, BUFFER // (width * rows.itemsize))


@helper
def scale_of(moments: Any, zero: Any) -> tuple[Any, Any]:
    """Return the mean and the factor that standardise |∇Y| with these moments (3)."""
    mean = moments[1]
    deviation = np.sqrt(moments[2] / moments[0])
    factor = 0.0 if deviation <= CONSTANT * mean else 1.0 / deviation
    return type(zero)(mean), type(zero)(factor)


@helper
def rescale(rows: Any, mean: Any, factor: Any) -> None:
    """Replace values (r, W) by (value − mean) · factor."""
    flat = rows.reshape(rows.size)
    for j in range(flat.size):
        flat[j] = (flat[j] - mean) * factor


@Kernel
def _moments(images: Any, mask: Any, one_sided: bool, zero: Any, blocks: Any, out: Any) -> None:
    count, height, width = images.shape
    per_slice = block_count(height)
    for task in prange(count * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        grey = images[s, first:stop].reshape((stop - first) * width)
        about_mean(grey, row_mean(images[s, first], zero[0]), blocks[s, block, 0])
        rows = np.empty((min(step_rows(width, zero), stop - first), width), zero.dtype)
        gradient_moments(images[s], first, stop, mask, one_sided, rows, blocks[s, block, 1])
    for s in prange(count):
        out[s] = 0.0
        for block in range(per_slice):
            join(out[s, 0], blocks[s, block, 0])
            join(out[s, 1], blocks[s, block, 1])


@Kernel
def _standardized_small(images: Any, mask: Any, one_sided: bool, blocks: Any, out: Any) -> None:
    height = images.shape[1]
    for s in prange(len(images)):
        of_slice = np.zeros(3)
        for block in range(blocks.shape[1]):
            first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
            gradient_moments(images[s], first, stop, mask, one_sided, out[s, first:stop], blocks[s, block])
            join(of_slice, blocks[s, block])
        mean, factor = scale_of(of_slice, out.dtype.type(0))
        rescale(out[s], mean, factor)


@Kernel
def _standardized_large(images: Any, mask: Any, one_sided: bool, blocks: Any, out: Any) -> None:
    height, per_slice = images.shape[1], blocks.shape[1]
    for task in prange(len(images) * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        gradient_moments(images[s], first, stop, mask, one_sided, out[s, first:stop], blocks[s, block])
    for task in prange(len(images) * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        of_slice = np.zeros(3)
        for other in range(per_slice):
            join(of_slice, blocks[s, other])
        mean, factor = scale_of(of_slice, out.dtype.type(0))
        rescale(out[s, first:stop], mean, factor)


def moments(images: NDArray[Any], mask: Mask, out: NDArray[np.float64]) -> None:
    """Fill `out` (N, 2, 3) with the count, the mean and the sum of squares about it, of Y and of |∇Y|."""
    zero = np.zeros(1, working_dtype(images))
    blocks = np.empty((len(images), block_count(images.shape[1]), 2, 3))
    _moments(images, weights_for(images, mask, zero.dtype), mask.one_sided, zero, blocks, out)
    if zero.dtype == np.float32:
        spread = out[:, 0, 2]
        for s in np.flatnonzero(~((spread > 0) & (spread < np.inf))):
            out[s, 0, 1:] = _wide_moments(images[s])


def _wide_moments(image: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the sum of squares about it of a slice whose squares may leave float32's range."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = image.mean(dtype=np.float64)
        return float(mean), float(np.square(image - mean).sum())


def standardized(images: NDArray[Any], mask: Mask, out: NDArray[Any]) -> None:
    """Fill `out` (N, H, W) with |∇Y| of each slice, less its mean and over its deviation.

    A deviation of at most `CONSTANT` times the mean gives zeros. A slice that fits a core's cache
    is divided while it is there. Both ways give the same bits.
    """
    blocks = np.empty((len(images), block_count(images.shape[1]), 3))
    small = out[:1].nbytes <= SLICE
    fill = _standardized_small if small else _standardized_large
    fill(images, weights_for(images, mask, out.dtype), mask.one_sided, blocks, out)
