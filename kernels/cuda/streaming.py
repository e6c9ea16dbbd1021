"""What the two passes of a streaming SVD make of a part on the GPU.

The counterpart of `eigenfeatures.kernels.host_parts`. Responses are converted to float64, some columns at a
time, and multiplied by cuBLAS; what is kept of them are a few numbers for each pair of channels, on the host.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.gram import ADDED, gram_matrices
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.survey import SURVEYORS
from eigenfeatures.kernels.moments import Moments, exponent_of, means
from eigenfeatures.kernels.second_pass import StreamedSVD, scaled_weights

# Bytes of float64 for the columns that are converted at a time. What is made of them takes up to four times
# as much.
_COPIES = 1 << 27


def block_moments(x: Array, center: bool) -> Iterator[Moments]:
    """Yield the moments of each portion of columns of rows (C, n); see the function for the host.

    Raises
    ------
    FloatingPointError
        Where a value is NaN or infinite.
    """
    for columns in _portions(x):
        block = _widened(x[:, columns])
        lowest, highest = float(block.min()), float(block.max())
        exponent = exponent_of(lowest, highest)
        block = _in_units(block, exponent)
        mean = memory.to_host(means(block, center))
        gram = _gram(block)
        yield Moments(block.shape[1], exponent, mean, gram, np.zeros_like(gram), lowest >= 0)


def left_vectors(
    x: Array, mean: NDArray[np.float64] | None, svd: StreamedSVD, u: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fill `u` (rank, n) with the left vectors of rows (C, n) less their mean, and measure them.

    See the function for the host.
    """
    xp = memory.xp()
    weights, exponent, first = scaled_weights(svd, np.dtype(np.float64))
    on_device = memory.to_device(weights)
    sums = xp.zeros((len(weights), 2))
    products = xp.zeros(weights.shape)
    # Of values far beyond those of the first pass, and of NaN, NumPy would warn.
    with np.errstate(over="ignore", invalid="ignore"):
        for columns in _portions(x):
            block = _widened(x[:, columns])
            if mean is not None:
                block -= memory.to_device(mean)[:, np.newaxis]
            block = _in_units(block, exponent)
            exact = xp.matmul(on_device, block)
            u[:, columns] = exact
            rounded = u[:, columns].astype(np.float64)
            sums[:, 0] += (rounded * rounded).sum(axis=1)
            exact -= rounded
            sums[:, 1] += (exact * exact).sum(axis=1)
            products += xp.matmul(rounded, block.T)
    # Of a triplet that counts as zero, which are the last, only ‖X v_i‖ / s_1 is needed.
    u[np.count_nonzero(svd.s) :] = 0
    return memory.to_host(sums), memory.to_host(products) / first


def _portions(x: Array) -> Iterator[slice]:
    """Yield columns of rows (C, n), as many at a time as may be converted, and whole tiles of them."""
    channels, pixels = x.shape
    step = ADDED * max(1, _COPIES // (channels * ADDED * np.dtype(np.float64).itemsize))
    for first in range(0, pixels, step):
        yield slice(first, min(first + step, pixels))


def _widened(x: Array) -> Array:
    """Copy rows (C, n) in float64."""
    if x.dtype != np.float32:
        return x.astype(np.float64)
    # CuPy's own conversion takes subnormal numbers for zero.
    xp = memory.xp()
    out = xp.empty(x.shape)
    rows = xp.ascontiguousarray(x)
    memory.launch(passes.scaled, len(rows), SURVEYORS, rows, xp.ones(len(rows)), out)
    return out


def _in_units(block: Array, exponent: int) -> Array:
    """Return float64 rows in units of ``2**exponent``."""
    xp = memory.xp()
    return xp.ldexp(block, xp.full((1, 1), -exponent, np.int32)) if exponent else block


def _gram(block: Array) -> NDArray[np.float64]:
    """Return XᵀX (C, C) of float64 rows (C, n), exactly symmetric, on the host.

    Sums go over `ADDED` columns each and are then added. One sum over all columns may have an error of
    about 10⁻¹⁴, by which left vectors of small singular values lose their right angles.
    """
    xp = memory.xp()
    channels, pixels = block.shape
    whole = pixels // ADDED * ADDED
    total = xp.zeros((channels, channels))
    if whole > 0:
        tiles = block[:, :whole].reshape(channels, -1, ADDED).transpose(1, 0, 2)
        total += gram_matrices(xp.ascontiguousarray(tiles), np.float64).sum(axis=0)
    if whole < pixels:
        total += gram_matrices(xp.ascontiguousarray(block[:, whole:])[np.newaxis], np.float64)[0]
    upper: NDArray[np.float64] = np.triu(memory.to_host(total))
    return upper + np.triu(upper, 1).T
