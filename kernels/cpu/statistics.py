"""Moments of slices and their |∇Y|, and the slices standardised by them.

Sums are in the precision of the arithmetic over short runs of pixels and in float64 beyond, taken
about a mean of nearby pixels so that a small deviation survives a large mean. Blocks of rows are joined
in order (Chan, Golub, LeVeque 1983), so the result doesn't depend on the number of threads.

|∇Y| is summed in the loop that finds it, over the rows of a block as if they were one (see `gradient`).
What that loop finds at the ends of rows, from wrong neighbours, is left out of the sums: it can be so much
larger than |∇Y| that to subtract it later would leave rounding.
"""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import working_dtype
from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction
from eigenfeatures.kernels.cpu.gradient import (
    BLOCK_ROWS,
    band,
    band_stop,
    block_count,
    components,
    components_at_edge,
    norm,
    weights_for,
)
from eigenfeatures.kernels.operators import Mask

# Pixels whose sum is in the precision of the arithmetic: with 8 vector lanes or more, the rounding
# of 256 additions, at most 1.5·10⁻⁵ and typically 10⁻⁷ of the sum in float32.
RUN = 2048

# Bytes of a standardised slice that stay in a core's second-level cache until they are divided.
SLICE = 1 << 20

# Below this, the deviation of |∇Y| against its mean is the rounding of float32.
CONSTANT = 1e-6

# Mean square of grey values below which squares in float32 may have vanished or lost digits.
_VANISHING = 2.0**-100


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
def fill_moments(count: int, centre: Any, total: float, squares: float, out: Any) -> None:
    """Fill `out` (3) with the moments of values by their number and their sums about `centre`."""
    out[0] = count
    out[1] = np.float64(centre) + total / count
    out[2] = max(squares - total * (total / count), 0.0) if squares == squares else squares


@helper
def about_mean(values: Any, centre: Any, out: Any) -> None:
    """Fill `out` (3) with the count, the mean and the sum of squares about the mean."""
    total, squares = sums(values, centre)
    fill_moments(values.size, centre, total, squares, out)


@helper
def exact_sums(values: Any) -> tuple[int, int]:
    """Return Σv and Σv² of 8-bit values."""
    total, squares = 0, 0
    for first in range(0, values.size, RUN):
        # NumPy's functions keep integers of 32 bits, which hold the sums of a run.
        of_run = squares_of_run = np.int32(0)
        for value in values[first : first + RUN]:
            of_run = np.add(of_run, np.int32(value))
            squares_of_run = np.add(squares_of_run, np.multiply(np.int32(value), np.int32(value)))
        total += int(of_run)
        squares += int(squares_of_run)
    return total, squares


@helper
def grey_moments(rows: Any, zero: Any, out: Any) -> None:
    """Fill `out` (3) with the moments of grey values; `zero` is None where their sums are exact."""
    values = flat(rows)
    if zero is None:
        total, squares = exact_sums(values)
        fill_moments(values.size, 0, total, squares, out)
    else:
        about_mean(values, row_mean(rows[0], zero[0]), out)


@reduction
def fill_runs(
    a: Any, b: Any, c: Any, mask: Any, one_sided: bool, centre: Any, inner: Any, out: Any
) -> tuple[float, float]:
    """Return Σ(|∇Y| − centre) and Σ(|∇Y| − centre)² at pixels of a long row `b` (n) where `inner` isn't 0.

    The first and the last pixel are passed over. Fill `out` (n) with |∇Y| at the others, if it isn't None.
    """
    n, number, real = b.size - 2, mask.dtype.type, type(centre)
    a0, a1, a2 = a[:n], a[1 : n + 1], a[2 : n + 2]
    b0, b1, b2 = b[:n], b[1 : n + 1], b[2 : n + 2]
    c0, c1, c2 = c[:n], c[1 : n + 1], c[2 : n + 2]
    kept = inner[1 : n + 1]
    if out is not None:
        lengths = out[1 : n + 1]
    side, middle, zero = mask[0], mask[1], centre - centre
    total, squares = 0.0, 0.0
    for first in range(0, n, RUN):
        of_run = squares_of_run = zero
        # Numba counts a negative index from the end. An unsigned one is never negative, and without that
        # question the loop fits vector lanes.
        for j in range(np.uintp(first), np.uintp(min(first + RUN, n))):
            down, along = components(
                number(a0[j]), number(a1[j]), number(a2[j]), number(b0[j]), number(b1[j]), number(b2[j]),
                number(c0[j]), number(c1[j]), number(c2[j]), side, middle, one_sided,
            )  # fmt: skip
            length = norm(real(down), real(along))
            if out is not None:
                lengths[j] = length
            value = length - centre if kept[j] != 0 else zero
            of_run += value
            squares_of_run += value * value
        total += np.float64(of_run)
        squares += np.float64(squares_of_run)
    return total, squares


