"""Gradient of slices: a window of three rows runs down each block of rows.

Rows are copied into the window in working precision with the edge pixel
repeated, so that the arithmetic has neither borders nor integers in it.
"""

from typing import Any

import numpy as np
from numba import prange

from eigenfeatures.kernels.cpu.compile import Kernel, helper

# Rows a block: enough that reading two neighbouring rows again costs little, few
# enough that one slice of a detector's size occupies all threads.
BLOCK_ROWS = 64


@helper
def block_count(height: int) -> int:
    """Return how many blocks cover a slice."""
    return (height + BLOCK_ROWS - 1) // BLOCK_ROWS


@helper
def load_row(image: Any, i: int, row: Any) -> None:
    """Fill `row` (W + 2) with row `i` of an image, the edge pixel repeated on every side."""
    height, width = image.shape
    source = image[min(max(i, 0), height - 1)]
    for j in range(width):
        row[j + 1] = source[j]
    row[0] = row[1]
    row[width + 1] = row[width]


@helper
def open_window(image: Any, first: int, mask: Any) -> Any:
    """Return a window (3, W + 2) that waits for the row below row `first`."""
    window = np.empty((3, image.shape[1] + 2), mask.dtype)
    load_row(image, first - 1, window[0])
    load_row(image, first, window[1])
    return window


@helper
def move_window(image: Any, i: int, first: int, window: Any) -> tuple[Any, Any, Any]:
    """Load the row below row `i` and return the rows above it, at it and below it."""
    k = i - first
    load_row(image, i + 1, window[(k + 2) % 3])
    return window[k % 3], window[(k + 1) % 3], window[(k + 2) % 3]


@helper
def components(above: Any, here: Any, below: Any, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill `gy` and `gx` (W) with the gradient's components at the middle one of three rows.

    Differences come before smoothing: with an offset of 3·10⁴ the sum of four
    float32 pixels loses the digits that the difference is made of.
    """
    side, centre = mask[0], mask[1]
    if one_sided:
        for j in range(gx.size):
            gx[j] = centre * (here[j + 2] - here[j + 1])
            gy[j] = centre * (below[j + 1] - here[j + 1])
    elif side == 0:
        for j in range(gx.size):
            gx[j] = centre * (here[j + 2] - here[j])
            gy[j] = centre * (below[j + 1] - above[j + 1])
    else:
        for j in range(gx.size):
            left = below[j] - above[j]
            right = below[j + 2] - above[j + 2]
            gx[j] = side * ((above[j + 2] - above[j]) + (below[j + 2] - below[j])) + centre * (
                here[j + 2] - here[j]
            )
            gy[j] = side * (left + right) + centre * (below[j + 1] - above[j + 1])


@helper
def gradient_block(image: Any, first: int, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill one block of rows of `gy` and `gx` (H, W)."""
    window = open_window(image, first, mask)
    for i in range(first, min(first + BLOCK_ROWS, image.shape[0])):
        above, here, below = move_window(image, i, first, window)
        components(above, here, below, mask, one_sided, gy[i], gx[i])


@helper
def magnitude_block(
    image: Any, first: int, mask: Any, one_sided: bool, mean: float, factor: float, out: Any
) -> None:
    """Fill one block of rows of `out` (H, W) with (|∇Y| − mean) · factor."""
    window = open_window(image, first, mask)
    gy = np.empty(image.shape[1], mask.dtype)
    gx = np.empty(image.shape[1], mask.dtype)
    for i in range(first, min(first + BLOCK_ROWS, image.shape[0])):
        above, here, below = move_window(image, i, first, window)
        components(above, here, below, mask, one_sided, gy, gx)
        row = out[i]
        for j in range(row.size):
            row[j] = (np.sqrt(gx[j] * gx[j] + gy[j] * gy[j]) - mean) * factor


@Kernel
def gradient(images: Any, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill `gy` and `gx` (N, H, W) with the two components."""
    blocks = block_count(images.shape[1])
    for task in prange(len(images) * blocks):
        s, first = task // blocks, task % blocks * BLOCK_ROWS
        gradient_block(images[s], first, mask, one_sided, gy[s], gx[s])


@Kernel
def magnitude(images: Any, mask: Any, one_sided: bool, mean: Any, factor: Any, out: Any) -> None:
    """Fill `out` (N, H, W) with (|∇Y| − mean) · factor; `mean` and `factor` (N) are of a slice."""
    blocks = block_count(images.shape[1])
    for task in prange(len(images) * blocks):
        s, first = task // blocks, task % blocks * BLOCK_ROWS
        magnitude_block(images[s], first, mask, one_sided, mean[s], factor[s], out[s])
