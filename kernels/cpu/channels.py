"""The channel that holds the largest activation, and its mean."""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction, without_nan

# Activations that stay in a core's first-level cache between two looks at them.
RUN = 2048


@helper
def has_nan(values: Any) -> Any:
    """Tell whether any value is NaN."""
    found = np.int32(0)  # unlike a boolean, it fits a vector lane
    for j in range(values.size):
        found |= np.int32(values[j] != values[j])
    return found != 0


@without_nan
def larger(a: Any, b: Any) -> Any:
    """Return the larger of two numbers in one instruction, unlike Numba's `max`."""
    return a if a > b else b


@without_nan
def largest(values: Any) -> Any:
    """Return the maximum, from eight chains of comparisons: each waits for the one before it."""
    m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = values[0]
    eights = values.size // 8 * 8
    for j in range(0, eights, 8):
        m0, m1 = larger(m0, values[j]), larger(m1, values[j + 1])
        m2, m3 = larger(m2, values[j + 2]), larger(m3, values[j + 3])
        m4, m5 = larger(m4, values[j + 4]), larger(m5, values[j + 5])
        m6, m7 = larger(m6, values[j + 6]), larger(m7, values[j + 7])
    for j in range(eights, values.size):
        m0 = larger(m0, values[j])
    return larger(larger(larger(m0, m1), larger(m2, m3)), larger(larger(m4, m5), larger(m6, m7)))


@reduction
def run_sums(values: Any) -> tuple[float, float, int]:
    """Return the sum, the sum of positive values and their number."""
    total, positive, count = 0.0, 0.0, 0
    for j in range(values.size):
        value = np.float64(values[j])
        total += value
        positive += max(value, 0.0)
        count += int(value > 0.0)
    return total, positive, count


@helper
def maximum(values: Any) -> float:
    """Return the maximum, or NaN where a value is NaN."""
    best = -np.inf
    for first in range(0, values.size, RUN):
        run = values[first : first + RUN]
        if has_nan(run):
            return np.nan
        best = max(best, np.float64(largest(run)))
    return best


@helper
def first_largest(values: Any) -> int:
    """Return the place of the first of the largest values, of which a NaN is the largest."""
    best = 0
    for c in range(len(values)):
        if np.isnan(values[c]):
            return c
        if values[c] > values[best]:
            best = c
    return best


@Kernel
def _strongest(maps: Any, maxima: Any, index: Any, largest: Any, mean: Any, positive_mean: Any) -> None:
    count, channels, pixels = maps.shape
    for task in prange(count * channels):
        maxima[task // channels, task % channels] = maximum(maps[task // channels, task % channels])
    for s in prange(count):
        best = first_largest(maxima[s])
        total, positive, number = run_sums(maps[s, best])
        index[s] = best
        largest[s] = maxima[s, best]
        mean[s] = total / pixels
        positive_mean[s] = total if np.isnan(total) else positive / max(number, 1)


def strongest(
    maps: NDArray[Any],
    index: NDArray[np.int64],
    largest: NDArray[np.float64],
    mean: NDArray[np.float64],
    positive_mean: NDArray[np.float64],
) -> None:
    """Fill the rest (N) from maps (N, C, n): see `StrongestChannel`."""
    _strongest(maps, np.empty(maps.shape[:2]), index, largest, mean, positive_mean)
