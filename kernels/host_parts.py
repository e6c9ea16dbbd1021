"""What the two passes of a streaming SVD make of a part on the host.

`eigenfeatures.kernels.cuda.streaming` has the same for a part on a GPU.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only
from eigenfeatures.kernels.cpu import passes as loops
from eigenfeatures.kernels.cpu.gram import gram_matrix
from eigenfeatures.kernels.moments import Moments, exponent_of, means
from eigenfeatures.kernels.second_pass import StreamedSVD, scaled_weights

# Columns whose sums are taken at once, as float64 in a core's cache.
_BLOCK = 4096


def block_moments(x: NDArray[Any], center: bool) -> Iterator[Moments]:
    """Yield the moments of each block of columns of rows (C, n).

    Raises
    ------
    FloatingPointError
        Where a value is NaN or infinite.
    """
    for first in range(0, x.shape[1], _BLOCK):
        yield _moments(x[:, first : first + _BLOCK], center)


def left_vectors(
    x: NDArray[Any], mean: NDArray[np.float64] | None, svd: StreamedSVD, u: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fill `u` (rank, n) with the left vectors of rows (C, n) less their mean; return what measures them.

    That is `squares` and `across` of these columns, as in `SecondPass`.
    """
    weights, exponent, first = scaled_weights(svd, u.dtype)
    tiles = loops.tile_count(x.shape[1])
    squares = np.empty((tiles, len(weights), 2))
    products = np.empty((tiles, *weights.shape))
    loops.left_vectors(_prepared(x, mean, u.dtype, exponent), weights, u, squares, products)
    # Of a triplet that counts as zero only ‖X v_i‖ / s_1 is needed.
    u[svd.s == 0] = 0
    return squares.sum(axis=0), products.sum(axis=0) / first


def _moments(x: NDArray[Any], center: bool) -> Moments:
    """Return the moments of rows (C, n)."""
    with np.errstate(invalid="ignore"):
        lowest, highest = float(x.min()), float(x.max())
    exponent = exponent_of(lowest, highest)
    block = x.astype(np.float64)
    if exponent:
        np.ldexp(block, -exponent, out=block)
    mean = means(block, center)
    gram = gram_matrix(block, np.float64)
    return Moments(block.shape[1], exponent, mean, gram, np.zeros_like(gram), lowest >= 0)


def _prepared(
    x: NDArray[Any], mean: NDArray[np.float64] | None, dtype: np.dtype[Any], exponent: int
) -> NDArray[Any]:
    """Return rows as the loops take them, in units of ``2**exponent``; those that are centred in float64.

    Rounded to float32, what is left of a map would be magnified by s_1/s_i in the left vectors.
    """
    if mean is not None:
        x = np.subtract(x, mean[:, np.newaxis], dtype=np.float64)
    else:
        x = x.astype(dtype, copy=False)
    return read_only(np.ldexp(x, -exponent) if exponent else x)
