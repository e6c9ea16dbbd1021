"""XᵀX of a batch of slices, held as C rows of n pixels, by cuBLAS."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.memory import Array

# Bytes for copies of responses that are scaled or converted before they are multiplied.
_COPIES = 1 << 30

# Sums of squares that float32 holds without overflow or a loss to underflow.
_LEAST, _MOST = 2.0**-64, 2.0**64


def correlations(maps: Array, dtype: np.dtype[Any]) -> Array:
    """Return XᵀX (N, C, C) of maps (N, C, n), exactly symmetric float64; see the function for the CPU."""
    xp = memory.xp()
    with np.errstate(over="ignore", invalid="ignore"):
        products = gram_matrices(maps, None, dtype).astype(np.float64)
        if dtype == np.float32:
            squares = xp.diagonal(products, axis1=1, axis2=2)
            beyond = xp.flatnonzero(~((squares > _LEAST) & (squares < _MOST)).all(axis=1))
            if beyond.size > 0:
                products[beyond] = gram_matrices(maps[beyond], None, np.float64)
        upper = xp.triu(products)
        result: Array = upper + xp.triu(upper, 1).transpose(0, 2, 1)
    return result


def gram_matrices(x: Array, scale: Array | None, dtype: DTypeLike) -> Array:
    """Return XᵀX (N, C, C) of rows (N, C, n) times `scale` (N), with products and sums of `dtype`.

    Without a scale, and of `dtype` already, the rows are not copied.
    """
    xp = memory.xp()
    count, channels, pixels = x.shape
    out = xp.empty((count, channels, channels), dtype)
    if scale is None and x.dtype == out.dtype:
        _multiply(x, out)
        return out
    step = max(1, _COPIES // (channels * pixels * out.itemsize))
    for first in range(0, count, step):
        portion = slice(first, first + step)
        copy = x[portion].astype(dtype)
        if scale is not None:
            copy *= scale[portion, np.newaxis, np.newaxis].astype(dtype)
        _multiply(copy, out[portion])
    return out


def _multiply(x: Array, out: Array) -> None:
    """Fill `out` (N, C, C) with the products of rows (N, C, n) with each other.

    CuPy's `matmul` would first copy the rows transposed. Its handle for cuBLAS is in the default
    mode, in which products of float32 are not shortened to TF32.
    """
    xp = memory.xp()
    if xp is np:  # in the simulator
        np.matmul(x, x.transpose(0, 2, 1), out=out)
        return
    cublas = xp.cuda.cublas
    multiply = cublas.sgemmStridedBatched if x.dtype == np.float32 else cublas.dgemmStridedBatched
    count, channels, pixels = x.shape
    one, zero = np.ones(1, x.dtype), np.zeros(1, x.dtype)
    # To cuBLAS, which counts down columns first, each slice is a matrix (n, C).
    multiply(
        xp.cuda.get_cublas_handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        channels,
        channels,
        pixels,
        one.ctypes.data,
        x.data.ptr,
        pixels,
        channels * pixels,
        x.data.ptr,
        pixels,
        channels * pixels,
        zero.ctypes.data,
        out.data.ptr,
        channels,
        channels * channels,
        count,
    )
