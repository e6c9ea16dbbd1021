"""Truncated singular value decomposition of a batch of slices on the GPU.

What `eigenfeatures.kernels.cpu.triplets` does for one slice, in launches that take all slices at
once. After each search the host learns, once, which slices are still without an answer.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import working_dtype
from eigenfeatures.kernels.cuda import jacobi, lanczos, memory, passes
from eigenfeatures.kernels.cuda.compile import WARP
from eigenfeatures.kernels.cuda.gram import gram_matrices
from eigenfeatures.kernels.cuda.memory import Array
from eigenfeatures.kernels.cuda.triplets import Slices, Triplets, by_lapack, measured, survey
from eigenfeatures.kernels.svd import TruncatedSVD

# Added to the diagonal of a Gram matrix of trace 1, in steps of its precision: more than the rounding
# of its elements, so that all eigenvalues are above 0 and rows of zeros get a direction.
_SHIFT = 16

# Bytes of float64 for the slices that are copied together for a further search.
_COPIES = 1 << 30


class Candidates(NamedTuple):
    """Right vectors ``(M, rank, C)``; the passes made and whether the vectors are found, ``(M,)``."""

    v: Array
    passes: Array
    found: Array


def decompose(
    maps: Array,
    rank: int,
    start: Array | None,
    tol: float,
    max_passes: int,
    seed: int,
    center: bool,
) -> TruncatedSVD:
    """Decompose each slice of maps (N, C, n) on the current device and stream; see the function for the CPU.

    All searches start from `start`, or else from the same random signs; at most `lanczos.MOST_PASSES`
    passes are made. The methods are in a NumPy array.
    """
    xp = memory.xp()
    working = _working(maps, center)
    count, channels, pixels = working.shape
    method = np.full(count, "", "<U7")
    made = np.zeros(count, np.int64)
    u = xp.empty((count, rank, pixels), working.dtype)
    result = Triplets(u, xp.empty((count, rank)), xp.empty((count, rank, channels)), xp.empty(count))
    total = xp.empty(count)
    if count > 0:
        # Slices that have no decomposition turn to NaN on the way, of which NumPy would warn.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slices = survey(working)
            result = _solved(slices, rank, start, tol, max_passes, seed, result, made, method)
            result = result._replace(s=xp.ldexp(result.s, -slices.exponent[:, np.newaxis]))
            total = xp.ldexp(slices.energy, -2 * slices.exponent)
        for name, fill in (("zero", 0.0), ("invalid", np.nan)):
            places = np.flatnonzero(method == name)
            for array in (*result, total) if places.size else ():
                array[memory.to_device(places)] = fill
    return TruncatedSVD(
        u=result.u,
        s=result.s,
        v=result.v,
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
    start: Array | None,
    tol: float,
    max_passes: int,
    seed: int,
    result: Triplets,
    made: NDArray[np.int64],
    method: NDArray[np.str_],
) -> Triplets:
    """Return the result, put in place by place by the cheapest method that meets the tolerance.

    `made` and `method`, of NumPy, are filled with the passes and the method's name.
    """
    xp = memory.xp()
    energy, exponent = memory.to_host(xp.stack((slices.energy, slices.exponent.astype(np.float64))))
    method[energy == 0] = "zero"
    method[~np.isfinite(energy)] = "invalid"
    scaled = bool(exponent[method == ""].any())
    searches = _searches(slices, rank, start, tol, max_passes, seed, scaled)
    for number, (name, search) in enumerate(searches):
        unsolved = np.flatnonzero(method == "")
        # The first search takes all slices as they lie, rather than copies of those with an answer.
        for places in _portions(unsolved, slices.maps) if number else [np.arange(len(method))]:
            portion = slices.taken(places) if number else slices
            v, passes_made, found = search(portion)
            triplets, accepted = measured(portion, v, tol)
            result = _stored(result, places, triplets)
            passed, good = memory.to_host(xp.stack((passes_made, (accepted & found).astype(np.int64))))
            sought = method[places] == ""
            made[places[sought]] += passed[sought]
            method[places[sought & (good == 1)]] = name
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
    slices: Slices, rank: int, start: Array | None, tol: float, max_passes: int, seed: int, scaled: bool
) -> Iterator[tuple[str, Callable[[Slices], Candidates]]]:
    """Yield methods and what finds right vectors by them, cheapest first."""
    _, channels, pixels = slices.maps.shape
    if pixels <= channels:
        return  # a decomposition in float64 costs less than a Gram matrix of this size
    dtype = slices.maps.dtype
    limit = min(max_passes, lanczos.MOST_PASSES, channels)
    fits = channels <= lanczos.most_channels(dtype) and channels * pixels < 2**31
    if rank == 1 and limit > 0 and fits:
        # Half the tolerance: the rest is for the rounding of what is returned.
        yield "lanczos", lambda portion: _by_lanczos(portion, start, tol / 2, limit, seed)
    yield "gram", lambda portion: _by_gram(portion, rank, dtype, scaled)
    if dtype != np.float64:
        yield "gram", lambda portion: _by_gram(portion, rank, np.dtype(np.float64), scaled)


def _by_lanczos(slices: Slices, start: Array | None, tol: float, limit: int, seed: int) -> Candidates:
    xp = memory.xp()
    count, channels, _ = slices.maps.shape
    spaces = xp.empty((count, 2 * limit, channels))
    v, found = xp.zeros((count, channels)), xp.zeros(count, np.bool_)
    made = xp.zeros(count, np.int64)
    memory.launch(
        lanczos.leading_vectors[slices.maps.dtype],
        count,
        passes.block_of(channels),
        slices.values,
        slices.scale,
        slices.energy,
        xp.zeros(channels) if start is None else start,
        start is not None,
        tol,
        np.uint64(seed & 0xFFFFFFFF),
        np.uint64(seed >> 32),
        spaces,
        v,
        made,
        found,
    )
    return Candidates(_unit(v[:, np.newaxis]), made, found)


def _by_gram(slices: Slices, rank: int, dtype: np.dtype[Any], scaled: bool) -> Candidates:
    xp = memory.xp()
    count, channels, _ = slices.maps.shape
    matrices = gram_matrices(slices.maps, slices.scale if scaled else None, dtype)
    matrices /= xp.trace(matrices, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    step = np.finfo(dtype).eps
    matrices += _SHIFT * step * xp.eye(channels, dtype=dtype)
    converged = xp.zeros(count, np.bool_)
    threads = WARP * min(jacobi.WARPS, (channels + 1) // 2)
    # Products of rows are rounded by about this: see LAPACK's xGESVJ.
    threshold = dtype.type(math.sqrt(channels) * step)
    memory.launch(jacobi.eigenvectors, count, threads, matrices, threshold, converged)
    order = xp.argsort(-xp.linalg.norm(matrices, axis=2), axis=1)[:, :rank]
    v = xp.take_along_axis(matrices, order[:, :, np.newaxis], axis=1).astype(np.float64)
    return Candidates(_unit(v), xp.ones(count, np.int64), converged)


def _unit(vectors: Array) -> Array:
    return vectors / memory.xp().linalg.norm(vectors, axis=2, keepdims=True)
