"""XᵀX and XᵀU of a batch of slices, held as C rows of n pixels, by cuBLAS."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from eigenfeatures.kernels.cpu.gram import LEAST, MOST
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.memory import Array

# Bytes for copies of responses that are converted before they are multiplied.
_COPIES = 1 << 30

# Pixels whose products are added in their own precision, before the sums are added in float64.
ADDED = 1024


def correlations(maps: Array, dtype: np.dtype[Any]) -> Array:
    """Return XᵀX (N, C, C) of maps (N, C, n), exactly symmetric float64; see the function for the CPU."""
    xp = memory.xp()
    with np.errstate(over="ignore", invalid="ignore"):
        products = gram_matrices(maps, dtype).astype(np.float64)
        if dtype == np.float32:
            squares = xp.diagonal(products, axis1=1, axis2=2)
            beyond = xp.flatnonzero(~((squares > LEAST) & (squares < MOST)).all(axis=1))
            if beyond.size > 0:
                products[beyond] = gram_matrices(maps[beyond], np.float64)
        upper = xp.triu(products)
        result: Array = upper + xp.triu(upper, 1).transpose(0, 2, 1)
    return result


def gram_matrices(x: Array, dtype: DTypeLike) -> Array:
    """Return XᵀX (N, C, C) of rows (N, C, n), with products and sums of `dtype`."""
    xp = memory.xp()
    count, channels, pixels = x.shape
    out = xp.empty((count, channels, channels), dtype)
    if x.dtype == out.dtype:
        _multiply(x, x, slice(0, pixels), out)
        return out
    step = max(1, _COPIES // (channels * pixels * out.itemsize))
    for first in range(0, count, step):
        portion = slice(first, first + step)
        copy = x[portion].astype(dtype)
        _multiply(copy, copy, slice(0, pixels), out[portion])
    return out


def cross_products(x: Array, u: Array) -> Array:
    """Return Uᵀ X (N, r, C), float64, of rows (N, C, n) and rows (N, r, n)."""
    xp = memory.xp()
    count, channels, pixels = x.shape
    whole = pixels // ADDED
    if count > whole:  # slices side by side, tile after tile
        total = xp.zeros((count, u.shape[1], channels))
        part = xp.empty(total.shape, x.dtype)
        for first in range(0, pixels, ADDED):
            _multiply(x, u, slice(first, min(first + ADDED, pixels)), part)
            total += part
        return total
    parts = xp.zeros((count, whole + 1, u.shape[1], channels), x.dtype)
    for one in range(count):  # tiles side by side, slice after slice
        _multiply_tiles(x[one], u[one], parts[one, :whole])
    if pixels % ADDED:
        last = xp.empty((count, u.shape[1], channels), x.dtype)
        _multiply(x, u, slice(whole * ADDED, pixels), last)
        parts[:, whole] = last
    summed: Array = parts.sum(axis=1, dtype=np.float64)
    return summed


def _multiply(x: Array, y: Array, pixels: slice, out: Array) -> None:
    """Fill `out` (N, r, C) with products of rows of y (N, r, n) and of x (N, C, n) over some pixels."""
    if memory.xp() is np:  # in the simulator
        np.matmul(y[..., pixels], x[..., pixels].transpose(0, 2, 1), out=out)
        return
    width = x.shape[2]
    apart = x.shape[1] * width, y.shape[1] * width
    _products(x, y, out, (pixels.start, pixels.stop - pixels.start), width, apart)


def _multiply_tiles(x: Array, y: Array, out: Array) -> None:
    """Fill `out` (T, r, C) with products of rows of y (r, n) and of x (C, n) over tiles of `ADDED` pixels."""
    if memory.xp() is np:  # in the simulator
        for tile, part in enumerate(out):
            pixels = slice(tile * ADDED, (tile + 1) * ADDED)
            np.matmul(y[:, pixels], x[:, pixels].T, out=part)
        return
    _products(x, y, out, (0, ADDED), x.shape[1], (ADDED, ADDED))


def _products(
    x: Array, y: Array, out: Array, pixels: tuple[int, int], width: int, apart: tuple[int, int]
) -> None:
    """Fill `out` (N, r, C) by one call of cuBLAS.

    CuPy's `matmul` would first copy the rows transposed. Its handle for cuBLAS is in the default
    mode, in which products of float32 are not shortened to TF32.

    Parameters
    ----------
    x, y, out
        Arrays of the device.
    pixels
        The first of them in a row, and their number.
    width
        Elements from a row to the next, of x and of y.
    apart
        Elements from one matrix to the next of the N, of x and of y.
    """
    xp = memory.xp()
    count, rows, channels = out.shape
    if count == 0:
        return
    cublas = xp.cuda.cublas
    multiply = cublas.sgemmStridedBatched if x.dtype == np.float32 else cublas.dgemmStridedBatched
    first, number = pixels
    one, zero = np.ones(1, x.dtype), np.zeros(1, x.dtype)
    # To cuBLAS, which counts down columns first, x is a matrix (n, C) for each slice.
    multiply(
        xp.cuda.get_cublas_handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        channels,
        rows,
        number,
        one.ctypes.data,
        x.data.ptr + first * x.itemsize,
        width,
        apart[0],
        y.data.ptr + first * x.itemsize,
        width,
        apart[1],
        zero.ctypes.data,
        out.data.ptr,
        channels,
        rows * channels,
        count,
    )