@helper
def flat(rows: Any) -> Any:
    """Return rows as one long row, or None for None."""
    return None if rows is None else rows.reshape(rows.size)


@helper
def part(rows: Any, first: int, stop: int) -> Any:
    """Return some of the rows, or None for None."""
    return None if rows is None else rows[first:stop]


@helper
def fill_rows(
    above: Any, here: Any, below: Any, mask: Any, one_sided: bool, centre: Any, inner: Any, out: Any
) -> tuple[float, float]:
    """Return Σ(|∇Y| − centre) and Σ(|∇Y| − centre)² in rows (r, W); fill `out` with |∇Y| if it isn't None."""
    real, width = type(centre), here.shape[1]
    total, squares = 0.0, 0.0
    if here.size > 2:
        total, squares = fill_runs(
            flat(above), flat(here), flat(below), mask, one_sided, centre, inner, flat(out)
        )
    for i in range(len(here)):
        for side in range(min(width, 2)):
            j = side * (width - 1)
            down, along = components_at_edge(above, here, below, i, j, mask, one_sided)
            length = norm(real(down), real(along))
            if out is not None:
                out[i, j] = length
            value = np.float64(length - centre)
            total += value
            squares += value * value
    return total, squares


@helper
def gradient_moments(
    image: Any, first: int, stop: int, mask: Any, one_sided: bool, inner: Any, zero: Any, rows: Any, out: Any
) -> None:
    """Fill `out` (3) with the moments of |∇Y| in rows `first` to `stop`; fill `rows` with it if not None."""
    height, width = image.shape
    above, here, below = band(image, first, first + 1)
    of_row, _ = fill_rows(above, here, below, mask, one_sided, zero, inner, part(rows, 0, 1))
    centre = type(zero)(of_row / width)
    total, squares = 0.0, 0.0
    start = first
    while start < stop:
        end = band_stop(height, start, stop)
        above, here, below = band(image, start, end)
        of_rows = fill_rows(
            above, here, below, mask, one_sided, centre, inner, part(rows, start - first, end - first)
        )
        total += of_rows[0]
        squares += of_rows[1]
        start = end
    fill_moments((stop - first) * width, centre, total, squares, out)


@helper
def scale_of(moments: Any, zero: Any) -> tuple[Any, Any]:
    """Return the mean and the factor that standardise |∇Y| with these moments (3)."""
    mean = moments[1]
    deviation = np.sqrt(moments[2] / moments[0])
    factor = 0.0 if deviation <= CONSTANT * mean else 1.0 / deviation
    if deviation == np.inf:  # |∇Y| is finite, and the sum of squares was not
        factor = np.nan
    return type(zero)(mean), type(zero)(factor)


@helper
def rescale(rows: Any, mean: Any, factor: Any) -> None:
    """Replace values (r, W) by (value − mean) · factor."""
    values = flat(rows)
    for j in range(values.size):
        values[j] = (values[j] - mean) * factor


