"""Singular triplets of a batch of slices from their right vectors, measured; and their signs.

The counterpart of the measuring half of `eigenfeatures.kernels.cpu.triplets`, for all slices at once.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import NOISE
from eigenfeatures.kernels.cpu.triplets import OVERLAP
from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.compile import WARP
from eigenfeatures.kernels.cuda.conclusion import CONCLUDERS, ORDERERS, arrange, conclude
from eigenfeatures.kernels.cuda.gram import cross_products, gram_matrices
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.survey import (
    ENERGY,
    EXPONENT,
    NONNEGATIVE,
    SURVEYORS,
    part_count,
    sum_squares,
    summarise,
)


class Slices(NamedTuple):
    """Slices of the device, in a range where sums of products neither overflow nor vanish.

    Attributes
    ----------
    maps
        ``(M, C, n)``, float32 or float64.
    exponent
        Of the power of two that the responses were multiplied by, ``(M,)`` float64; mostly 0.
    energy
        ‖X‖²_F of the maps, ``(M,)``: 0 or not finite where no decomposition exists.
    nonnegative
        Whether no response is below zero, ``(M,)`` float64.
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
    gap
        s_2 / s_1 where the search for one vector knows it, ``(M,)``, and else NaN.
    """

    v: Array
    left: Array
    across: Array
    passes: Array
    found: Array
    gap: Array


class Triplets(NamedTuple):
    """Of slices times their power of two: u, s, v as in `TruncatedSVD`, the residual and s_2 / s_1."""

    u: Array
    s: Array
    v: Array
    residual: Array
    gap: Array

    def leading(self, rank: int) -> "Triplets":
        """Return the first triplets alone, in memory of their own."""
        parts = (self.u, self.s, self.v)
        u, s, v = (memory.xp().ascontiguousarray(part[:, :rank]) for part in parts)
        return Triplets(u, s, v, self.residual, self.gap)


def survey(maps: Array) -> tuple[Slices, NDArray[np.float64]]:
    """Return slices ``(N, C, n)`` with their energy and sign, copied where one of them must be scaled.

    Where sums of products would leave the range of numbers, a power of two brings ‖X‖_F to
    between 1/2 and 1, or as near as its own range allows: within 2¹² for float32. Responses
    that it takes below the least number are 2⁻¹²⁶ of that or less. Subnormal responses count in full.
    What was told of them is returned on the host, too, ``(3, N)``.
    """
    xp = memory.xp()
    rows = maps.reshape(len(maps), -1)
    sums = xp.empty((len(maps), part_count(rows.shape[1]), 4))
    told = xp.empty((3, len(maps)))
    limits = np.finfo(maps.dtype)
    memory.launch(sum_squares, sums.shape[0] * sums.shape[1], SURVEYORS, rows, sums)
    bound = 2.0 ** (limits.maxexp // 2)
    memory.launch(summarise, len(maps), WARP, sums, bound, -int(limits.minexp), told)
    known = memory.to_host(told)
    if known[EXPONENT].any():
        copy = xp.empty(rows.shape, rows.dtype)
        factors = xp.ldexp(xp.ones(len(maps)), told[EXPONENT].astype(np.int32))
        memory.launch(passes.scaled, len(maps), SURVEYORS, rows, factors, copy)
        maps = copy.reshape(maps.shape)
    return Slices(maps, told[EXPONENT], told[ENERGY], told[NONNEGATIVE]), known


def completed(slices: Slices, v: Array, found: Array) -> Candidates:
    """Return right vectors ``(M, rank, C)`` that cost one pass with their products."""
    xp = memory.xp()
    count, rank, _ = v.shape
    pixels = slices.maps.shape[2]
    left = xp.empty((count, rank, pixels), slices.maps.dtype)
    blocks = passes.left_blocks(count, rank, pixels)
    v = xp.ascontiguousarray(v)
    memory.launch(passes.left_products, blocks, passes.LEFT_THREADS, slices.values, v, left)
    across = cross_products(slices.maps, left)
    return Candidates(v, left, across, xp.ones(count, np.int64), found, unknown_gap(slices))


def unknown_gap(slices: Slices) -> Array:
    """Return s_2 / s_1 of each slice as far as its size tells: NaN, or 0 where there is no s_2."""
    return memory.xp().full(len(slices.maps), 0.0 if min(slices.maps.shape[1:]) == 1 else np.nan)


def measured(slices: Slices, candidates: Candidates, tol: float) -> tuple[Triplets, Array]:
    """Complete right vectors to triplets; tell whose meet the tolerance, ``(M,)``."""
    xp = memory.xp()
    vectors, left, across, _, found, gap = candidates
    count, rank, pixels = left.shape
    sums = xp.empty((count, rank, 3))
    rows, sums_of_rows = left.reshape(count * rank, pixels), sums.reshape(count * rank, 3)
    memory.launch(passes.vector_sums, count * rank, SURVEYORS, rows, sums_of_rows)
    s, v, factors = xp.empty((count, rank)), xp.empty(vectors.shape), xp.empty((count, rank))
    order, residual = xp.empty((count, rank), np.int32), xp.empty(count)
    rounding = float(np.finfo(left.dtype).eps / 2)
    memory.launch(
        conclude,
        count,
        CONCLUDERS,
        vectors,
        across,
        sums,
        slices.nonnegative,
        NOISE[left.dtype],
        rounding,
        s,
        v,
        factors,
        order,
        residual,
    )
    u = left if rank == 1 else xp.empty(left.shape, left.dtype)
    blocks = count * rank * -(-pixels // ORDERERS)
    memory.launch(arrange, blocks, ORDERERS, factors, order, left, u)
    accepted = found & (residual <= tol)
    if rank > 1:
        gap = s[:, 1] / s[:, 0]
        accepted &= (_overlap(v) <= OVERLAP * tol) & (_overlap(u) <= OVERLAP * tol)
    return Triplets(u, s, v, residual, gap), accepted


def by_lapack(slices: Slices, rank: int) -> Triplets:
    """Decompose slices one by one in float64, by cuSOLVER on a GPU and LAPACK in the simulator."""
    xp = memory.xp()
    wide = slices.maps.astype(np.float64)
    factors = [xp.linalg.svd(x, full_matrices=False) for x in wide]
    s = xp.stack([values for _, values, _ in factors])
    s = xp.where(s <= NOISE[slices.maps.dtype] * s[:, :1], 0.0, s)
    gap = s[:, 1] / s[:, 0] if s.shape[1] > 1 else unknown_gap(slices)
    s = s[:, :rank]
    v = xp.stack([right[:, :rank].T for right, _, _ in factors])
    u = xp.stack([left[:rank] for _, _, left in factors])
    u = xp.where(s[:, :, np.newaxis] > 0, u, 0.0)
    signs = _signs(v, u.sum(axis=2), (u * abs(u)).sum(axis=2), slices.nonnegative)[:, :, np.newaxis]
    u, v = (u * signs).astype(slices.maps.dtype), v * signs
    along = xp.linalg.norm(v @ wide - s[:, :, np.newaxis] * u, axis=2)
    across = xp.linalg.norm(u @ wide.transpose(0, 2, 1) - s[:, :, np.newaxis] * v, axis=2)
    residual = xp.maximum(along, xp.where(s > 0, across, 0.0)).max(axis=1) / s[:, 0]
    return Triplets(u, s, v, residual, gap)


def _overlap(vectors: Array) -> Array:
    """Return the largest product of two of each slice's vectors ``(M, rank, n)``, as ``(M,)``."""
    xp = memory.xp()
    products = gram_matrices(vectors, vectors.dtype)
    return abs(products * (1 - xp.eye(vectors.shape[1], dtype=vectors.dtype))).max(axis=(1, 2))


def _signs(v: Array, total: Array, signed: Array, nonnegative: Array) -> Array:
    """Choose the signs ``(M, rank)`` of pairs of vectors, from Σ u and Σ u|u|: see `truncated_svd`."""
    xp = memory.xp()
    direction = (v * abs(v)).sum(axis=2) + signed
    leads = xp.arange(v.shape[1]) == 0
    direction = xp.where(leads & (nonnegative[:, np.newaxis] != 0), total, direction)
    return xp.where(direction < 0, -1.0, 1.0)
