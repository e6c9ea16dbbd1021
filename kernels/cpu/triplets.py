"""Singular triplets of one slice: search, measurement, fallback and sign."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eigenfeatures.kernels.arrays import NOISE, RESOLVED, read_only
from eigenfeatures.kernels.cpu import passes as loops
from eigenfeatures.kernels.cpu.eigen import eigenvectors
from eigenfeatures.kernels.cpu.gram import gram_matrix
from eigenfeatures.kernels.cpu.krylov import Search, Survey, in_range, search, survey
from eigenfeatures.kernels.cpu.lanczos import Workspace
from eigenfeatures.kernels.cpu.ritz import searched_to

# Methods of slices that have no singular vectors to go on from.
UNDEFINED = ("zero", "invalid")

# Against s_1: below this, float32 sums would tell in a left vector of float32.
_SMALL = 0.05

# From so many elements on, where there are no more pixels than channels.
_WORTH_A_GRAM = 4096

# In units of the tolerance for residuals: how far left vectors may be from orthogonal.
OVERLAP = 10


class Triplets(NamedTuple):
    """What `TruncatedSVD` holds, for one slice whose left vectors ``(rank, n)`` were filled.

    `nearby` are vectors ``(k, C)`` to start the search of a similar slice from.
    """

    s: NDArray[np.float64]
    v: NDArray[np.float64]
    gap: float
    residual: float
    passes: int
    method: str
    energy: float
    nearby: NDArray[np.float64]


def triplets(
    x: NDArray[Any],
    u: NDArray[Any],
    start: NDArray[np.float64],
    tol: float,
    seed: int,
    gap: bool,
    room: Workspace | None,
) -> Triplets:
    """Fill `u` (rank, n) with left singular vectors of X, held as rows (C, n), and return the rest.

    A search for one vector is made where there is `room` for it, from `start` (k, C), and goes on for s_2/s_1
    where that `gap` is asked for.
    """
    of_all, found = _searched(x, start, tol, seed, gap, room, u)
    exponent, passes_before = 0, 0
    least, most = in_range(x.dtype)
    if not least < of_all.energy < most:
        largest = float(np.abs(x).max())
        if largest == 0 or not np.isfinite(largest):
            return _undefined(u, len(x), largest)
        # A power of two changes no digit, and keeps the squares within the range of numbers.
        exponent = int(np.frexp(largest)[1])
        x = read_only(np.ldexp(x, -exponent))
        passes_before = 0 if found is None else found.passes
        of_all, found = _searched(x, start, tol, seed, gap, room, u)

    best = _best(x, u, found, of_all.energy, tol)
    _orient(u, best.v, of_all.nonnegative)
    with np.errstate(over="ignore"):  # of values and squares beyond the largest number
        s, energy = np.ldexp(best.s, exponent), float(np.ldexp(best.energy, 2 * exponent))
    return best._replace(
        s=s,
        gap=best.gap if gap or best.method != "lanczos" else np.nan,
        passes=passes_before + best.passes,
        energy=energy,
    )


def _searched(
    x: NDArray[Any],
    start: NDArray[np.float64],
    tol: float,
    seed: int,
    gap: bool,
    room: Workspace | None,
    u: NDArray[Any],
) -> tuple[Survey, Search | None]:
    if room is None:
        return survey(x), None
    found = search(x, start, searched_to(tol), seed, gap, room, u[0])
    return found.survey, found


def _undefined(u: NDArray[Any], channels: int, largest: float) -> Triplets:
    """Return the result for a slice of zeros, or NaN throughout where a value isn't finite."""
    method, fill = ("zero", 0.0) if largest == 0 else ("invalid", np.nan)
    u[:] = fill
    v = np.full((len(u), channels), fill)
    return Triplets(np.full(len(u), fill), v, fill, fill, 0, method, fill, v)