@Kernel
def _moments(
    images: Any, mask: Any, one_sided: bool, inner: Any, zero: Any, grey_zero: Any, blocks: Any, out: Any
) -> None:
    count, height = images.shape[:2]
    per_slice = block_count(height)
    for task in prange(count * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        of_gradient = blocks[s, block, 1]
        gradient_moments(images[s], first, stop, mask, one_sided, inner, zero[0], None, of_gradient)
        # By now these rows are in the cache.
        grey_moments(images[s, first:stop], grey_zero, blocks[s, block, 0])
    for s in prange(count):
        out[s] = 0.0
        for block in range(per_slice):
            join(out[s, 0], blocks[s, block, 0])
            join(out[s, 1], blocks[s, block, 1])


@Kernel
def _wide_moments(images: Any, chosen: Any, zero: Any, blocks: Any, out: Any) -> None:
    """Fill in the moments of grey values whose squares may leave float32's range, by float64."""
    height, per_slice = images.shape[1], blocks.shape[1]
    for task in prange(len(chosen) * per_slice):
        k, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        grey_moments(images[chosen[k], first:stop], zero, blocks[k, block])
    for k in prange(len(chosen)):
        out[chosen[k], 0] = 0.0
        for block in range(per_slice):
            join(out[chosen[k], 0], blocks[k, block])


@Kernel
def _standardized_small(images: Any, mask: Any, one_sided: bool, inner: Any, blocks: Any, out: Any) -> None:
    height, zero = images.shape[1], out.dtype.type(0)
    for s in prange(len(images)):
        of_slice = np.zeros(3)
        for block in range(blocks.shape[1]):
            first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
            rows = out[s, first:stop]
            gradient_moments(images[s], first, stop, mask, one_sided, inner, zero, rows, blocks[s, block])
            join(of_slice, blocks[s, block])
        mean, factor = scale_of(of_slice, zero)
        rescale(out[s], mean, factor)


@Kernel
def _standardized_large(
    images: Any, mask: Any, one_sided: bool, inner: Any, blocks: Any, slices: Any, out: Any
) -> None:
    height, per_slice, zero = images.shape[1], blocks.shape[1], out.dtype.type(0)
    for task in prange(len(images) * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        rows = out[s, first:stop]
        gradient_moments(images[s], first, stop, mask, one_sided, inner, zero, rows, blocks[s, block])
    for s in prange(len(images)):
        slices[s] = 0.0
        for block in range(per_slice):
            join(slices[s], blocks[s, block])
    for task in prange(len(images) * per_slice):
        s, block = task // per_slice, task % per_slice
        first, stop = block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, height)
        mean, factor = scale_of(slices[s], zero)
        rescale(out[s, first:stop], mean, factor)


def inner_of(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 0 for the first and the last pixel of each row of a block, and 1 for others."""
    inner = np.ones((min(images.shape[1], BLOCK_ROWS), images.shape[2]), np.uint8)
    inner[:, [0, -1]] = 0
    return inner.reshape(inner.size)


def moments(images: NDArray[Any], mask: Mask, out: NDArray[np.float64]) -> None:
    """Fill `out` (N, 2, 3) with the count, the mean and the sum of squares about it, of Y and of |∇Y|."""
    zero = np.zeros(1, working_dtype(images))
    blocks = np.empty((len(images), block_count(images.shape[1]), 2, 3))
    grey_zero = None if images.dtype == np.uint8 else zero
    weights = weights_for(images, mask, zero.dtype)
    _moments(images, weights, mask.one_sided, inner_of(images), zero, grey_zero, blocks, out)
    if images.dtype.kind == "f" and zero.dtype == np.float32:
        mean_square = out[:, 0, 2] / out[:, 0, 0]
        chosen = np.flatnonzero(~((mean_square > _VANISHING) & (mean_square < np.inf)))
        if chosen.size > 0:
            _wide_moments(images, chosen, np.zeros(1), blocks[: len(chosen), :, 0], out)


def standardized(images: NDArray[Any], mask: Mask, out: NDArray[Any]) -> None:
    """Fill `out` (N, H, W) with |∇Y| of each slice, less its mean and over its deviation.

    A deviation of at most `CONSTANT` times the mean gives zeros. A slice that fits a core's cache
    is divided while it is there. Both ways give the same bits.
    """
    blocks = np.empty((len(images), block_count(images.shape[1]), 3))
    weights, inner = weights_for(images, mask, out.dtype), inner_of(images)
    if out[:1].nbytes <= SLICE:
        _standardized_small(images, weights, mask.one_sided, inner, blocks, out)
    else:
        slices = np.empty((len(images), 3))
        _standardized_large(images, weights, mask.one_sided, inner, blocks, slices, out)
