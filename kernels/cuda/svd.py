"""Truncated singular value decomposition of a batch of slices on the GPU.

What `eigenfeatures.kernels.cpu.triplets` does for one slice, in launches that take all slices at
once. After each search the host learns, once, which slices are still without an answer.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import RESOLVED, working_dtype
from eigenfeatures.kernels.cpu.ritz import searched_to
from eigenfeatures.kernels.cuda import jacobi, lanczos, memory, passes, search
from eigenfeatures.kernels.cuda.compile import WARP
from eigenfeatures.kernels.cuda.gram import gram_matrices
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.survey import ENERGY, EXPONENT
from eigenfeatures.kernels.cuda.triplets import (
    Candidates,
    Slices,
    Triplets,
    by_lapack,
    completed,
    measured,
    survey,
    unknown_gap,
)
from eigenfeatures.kernels.svd import TruncatedSVD

# Added to the diagonal of a Gram matrix of trace 1, in steps of its precision: more than the rounding
# of its elements, so that all eigenvalues are above 0 and rows of zeros get a direction.
_SHIFT = 16

# Most slices whose Gram matrices cuSOLVER decomposes one by one, and fewest channels. With 128 each takes up
# to 1.8 ms on an H200, where `jacobi` takes 6.6 for one and 7.6 for 64; with 32 `jacobi` takes about 0.5.
_FEW, _WIDE = 3, 64

# Bytes of float64 for the slices that are copied together for a further search.
_COPIES = 1 << 30


def default_passes(channels: int) -> int:
    """Return how many passes take no longer than the Gram matrix and its eigenvectors.

    Measured for 128 channels, where it would be more than there is room for, and estimated for fewer.
    """
    return min(2 + channels // 5, lanczos.MOST_PASSES)


def decompose(
    maps: Array,
    rank: int,
    start: Array | None,
    tol: float,
    max_passes: int,
    seed: int,
    center: bool,
    gap: bool,
) -> TruncatedSVD:
    """Decompose each slice of maps (N, C, n) on the current device and stream; see the function for the CPU.

    All searches start from `start`, or else from the sum of the maps, each with the same random weights of a
    twentieth of its size added; at most `lanczos.MOST_PASSES` passes are made. The methods are in a NumPy
    array.
    """
    xp = memory.xp()
    working = _working(maps, center)
    count, channels, pixels = working.shape
    method = np.full(count, "", "<U7")
    made = np.zeros(count, np.int64)
    u, s, v = (
        xp.empty((count, rank, pixels), working.dtype),
        xp.empty((count, rank)),
        xp.empty((count, rank, channels)),
    )
    result = Triplets(u, s, v, xp.empty(count), xp.empty(count))
    total = xp.empty(count)
    if count > 0:
        # Slices that have no decomposition turn to NaN on the way, of which NumPy would warn.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slices, told = survey(working)
            searches = _searches(slices, rank, start, tol, max_passes, seed, gap)
            method[told[ENERGY] == 0] = "zero"
            method[~np.isfinite(told[ENERGY])] = "invalid"
            result = _solved(slices, rank, searches, tol, result, made, method)
            total = slices.energy
            if told[EXPONENT].any():
                exponent = slices.exponent.astype(np.int32)
                result = result._replace(s=xp.ldexp(result.s, -exponent[:, np.newaxis]))
                total = xp.ldexp(total, -2 * exponent)
        for name, fill in (("zero", 0.0), ("invalid", np.nan)):
            places = np.flatnonzero(method == name)
            for array in (*result, total) if places.size else ():
                array[memory.to_device(places)] = fill
    return TruncatedSVD(
        u=result.u,
        s=result.s,
        v=result.v,
        gap=result.gap,
        residual=result.residual,
        passes=memory.to_device(made),
        method=method,
        energy=total,
    )


def _working(maps: Array, center: bool) -> Array:
    """Return the responses in the precision that is computed in, without their means where asked."""
    dtype = working_dtype(maps)
    if not center:
        return maps.astype(dtype, copy=False)
    xp = memory.xp()
    out = xp.empty(maps.shape, dtype)
    for places in _portions(np.arange(len(maps)), maps):
        portion = slice(places[0], places[-1] + 1)
        # About each map's first value, so that a constant map gives zeros.
        values = xp.subtract(maps[portion], maps[portion, :, :1], dtype=np.float64)
        out[portion] = values - values.mean(axis=2, keepdims=True)
    return out


def _solved(
    slices: Slices,
    rank: int,
    searches: Iterator[tuple[str, Callable[[Slices], Candidates]]],
    tol: float,
    result: Triplets,
    made: NDArray[np.int64],
    method: NDArray[np.str_],
) -> Triplets:
    """Return the result, put in place by place by the cheapest method that meets the tolerance.

    `made` and `method`, of NumPy, are filled with the passes and the method's name.
    """
    for number, (name, candidates_of) in enumerate(searches):
        unsolved = np.flatnonzero(method == "")
        # The first search takes all slices as they lie, rather than copies of those with an answer.
        for places in _portions(unsolved, slices.maps) if number else [np.arange(len(method))]:
            portion = slices.taken(places) if number else slices
            candidates = candidates_of(portion)
            triplets, accepted = measured(portion, candidates, tol)
            result = _stored(result, places, triplets.leading(rank))
            passed, good = memory.to_host(candidates.passes), memory.to_host(accepted)
            sought = method[places] == ""
            made[places[sought]] += passed[sought]
            method[places[sought & good]] = name
    for places in _portions(np.flatnonzero(method == ""), slices.maps):
        result = _stored(result, places, by_lapack(slices.taken(places), rank))
        made[places] += 1
        method[places] = "svd"
    return result


def _portions(places: NDArray[np.intp], maps: Array) -> Iterator[NDArray[np.intp]]:
    """Yield places of slices, as many at a time as may be copied."""
    step = max(1, _COPIES // (math.prod(maps.shape[1:]) * np.dtype(np.float64).itemsize))
    for first in range(0, len(places), step):
        yield places[first : first + step]


def _stored(result: Triplets, places: NDArray[np.intp], triplets: Triplets) -> Triplets:
    """Return the result with triplets of some slices, or all, put in."""
    if len(places) == len(result.s):
        return triplets
    index = memory.to_device(places)
    for array, values in zip(result, triplets, strict=True):
        array[index] = values
    return result


def _searches(
    slices: Slices, rank: int, start: Array | None, tol: float, max_passes: int, seed: int, gap: bool
) -> Iterator[tuple[str, Callable[[Slices], Candidates]]]:
    """Yield methods and what finds right vectors by them, cheapest first."""
    _, channels, pixels = slices.maps.shape
    if pixels <= channels:
        return  # a decomposition in float64 costs less than a Gram matrix of this size
    dtype = slices.maps.dtype
    limit = min(max_passes, lanczos.MOST_PASSES, channels)
    fits = channels <= passes.most_channels(dtype) and channels * pixels < 2**31
    if rank == 1 and limit > 0 and fits:
        yield "lanczos", lambda portion: _by_lanczos(portion, start, searched_to(tol), limit, seed, gap)
    rank = max(rank, 2) if gap and channels > 1 else rank
    yield "gram", lambda portion: _by_gram(portion, rank, dtype)
    if dtype != np.float64:
        yield "gram", lambda portion: _by_gram(portion, rank, np.dtype(np.float64))


def _by_lanczos(
    slices: Slices, start: Array | None, tol: float, limit: int, seed: int, gap: bool
) -> Candidates:
    pixels = slices.maps.shape[2]
    found, left = search.search(slices.values, pixels, slices.energy, start, tol, limit, seed, gap)
    return Candidates(
        found.vectors[:, np.newaxis],
        left[:, np.newaxis],
        found.across[:, np.newaxis],
        found.counts,
        found.found,
        found.ratios if gap else unknown_gap(slices),
    )


def _by_gram(slices: Slices, rank: int, dtype: np.dtype[Any]) -> Candidates:
    xp = memory.xp()
    matrices = gram_matrices(slices.maps, dtype)
    matrices /= xp.trace(matrices, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    few = len(matrices) <= _FEW and matrices.shape[1] >= _WIDE
    values, v, found = (_one_by_one if few else _eigenvectors)(matrices.copy(), rank)
    if dtype == slices.maps.dtype:  # else float64, which tells all values of narrower types that count
        found &= values[:, -1] >= RESOLVED[dtype] * values[:, 0]
    if dtype != np.float64:
        v = v if few or rank == 1 else _refined(matrices.astype(np.float64), v)
    return completed(slices, v, found)


def _one_by_one(matrices: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return leading eigenvalues and vectors of matrices, in float64 by cuSOLVER, and which are finite."""
    xp = memory.xp()
    finite = xp.isfinite(matrices).all(axis=(1, 2))
    # Others would be an error of the solver's.
    matrices[~finite] = 0
    solved = [xp.linalg.eigh(matrix) for matrix in matrices.astype(np.float64)]
    values = xp.stack([ascending[::-1][:rank] for ascending, _ in solved])
    return values, xp.stack([vectors[:, ::-1][:, :rank].T for _, vectors in solved]), finite


