"""What the two passes of a streaming SVD make of a part on the host.

`eigenfeatures.kernels.cuda.streaming` has the same for a part on a GPU.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only
from eigenfeatures.kernels.cpu import passes as loops
from eigenfeatures.kernels.cpu.gram import TILE, part_count, sum_of_parts
from eigenfeatures.kernels.cpu.streaming import centred_left_vectors, part_sums
from eigenfeatures.kernels.moments import Moments, exponent_of, means
from eigenfeatures.kernels.second_pass import StreamedSVD, scaled_weights

# Columns whose sums are added up plainly, before they are joined to others with what rounding took.
_BLOCK = 64 * TILE

# Sums of squares that neither overflow nor lose anything to underflow.
_LEAST, _MOST = 2.0**-380, 2.0**380


def block_moments(x: NDArray[Any], center: bool, first_only: bool) -> Iterator[Moments]:
    """Yield the moments of each block of columns of rows (C, n).

    With `first_only` they serve for the first triplet alone: products may be of float32 then, where
    `eigenfeatures.kernels.cpu.streaming` shows that to be enough.

    Raises
    ------
    FloatingPointError
        Where a value is NaN or infinite.
    """
    narrow = first_only and not center and x.dtype.itemsize <= np.dtype(np.float32).itemsize
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float32 if narrow else np.float64)
    for first in range(0, x.shape[1], _BLOCK):
        yield _moments(x, first, min(first + _BLOCK, x.shape[1]), center, narrow)


def left_vectors(
    x: NDArray[Any], mean: NDArray[np.float64] | None, svd: StreamedSVD, u: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fill `u` (rank, n) with the left vectors of rows (C, n) less their mean; return what measures them.

    That is `squares` and `across` of these columns, as in `SecondPass`.
    """
    precision = u.dtype if mean is None else np.dtype(np.float64)
    weights, exponent, first = scaled_weights(svd, precision)
    x = x.astype(u.dtype, copy=False)
    x = read_only(np.ldexp(x, -exponent) if exponent else x)
    tiles = loops.tile_count(x.shape[1]) if mean is None else -(-x.shape[1] // TILE)
    squares = np.empty((tiles, len(weights), 2))
    products = np.empty((tiles, *weights.shape))
    if mean is None:
        loops.left_vectors(x, weights, u, squares, products)
    else:
        centred_left_vectors(x, np.ldexp(mean, -exponent), weights, u, squares, products)
    # Of a triplet that counts as zero only ‖X v_i‖ / s_1 is needed.
    u[svd.s == 0] = 0
    return squares.sum(axis=0), products.sum(axis=0) / first


def _moments(x: NDArray[Any], first: int, stop: int, center: bool, narrow: bool) -> Moments:
    """Return the moments of columns of rows (C, n), in units in which they can be squared and summed."""
    with np.errstate(over="ignore", invalid="ignore"):
        moments = _plain_moments(x, first, stop, center, narrow)
        if _LEAST < moments.gram.trace() < _MOST:
            return moments
        block = x[:, first:stop]
        exponent = exponent_of(float(block.min()), float(block.max()))
    scaled = np.ldexp(block.astype(np.float64), -exponent)
    return _plain_moments(scaled, 0, stop - first, center, False)._replace(exponent=exponent)


def _plain_moments(x: NDArray[Any], first: int, stop: int, center: bool, narrow: bool) -> Moments:
    """Return the moments of columns of rows (C, n) in units of 1.

    Centred ones are taken about the mean of the first tile, which leaves little to be taken off their
    products afterwards, and nothing of a constant map.
    """
    channels, pixels = len(x), stop - first
    shift = np.zeros(channels)
    if center:
        shift = means(x[:, first : min(first + TILE, stop)].astype(np.float64), center)
    parts = part_count(channels, pixels)
    products, totals = np.empty((parts, channels, channels)), np.empty((parts, channels))
    negative = np.empty(parts, np.bool_)
    part_sums(read_only(x), first, stop, shift, narrow, products, totals, negative)
    gram, mean = sum_of_parts(products), totals.sum(axis=0) / pixels
    if center:
        gram -= np.outer(mean, pixels * mean)
    return Moments(pixels, 0, shift + mean, gram, np.zeros_like(gram), not negative.any())
