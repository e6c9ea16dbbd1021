"""The channel that holds the largest activation, and its mean.

Maxima are taken of integers in the order of the floats: the bits of a float, with those of its size
turned over where it is negative. They fit vector lanes, where floats' comparisons with NaN don't,
and show a NaN as a number beyond infinity.
"""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction


@helper
def extremes(bits: Any, shift: Any, mask: Any) -> Any:
    """Return the least and the largest of the ordered integers of a row's bits (n)."""
    integer = bits.dtype.type
    least = largest = integer(bits[0] ^ (integer(bits[0] >> shift) & mask))
    for j in range(bits.size):
        ordered = integer(bits[j] ^ (integer(bits[j] >> shift) & mask))
        least = ordered if ordered < least else least
        largest = ordered if ordered > largest else largest
    return least, largest


@reduction
def row_sums(values: Any) -> tuple[float, float, int]:
    """Return the sum, the sum of positive values and their number."""
    total, positive, count = 0.0, 0.0, 0
    for j in range(values.size):
        value = np.float64(values[j])
        total += value
        positive += max(value, 0.0)
        count += int(value > 0.0)
    return total, positive, count


@Kernel
def _extremes(bits: Any, shift: Any, mask: Any, out: Any) -> None:
    count, channels, _ = bits.shape
    for task in prange(count * channels):
        s, c = task // channels, task % channels
        out[s, c, 0], out[s, c, 1] = extremes(bits[s, c], shift, mask)


@Kernel
def _means(maps: Any, index: Any, mean: Any, positive_mean: Any) -> None:
    for s in prange(len(maps)):
        total, positive, number = row_sums(maps[s, index[s]])
        mean[s] = total / maps.shape[2]
        positive_mean[s] = total if np.isnan(total) else positive / max(number, 1)


def maxima(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Return the maximum of each row of maps (N, C, n), NaN where there is one."""
    if maps.dtype.kind == "u":
        bits, shift, mask = maps, maps.dtype.type(0), maps.dtype.type(0)
    else:
        bits = maps.view(f"i{maps.itemsize}")
        integer = bits.dtype.type
        shift, mask = integer(8 * maps.itemsize - 1), integer(np.iinfo(bits.dtype).max)
    found = np.empty((*maps.shape[:2], 2), bits.dtype)
    _extremes(bits, shift, mask, found)
    least, largest = np.moveaxis((found ^ ((found >> shift) & mask)).view(maps.dtype), -1, 0)
    result: NDArray[np.float64] = np.where(np.isnan(least) | np.isnan(largest), np.nan, largest)
    return result


def strongest(
    maps: NDArray[Any],
    index: NDArray[np.int64],
    maximum: NDArray[np.float64],
    mean: NDArray[np.float64],
    positive_mean: NDArray[np.float64],
) -> None:
    """Fill the rest (N) from maps (N, C, n): see `StrongestChannel`."""
    of_channels = maxima(maps)
    index[:] = of_channels.argmax(axis=1)  # of which a NaN is the largest
    maximum[:] = of_channels[np.arange(len(maps)), index]
    _means(maps, index, mean, positive_mean)
