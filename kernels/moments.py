"""Sums over responses that come in parts: pixels, means and the Gram matrix, joined without loss."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Powers of two up to which values are squared and summed as they are.
_PLAIN = 200

# The exponent of zeros, which gives way to any other.
_LOWEST = -1100


class Moments(NamedTuple):
    """Sums over the pixels of X in units of ``2**exponent``, which keeps squares within float64.

    `mean` (C) is each channel's, `gram` (C, C) is ``XᵀX``, of X less its means where it is
    centred, and `lost` (C, C) is what the rounding of sums took from it. `nonnegative` tells that
    no value is below zero. All are NumPy's, wherever the pixels were.
    """

    pixels: int
    exponent: int
    mean: NDArray[np.float64]
    gram: NDArray[np.float64]
    lost: NDArray[np.float64]
    nonnegative: bool

    def scaled_to(self, exponent: int) -> "Moments":
        """Return the same in other units."""
        shift = self.exponent - exponent
        if shift == 0:
            return self
        return self._replace(
            exponent=exponent,
            mean=np.ldexp(self.mean, shift),
            gram=np.ldexp(self.gram, 2 * shift),
            lost=np.ldexp(self.lost, 2 * shift),
        )


def exponent_of(lowest: float, highest: float) -> int:
    """Return the exponent of units in which values from `lowest` to `highest` can be squared and summed.

    Raises
    ------
    FloatingPointError
        Where one of the two is NaN or infinite, and hence some value.
    """
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise FloatingPointError("a value is NaN or infinite")
    largest = max(-lowest, highest)
    exponent = int(np.frexp(largest)[1]) if largest > 0 else _LOWEST
    return 0 if abs(exponent) <= _PLAIN else exponent


def means(rows: Any, center: bool) -> Any:
    """Return the means (C) of float64 rows (C, n) of NumPy or CuPy, and take them off `rows` where asked."""
    if not center:
        return rows.mean(axis=1)
    # About the first pixel, so that a constant map gives zeros.
    first = rows[:, :1].copy()
    rows -= first
    offset = rows.mean(axis=1, keepdims=True)
    rows -= offset
    return (first + offset)[:, 0]


def joined(one: Moments | None, other: Moments, center: bool) -> Moments:
    """Return the moments of two parts together; None has no pixels.

    The products of centred parts lack those of the difference between their means, which the
    update of Chan, Golub and LeVeque adds. All terms are small where the result is, unlike those of
    ``XᵀX − n m mᵀ``.
    """
    if one is None:
        return other
    exponent = max(one.exponent, other.exponent)
    one, other = one.scaled_to(exponent), other.scaled_to(exponent)
    pixels = one.pixels + other.pixels
    difference = other.mean - one.mean
    gram, lost = _two_sum(one.gram, other.gram)
    lost += one.lost + other.lost
    if center:
        between = np.outer(difference, difference) * (one.pixels / pixels * other.pixels)
        gram, rounded = _two_sum(gram, between)
        lost += rounded
    return Moments(
        pixels=pixels,
        exponent=exponent,
        mean=one.mean + difference * (other.pixels / pixels),
        gram=gram,
        lost=lost,
        nonnegative=one.nonnegative and other.nonnegative,
    )


def _two_sum(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a + b as rounded, and what the rounding took from it."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)