def _eigenvectors(matrices: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return leading eigenvalues and vectors of matrices of trace 1, which are lost, and which converged."""
    xp = memory.xp()
    count, order, _ = matrices.shape
    dtype = matrices.dtype
    step = np.finfo(dtype).eps
    matrices += _SHIFT * step * xp.eye(order, dtype=dtype)
    converged = xp.zeros(count, np.bool_)
    threads = WARP * min(jacobi.WARPS, (order + 1) // 2)
    # Products of rows are rounded by about this: see LAPACK's xGESVJ.
    threshold = dtype.type(math.sqrt(order) * step)
    memory.launch(jacobi.eigenvectors, count, threads, matrices, threshold, converged)
    values = xp.linalg.norm(matrices, axis=2)
    places = xp.argsort(-values, axis=1)[:, :rank]
    v = xp.take_along_axis(matrices, places[:, :, np.newaxis], axis=1).astype(np.float64)
    return xp.take_along_axis(values, places, axis=1), _unit(v), converged


def _refined(matrices: Array, v: Array) -> Array:
    """Return the eigenvectors ``(M, rank, C)`` of float64 matrices in the space of those of float32.

    What is left there of v_1 in v_i, about 10⁻⁶, would count s_1/s_i times in the residual.
    """
    xp = memory.xp()
    # One step of Newton and Schulz: vectors orthogonal to 10⁻⁶ are so to 10⁻¹².
    v = 1.5 * v - 0.5 * (v @ v.transpose(0, 2, 1)) @ v
    projected = v @ matrices @ v.transpose(0, 2, 1)
    projected = (projected + projected.transpose(0, 2, 1)) / 2
    projected /= xp.trace(projected, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    _, turned, _ = _eigenvectors(xp.ascontiguousarray(projected), v.shape[1])
    return _unit(turned @ v)


def _unit(vectors: Array) -> Array:
    return vectors / memory.xp().linalg.norm(vectors, axis=2, keepdims=True)
