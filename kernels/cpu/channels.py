"""Loops over the channels of response maps."""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel, reduction


@reduction
def row_maximum(values: Any) -> tuple[float, bool]:
    """Return the largest value, and whether there is a NaN, which no comparison finds."""
    largest = values[0]
    undefined = False
    for value in values:
        largest = max(largest, value)
        undefined |= value != value
    return largest, undefined


@reduction
def row_sums(values: Any) -> tuple[float, float, int]:
    """Return the sum in float64, that of the positive values, and how many these are."""
    total, positive, count = 0.0, 0.0, 0
    for value in values:
        total += np.float64(value)
        if value > 0:
            positive += np.float64(value)
            count += 1
    return total, positive, count


@Kernel
def maxima(responses: Any, out: Any) -> None:
    """Fill `out` (N, C) with the largest value of each map (N, C, n), NaN where it has one."""
    channels = responses.shape[1]
    for task in prange(len(responses) * channels):
        s, c = task // channels, task % channels
        largest, undefined = row_maximum(responses[s, c])
        out[s, c] = np.nan if undefined else largest


@Kernel
def means(responses: Any, index: Any, mean: Any, positive_mean: Any) -> None:
    """Fill `mean` and `positive_mean` (N) for the channel `index` (N) of each item (N, C, n)."""
    count, _, pixels = responses.shape
    for s in prange(count):
        total, positive, number = row_sums(responses[s, index[s]])
        mean[s] = total / pixels
        positive_mean[s] = total if np.isnan(total) else positive / max(number, 1)
