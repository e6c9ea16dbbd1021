"""Gradient of slices: one long loop runs over the rows of a block as if they were one row.

A row's last pixel and the next row's first are so computed from wrong neighbours, and then again
with the edge pixel repeated. Two pixels a row cost less than what a loop over a single row
leaves beside the vector lanes.

The components are of the type of the mask's weights. For 8-bit slices these are 16-bit integers, exact
and half as wide as float32; the square root of their squares is of the result's type.
"""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import Kernel, helper
from eigenfeatures.kernels.operators import Mask

# Rows a block: enough that reading two neighbouring rows again costs little, few
# enough that one slice of a detector's size occupies all threads.
BLOCK_ROWS = 64


@helper
def block_count(height: int) -> int:
    """Return how many blocks cover a slice."""
    return (height + BLOCK_ROWS - 1) // BLOCK_ROWS


@helper
def components(
    a0: Any, a1: Any, a2: Any, b0: Any, b1: Any, b2: Any, c0: Any, c1: Any, c2: Any,
    side: Any, centre: Any, one_sided: bool,
) -> Any:  # fmt: skip
    """Return (gy, gx) from a pixel and its neighbours: a above it, c below it, from left to right.

    Differences come before smoothing: with an offset of 3·10⁴ the sum of four float32 pixels loses
    the digits that the difference is made of. Both components take the diagonal differences:
    ``(c2 - c0) + (a2 - a0) = falling + rising`` and ``(c2 - a2) + (c0 - a0) = falling - rising``.
    """
    # NumPy's functions keep integers of 16 bits, where Numba's operators would make them 64 bits wide.
    if one_sided:
        return np.multiply(centre, np.subtract(c1, b1)), np.multiply(centre, np.subtract(b2, b1))
    down, along = np.multiply(centre, np.subtract(c1, a1)), np.multiply(centre, np.subtract(b2, b0))
    if side == 0:
        return down, along
    falling, rising = np.subtract(c2, a0), np.subtract(a2, c0)
    return (
        np.add(np.multiply(side, np.subtract(falling, rising)), down),
        np.add(np.multiply(side, np.add(falling, rising)), along),
    )


@helper
def norm(down: Any, along: Any) -> Any:
    """Return the length of a gradient."""
    return np.sqrt(along * along + down * down)


@helper
def components_at_edge(above: Any, here: Any, below: Any, i: int, j: int, mask: Any, one_sided: bool) -> Any:
    """Return (gy, gx) at a pixel of the first or last column of rows (r, W)."""
    number = mask.dtype.type
    left, right = max(j - 1, 0), min(j + 1, here.shape[1] - 1)
    return components(
        number(above[i, left]), number(above[i, j]), number(above[i, right]),
        number(here[i, left]), number(here[i, j]), number(here[i, right]),
        number(below[i, left]), number(below[i, j]), number(below[i, right]),
        mask[0], mask[1], one_sided,
    )  # fmt: skip


