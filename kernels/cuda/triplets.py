"""Singular triplets of a batch of slices from their right vectors, measured; and their signs.

The counterpart of the measuring half of `eigenfeatures.kernels.cpu.triplets`, for all slices at once.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import NOISE
from eigenfeatures.kernels.cpu.triplets import OVERLAP
from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.gram import cross_products, gram_matrices
from eigenfeatures.kernels.cuda.memory import Array


class Slices(NamedTuple):
    """Slices of the device, in a range where sums of products neither overflow nor vanish.

    Attributes
    ----------
    maps
        ``(M, C, n)``, float32 or float64.
    exponent
        Of the power of two that the responses were multiplied by, ``(M,)``; mostly 0.
    energy
        ‖X‖²_F of the maps, ``(M,)``: 0 or not finite where no decomposition exists.
    nonnegative
        Whether no response is below zero, ``(M,)``.
    """

    maps: Array
    exponent: Array
    energy: Array
    nonnegative: Array

    @property
    def values(self) -> Array:
        """Each slice as one row."""
        return self.maps.reshape(len(self.maps), -1)

    def taken(self, places: NDArray[np.intp]) -> "Slices":
        """Copy some of them."""
        index = memory.to_device(places)
        return Slices(*(field[index] for field in self))


class Candidates(NamedTuple):
    """What a search says are right vectors.

    Attributes
    ----------
    v
        Unit vectors ``(M, rank, C)``, float64.
    left
        X v ``(M, rank, n)``, in the precision of the responses.
    across
        XᵀX v ``(M, rank, C)``, float64.
    passes, found
        The passes made and whether the search found them, ``(M,)``.
    """

    v: Array
    left: Array
    across: Array
    passes: Array
    found: Array


class Triplets(NamedTuple):
    """Of slices times their power of two: u, s, v as in `TruncatedSVD`, and the residual."""

    u: Array
    s: Array
    v: Array
    residual: Array


def survey(maps: Array) -> Slices:
    """Return slices ``(N, C, n)`` with their energy and sign, copied where one of them must be scaled.

    Where sums of products would leave the range of numbers, a power of two brings ‖X‖_F to
    between 1/2 and 1, or as near as its own range allows: within 2¹² for float32. Responses
    that it takes below the least number are 2⁻¹²⁶ of that or less. Subnormal responses count in full.
    """
    xp = memory.xp()
    sums = xp.empty((len(maps), 4))
    rows = maps.reshape(len(maps), -1)
    memory.launch(passes.survey, len(maps), passes.SURVEYORS, rows, sums)
    negative, squares, reduced, magnified = sums.T
    step = int(np.log2(passes.MAGNIFICATION))
    shift = xp.zeros(len(maps), np.int32)
    if maps.dtype == np.float64:
        # Squares of float64 are within its range between these bounds, far from either end.
        large, small = squares > 2.0**900, squares < 2.0**-900
        squares = xp.where(large, reduced, xp.where(small, magnified, squares))
        shift = xp.where(large, np.int32(step), xp.where(small, np.int32(-step), shift))
    exponent = shift + xp.frexp(xp.sqrt(squares))[1]
    limits = np.finfo(maps.dtype)
    bound = 2.0 ** (limits.maxexp // 2)
    energy = xp.ldexp(squares, 2 * shift)
    in_range = ((1 / bound < energy) & (energy < bound)) | (squares == 0) | ~xp.isfinite(squares)
    exponent = xp.where(in_range, 0, xp.clip(-exponent, limits.minexp, -limits.minexp)).astype(np.int32)
    if bool(exponent.any()):
        copy = xp.empty(rows.shape, rows.dtype)
        factors = xp.ldexp(xp.ones(len(maps)), exponent)
        memory.launch(passes.scaled, len(maps), passes.SURVEYORS, rows, factors, copy)
        maps = copy.reshape(maps.shape)
    return Slices(maps, exponent, xp.ldexp(squares, 2 * (shift + exponent)), negative == 0)


def completed(slices: Slices, v: Array, found: Array) -> Candidates:
    """Return right vectors ``(M, rank, C)`` that cost one pass with their products."""
    xp = memory.xp()
    count, rank, _ = v.shape
    pixels = slices.maps.shape[2]
    left = xp.empty((count, rank, pixels), slices.maps.dtype)
    blocks = passes.left_blocks(count, rank, pixels)
    v = xp.ascontiguousarray(v)
    memory.launch(passes.left_products, blocks, passes.LEFT_THREADS, slices.values, v, left)
    return Candidates(v, left, cross_products(slices.maps, left), xp.ones(count, np.int64), found)


def measured(slices: Slices, candidates: Candidates, tol: float) -> tuple[Triplets, Array]:
    """Complete right vectors to triplets; tell whose meet the tolerance, ``(M,)``."""
    xp = memory.xp()
    v, u, across, _, found = candidates
    count, rank, pixels = u.shape
    dtype = u.dtype
    sums = xp.empty((count, rank, 3))
    rows, sums_of_rows = u.reshape(count * rank, pixels), sums.reshape(count * rank, 3)
    memory.launch(passes.vector_sums, count * rank, passes.SURVEYORS, rows, sums_of_rows)

    squares, total, signed = xp.moveaxis(sums, 2, 0)
    s = xp.sqrt(squares)
    first = s.max(axis=1, keepdims=True)
    noise = s <= NOISE[dtype] * first
    size = xp.where(noise, 1.0, s)
    outside = xp.linalg.norm(across / size[:, :, np.newaxis] - s[:, :, np.newaxis] * v, axis=2)
    # ‖X v − s u‖ is the rounding of u.
    rounded = s * (np.finfo(dtype).eps / 2)
    residual = xp.where(noise, s, xp.maximum(outside, rounded)).max(axis=1) / first[:, 0]

    s = xp.where(noise, 0.0, s)
    signs = _signs(v, total, xp.where(s > 0, signed / size**2, 0.0), slices.nonnegative)
    factors = xp.where(s > 0, signs / size, 0.0)
    v = v * signs[:, :, np.newaxis]
    if rank > 1:
        order = xp.argsort(-s, axis=1)
        s, factors = xp.take_along_axis(s, order, axis=1), xp.take_along_axis(factors, order, axis=1)
        v = xp.take_along_axis(v, order[:, :, np.newaxis], axis=1)
        u = xp.take_along_axis(u, order[:, :, np.newaxis], axis=1)
    u *= factors[:, :, np.newaxis].astype(dtype)
    accepted = found & (residual <= tol) & (_overlap(v) <= OVERLAP * tol) & (_overlap(u) <= OVERLAP * tol)
    return Triplets(u, s, v, residual), accepted


def by_lapack(slices: Slices, rank: int) -> Triplets:
    """Decompose slices one by one in float64, by cuSOLVER on a GPU and LAPACK in the simulator."""
    xp = memory.xp()
    wide = slices.maps.astype(np.float64)
    factors = [xp.linalg.svd(x, full_matrices=False) for x in wide]
    s = xp.stack([values[:rank] for _, values, _ in factors])
    s = xp.where(s <= NOISE[slices.maps.dtype] * s[:, :1], 0.0, s)
    v = xp.stack([right[:, :rank].T for right, _, _ in factors])
    u = xp.stack([left[:rank] for _, _, left in factors])
    u = xp.where(s[:, :, np.newaxis] > 0, u, 0.0)
    signs = _signs(v, u.sum(axis=2), (u * abs(u)).sum(axis=2), slices.nonnegative)[:, :, np.newaxis]
    u, v = (u * signs).astype(slices.maps.dtype), v * signs
    along = xp.linalg.norm(v @ wide - s[:, :, np.newaxis] * u, axis=2)
    across = xp.linalg.norm(u @ wide.transpose(0, 2, 1) - s[:, :, np.newaxis] * v, axis=2)
    residual = xp.maximum(along, xp.where(s > 0, across, 0.0)).max(axis=1) / s[:, 0]
    return Triplets(u, s, v, residual)


def _overlap(vectors: Array) -> Array:
    """Return the largest product of two of each slice's vectors ``(M, rank, n)``, as ``(M,)``."""
    xp = memory.xp()
    rank = vectors.shape[1]
    if rank == 1:
        return xp.zeros(len(vectors))
    products = gram_matrices(vectors, vectors.dtype)
    return abs(products * (1 - xp.eye(rank, dtype=vectors.dtype))).max(axis=(1, 2))


def _signs(v: Array, total: Array, signed: Array, nonnegative: Array) -> Array:
    """Choose the signs ``(M, rank)`` of pairs of vectors, from Σ u and Σ u|u|: see `truncated_svd`."""
    xp = memory.xp()
    direction = (v * abs(v)).sum(axis=2) + signed
    leads = xp.arange(v.shape[1]) == 0
    direction = xp.where(leads & nonnegative[:, np.newaxis], total, direction)
    return xp.where(direction < 0, -1.0, 1.0)
