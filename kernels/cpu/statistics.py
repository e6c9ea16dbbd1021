"""Sums over slices and their |∇Y|, without an image of the gradient."""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel, helper, reduction
from eigenfeatures.kernels.cpu.gradient import (
    BLOCK_ROWS,
    block_count,
    components,
    move_window,
    open_window,
)


@reduction
def row_sums(here: Any, shift: float, gy: Any, gx: Any) -> tuple[float, float, float, float]:
    """Return Σ(Y − shift), Σ(Y − shift)², Σ|∇Y| and Σ|∇Y|² of one row, in float64."""
    total, squares, variation, steepness = 0.0, 0.0, 0.0, 0.0
    for j in range(gx.size):
        value = np.float64(here[j + 1]) - shift
        total += value
        squares += value * value
        size = np.float64(np.sqrt(gx[j] * gx[j] + gy[j] * gy[j]))
        variation += size
        steepness += size * size
    return total, squares, variation, steepness


@helper
def block_sums(image: Any, first: int, mask: Any, one_sided: bool, out: Any) -> None:
    """Fill `out` (4) with the sums of one block of rows.

    Pixels are taken relative to the slice's first one, so that their variance
    survives a large offset.
    """
    shift = np.float64(image[0, 0])
    window = open_window(image, first, mask)
    gy = np.empty(image.shape[1], mask.dtype)
    gx = np.empty(image.shape[1], mask.dtype)
    out[:] = 0.0
    for i in range(first, min(first + BLOCK_ROWS, image.shape[0])):
        above, here, below = move_window(image, i, first, window)
        components(above, here, below, mask, one_sided, gy, gx)
        total, squares, variation, steepness = row_sums(here, shift, gy, gx)
        out[0] += total
        out[1] += squares
        out[2] += variation
        out[3] += steepness


@Kernel
def sums(images: Any, mask: Any, one_sided: bool, out: Any) -> None:
    """Fill `out` (N, blocks, 4) with the sums of each block of rows."""
    blocks = block_count(images.shape[1])
    for task in prange(len(images) * blocks):
        s, block = task // blocks, task % blocks
        block_sums(images[s], block * BLOCK_ROWS, mask, one_sided, out[s, block])