@helper
def fill_components(a: Any, b: Any, c: Any, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill `gy` and `gx` (n) at all pixels but the first and the last of a long row `b` (n + 2)."""
    n, number = gx.size, mask.dtype.type
    a0, a1, a2 = a[:n], a[1 : n + 1], a[2 : n + 2]
    b0, b1, b2 = b[:n], b[1 : n + 1], b[2 : n + 2]
    c0, c1, c2 = c[:n], c[1 : n + 1], c[2 : n + 2]
    side, centre = mask[0], mask[1]
    for j in range(n):
        gy[j], gx[j] = components(
            number(a0[j]), number(a1[j]), number(a2[j]), number(b0[j]), number(b1[j]), number(b2[j]),
            number(c0[j]), number(c1[j]), number(c2[j]), side, centre, one_sided,
        )  # fmt: skip


@helper
def fill_magnitude(
    a: Any, b: Any, c: Any, mask: Any, one_sided: bool, mean: Any, factor: Any, out: Any
) -> None:
    """Fill `out` (n) with (|∇Y| − mean) · factor; see `fill_components`."""
    n, number, real = out.size, mask.dtype.type, type(mean)
    a0, a1, a2 = a[:n], a[1 : n + 1], a[2 : n + 2]
    b0, b1, b2 = b[:n], b[1 : n + 1], b[2 : n + 2]
    c0, c1, c2 = c[:n], c[1 : n + 1], c[2 : n + 2]
    side, centre = mask[0], mask[1]
    for j in range(n):
        down, along = components(
            number(a0[j]), number(a1[j]), number(a2[j]), number(b0[j]), number(b1[j]), number(b2[j]),
            number(c0[j]), number(c1[j]), number(c2[j]), side, centre, one_sided,
        )  # fmt: skip
        out[j] = (norm(real(down), real(along)) - mean) * factor


@helper
def gradient_rows(above: Any, here: Any, below: Any, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill rows `gy` and `gx` (r, W) from rows of the image and those above and below each of them."""
    n = here.size
    if n > 2:
        fill_components(
            above.reshape(n), here.reshape(n), below.reshape(n), mask, one_sided,
            gy.reshape(n)[1 : n - 1], gx.reshape(n)[1 : n - 1],
        )  # fmt: skip
    for i in range(len(here)):
        for j in (0, here.shape[1] - 1):
            gy[i, j], gx[i, j] = components_at_edge(above, here, below, i, j, mask, one_sided)


@helper
def magnitude_rows(
    above: Any, here: Any, below: Any, mask: Any, one_sided: bool, mean: Any, factor: Any, out: Any
) -> None:
    """Fill rows `out` (r, W) with (|∇Y| − mean) · factor; see `gradient_rows`."""
    n, real = here.size, type(mean)
    if n > 2:
        fill_magnitude(
            above.reshape(n), here.reshape(n), below.reshape(n), mask, one_sided, mean, factor,
            out.reshape(n)[1 : n - 1],
        )  # fmt: skip
    for i in range(len(here)):
        for j in (0, here.shape[1] - 1):
            down, along = components_at_edge(above, here, below, i, j, mask, one_sided)
            out[i, j] = (norm(real(down), real(along)) - mean) * factor


@helper
def band_stop(height: int, first: int, stop: int) -> Any:
    """Return up to where rows from `first` on, and before `stop`, lie alike between their neighbours.

    An image's first and last row stand by themselves.
    """
    return 1 if first == 0 else max(min(stop, height - 1), first + 1)


@helper
def band(image: Any, first: int, stop: int) -> Any:
    """Return the rows above, at and below rows that lie alike; beyond the image its last one is repeated."""
    above, below = max(first - 1, 0), min(first + 1, len(image) - 1)
    count = stop - first
    return image[above : above + count], image[first:stop], image[below : below + count]


@helper
def gradient_block(image: Any, first: int, stop: int, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    """Fill `gy` and `gx` with rows `first` to `stop` of the components."""
    start = first
    while start < stop:
        end = band_stop(len(image), start, stop)
        above, here, below = band(image, start, end)
        place = slice(start - first, end - first)
        gradient_rows(above, here, below, mask, one_sided, gy[place], gx[place])
        start = end


@helper
def magnitude_block(
    image: Any, first: int, stop: int, mask: Any, one_sided: bool, mean: Any, factor: Any, out: Any
) -> None:
    """Fill `out` with rows `first` to `stop` of (|∇Y| − mean) · factor."""
    start = first
    while start < stop:
        end = band_stop(len(image), start, stop)
        above, here, below = band(image, start, end)
        magnitude_rows(above, here, below, mask, one_sided, mean, factor, out[start - first : end - first])
        start = end


@Kernel
def _gradient(images: Any, mask: Any, one_sided: bool, gy: Any, gx: Any) -> None:
    blocks, height = block_count(images.shape[1]), images.shape[1]
    for task in prange(len(images) * blocks):
        s, first = task // blocks, task % blocks * BLOCK_ROWS
        stop = min(first + BLOCK_ROWS, height)
        gradient_block(images[s], first, stop, mask, one_sided, gy[s, first:stop], gx[s, first:stop])


@Kernel
def _magnitude(images: Any, mask: Any, one_sided: bool, mean: Any, factor: Any, out: Any) -> None:
    blocks, height = block_count(images.shape[1]), images.shape[1]
    for task in prange(len(images) * blocks):
        s, first = task // blocks, task % blocks * BLOCK_ROWS
        stop = min(first + BLOCK_ROWS, height)
        magnitude_block(images[s], first, stop, mask, one_sided, mean, factor, out[s, first:stop])


def weights(mask: Mask, dtype: Any) -> NDArray[Any]:
    """Return the weights of a mask in the precision of the arithmetic."""
    return np.array([mask.side, mask.centre], dtype)


def weights_for(images: NDArray[Any], mask: Mask, dtype: Any) -> NDArray[Any]:
    """Return the weights for |∇Y| of `dtype`: of 16 bits where the components are exact in them."""
    whole = mask.side % 1 == mask.centre % 1 == 0
    return weights(mask, np.int16 if images.dtype == np.uint8 and whole else dtype)


def gradient(images: NDArray[Any], mask: Mask, gy: NDArray[Any], gx: NDArray[Any]) -> None:
    """Fill `gy` and `gx` (N, H, W) with the two components."""
    _gradient(images, weights(mask, gx.dtype), mask.one_sided, gy, gx)


def magnitude(images: NDArray[Any], mask: Mask, mean: float, factor: float, out: NDArray[Any]) -> None:
    """Fill `out` (N, H, W) with (|∇Y| − mean) · factor."""
    real = out.dtype.type
    of_mask = weights_for(images, mask, out.dtype)
    _magnitude(images, of_mask, mask.one_sided, real(mean), real(factor), out)