def _best(x: NDArray[Any], u: NDArray[Any], found: Search | None, energy: float, tol: float) -> Triplets:
    """Fill `u` and return what the cheapest method that meets `tol` finds."""
    passes = 0 if found is None else found.passes
    leading = None if found is None else found.leading
    if leading is not None:
        size, gap, (direction, _), image, lost = leading
        residual = max(float(np.linalg.norm(image / size - size * direction)) / size, lost)
        if residual <= tol:
            v = direction[np.newaxis]
            return Triplets(np.array([size]), v, gap, residual, passes, "lanczos", energy, leading.v)
    if _gram_pays(*x.shape):
        for dtype in dict.fromkeys((x.dtype, np.dtype(np.float64))):
            passes += 1
            values, vectors = eigenvectors(gram_matrix(x, dtype), len(u))
            # Of float32 responses, float64 tells all values that don't count as zero.
            if dtype == x.dtype and values[len(u) - 1] < RESOLVED[dtype] * values[0]:
                continue
            precise = values[len(u) - 1] < _SMALL**2 * values[0]
            s, v, residual, overlap = _complete(x, vectors, u, np.float64 if precise else x.dtype)
            if residual <= tol and overlap <= OVERLAP * tol:
                known = s if len(s) > 1 else np.sqrt(np.maximum(values[:2], 0.0))
                nearby = v if leading is None else leading.v
                return Triplets(s, v, _gap(known), residual, passes, "gram", energy, nearby)
    s, v, gap, residual = _lapack(x, u)
    return Triplets(s, v, gap, residual, passes + 1, "svd", energy, v if leading is None else leading.v)


def _gram_pays(channels: int, pixels: int) -> bool:
    """Tell whether a Gram matrix and its eigenvectors take less time than LAPACK on the slice, as measured.

    LAPACK turns a slice of fewer pixels than channels first, which spares it the difference.
    """
    return pixels > channels or (2 * pixels > channels and channels * pixels >= _WORTH_A_GRAM)


def _gap(values: NDArray[np.float64]) -> float:
    """Return s_2 / s_1 from all singular values or the first of them."""
    return float(values[1] / values[0]) if len(values) > 1 else 0.0


def _complete(
    x: NDArray[Any], v: NDArray[np.float64], u: NDArray[Any], dtype: DTypeLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Fill `u` with X v_i / s_i, summed in `dtype`; return s, v, the residual and the largest |u_i · u_j|."""
    tiles = loops.tile_count(x.shape[1])
    sums = np.empty((tiles, len(v), 2))
    products = np.empty((tiles, len(v), len(x)))
    loops.left_vectors(x, np.ascontiguousarray(v, dtype=dtype), u, sums, products)
    s, lost = np.sqrt(sums.sum(axis=0)).T
    noise = s <= NOISE[u.dtype] * s.max()
    scale = np.where(noise, 1.0, s)
    across = np.linalg.norm(products.sum(axis=0) / scale[:, np.newaxis] - s[:, np.newaxis] * v, axis=1)
    residual = np.where(noise, s, np.maximum(across, lost)).max() / s.max()
    u /= scale[:, np.newaxis].astype(u.dtype)
    u[noise] = 0
    s = np.where(noise, 0.0, s)
    order = np.argsort(-s, kind="stable")
    if np.any(order[1:] < order[:-1]):
        u[:], s, v = u[order], s[order], v[order]
    overlap = float(np.abs(np.triu(gram_matrix(u, u.dtype), 1)).max()) if len(u) > 1 else 0.0
    return s, v, float(residual), overlap


def _lapack(
    x: NDArray[Any], u: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Fill `u` by LAPACK's singular value decomposition in float64; return s, v, s_2/s_1 and the residual."""
    wide = x.astype(np.float64)
    right, values, left = np.linalg.svd(wide, full_matrices=False)
    values = np.where(values <= NOISE[u.dtype] * values[0], 0.0, values)
    s = values[: len(u)]
    v = np.ascontiguousarray(right.T[: len(u)])
    u[:] = np.where(s[:, np.newaxis] > 0, left[: len(u)], 0.0)
    along = np.linalg.norm(v @ wide - s[:, np.newaxis] * u, axis=1)
    across = np.where(s > 0, np.linalg.norm(u @ wide.T - s[:, np.newaxis] * v, axis=1), 0.0)
    return s, v, _gap(values), float(np.maximum(along, across).max() / s[0])


def _orient(u: NDArray[Any], v: NDArray[np.float64], nonnegative: bool) -> None:
    """Choose the signs of pairs of vectors: see `truncated_svd`."""
    for i in range(len(u)):
        if nonnegative and i == 0:
            direction = u[i].sum()
        else:
            direction = (v[i] * np.abs(v[i])).sum() + (u[i] * np.abs(u[i])).sum()
        if direction < 0:
            np.negative(u[i], out=u[i])
            np.negative(v[i], out=v[i])
