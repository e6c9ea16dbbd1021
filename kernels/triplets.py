"""Singular triplets of one slice: search, measurement, fallback and sign."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eigenfeatures.kernels.cpu import svd as loops
from eigenfeatures.kernels.krylov import leading_vector

# Methods of slices that have no singular vectors to go on from.
UNDEFINED = ("zero", "invalid")

# Columns a product with BLAS, whose sums are then added in float64.
_CHUNK = 2048

# Against the largest singular value: what the rounding of the responses makes of a zero.
_NOISE = MappingProxyType({np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12})

# In units of the tolerance for residuals: how far left vectors may be from orthogonal.
_OVERLAP = 10


class Triplets(NamedTuple):
    """What `TruncatedSVD` holds, for one slice whose left vectors ``(rank, n)`` were filled."""

    s: NDArray[np.float64]
    v: NDArray[np.float64]
    residual: float
    passes: int
    method: str
    energy: float


class _Candidate(NamedTuple):
    """Right vectors ``(rank, C)`` that a method found with a number of further passes."""

    method: str
    passes: int
    v: NDArray[np.float64]


def smallest_tolerance(dtype: np.dtype[Any]) -> float:
    """Return the least residual that can be promised for vectors of a precision."""
    return _NOISE[dtype]


def decompose(
    x: NDArray[Any], u: NDArray[Any], start: NDArray[np.float64], tol: float, max_passes: int, seed: int
) -> Triplets:
    """Fill `u` (rank, n) with left singular vectors of X, held as rows (C, n), and return the rest."""
    energy, nonnegative = _survey(x)
    exponent = 0
    if not _in_range(energy, x.dtype):
        largest = float(np.abs(x).max())
        if largest == 0 or not np.isfinite(largest):
            return _undefined(u, len(x), largest)
        # A power of two changes no digit, and keeps the squares within the range of numbers.
        exponent = int(np.frexp(largest)[1])
        x = np.ldexp(x, -exponent)
        energy, nonnegative = _survey(x)

    passes = 0
    for candidate in _right_vectors(x, len(u), energy, start, tol, max_passes, seed):
        passes += candidate.passes
        s, v, residual, overlap = _complete(x, candidate.v, u)
        if residual <= tol and overlap <= _OVERLAP * tol:
            method = candidate.method
            break
    else:
        method, passes = "svd", passes + 1
        s, v, residual = _lapack(x, u)
    _orient(u, v, nonnegative)
    with np.errstate(over="ignore"):
        energy = float(np.ldexp(energy, 2 * exponent))
    return Triplets(np.ldexp(s, exponent), v, residual, passes, method, energy)


def _survey(x: NDArray[Any]) -> tuple[float, bool]:
    """Return ‖X‖²_F and whether no value is below zero."""
    rows = np.empty((len(x), 2))
    loops.survey(x, rows)
    return float(rows[:, 0].sum()), not rows[:, 1].any()


def _in_range(energy: float, dtype: np.dtype[Any]) -> bool:
    """Tell whether sums of products of the responses neither overflow nor vanish."""
    bound = 2.0 ** (np.finfo(dtype).maxexp // 2)
    return 1 / bound < energy < bound


def _undefined(u: NDArray[Any], channels: int, largest: float) -> Triplets:
    """Return the result for a slice of zeros, or NaN throughout where a value isn't finite."""
    method, fill = ("zero", 0.0) if largest == 0 else ("invalid", np.nan)
    u[:] = fill
    return Triplets(np.full(len(u), fill), np.full((len(u), channels), fill), fill, 0, method, fill)


def _right_vectors(
    x: NDArray[Any],
    rank: int,
    energy: float,
    start: NDArray[np.float64],
    tol: float,
    max_passes: int,
    seed: int,
) -> Iterator[_Candidate]:
    """Yield candidates for the right vectors, cheapest first."""
    channels, pixels = x.shape
    if pixels <= channels:
        return  # LAPACK costs less than a Gram matrix of this size
    passes = 0
    if rank == 1:
        # Half the tolerance: the rest is for the rounding of what is returned.
        leading, passes = leading_vector(x, energy, start, tol / 2, max_passes, seed)
        if leading is not None:
            yield _Candidate("lanczos", passes, leading[np.newaxis])
            passes = 0
    yield _Candidate("gram", passes + 1, _gram_vectors(x, rank, x.dtype))
    if x.dtype != np.float64:
        yield _Candidate("gram", 1, _gram_vectors(x, rank, np.float64))


def _gram_vectors(x: NDArray[Any], rank: int, dtype: DTypeLike) -> NDArray[np.float64]:
    """Return eigenvectors (rank, C) of XᵀX, whose products are made in `dtype`."""
    gram = np.zeros((len(x), len(x)))
    for first in range(0, x.shape[1], _CHUNK):
        part = x[:, first : first + _CHUNK].astype(dtype, copy=False)
        gram += part @ part.T
    return np.linalg.eigh(gram).eigenvectors.T[: -rank - 1 : -1]


def _complete(
    x: NDArray[Any], v: NDArray[np.float64], u: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Fill `u` with X v_i / s_i; return s and v in order, the residual and the largest |u_i · u_j|."""
    tiles = loops.tile_count(x.shape[1])
    sums = np.empty((tiles, len(v), 2))
    products = np.empty((tiles, len(v), len(x)))
    loops.left_vectors(x, np.ascontiguousarray(v), u, sums, products)
    s, lost = np.sqrt(sums.sum(axis=0)).T
    noise = s <= _NOISE[u.dtype] * s.max()
    scale = np.where(noise, 1.0, s)
    across = np.linalg.norm(products.sum(axis=0) / scale[:, np.newaxis] - s[:, np.newaxis] * v, axis=1)
    residual = np.where(noise, s, np.maximum(across, lost)).max() / s.max()
    u /= scale[:, np.newaxis].astype(u.dtype)
    u[noise] = 0
    s = np.where(noise, 0.0, s)
    order = np.argsort(-s, kind="stable")
    if np.any(order[1:] < order[:-1]):
        u[:], s, v = u[order], s[order], v[order]
    overlap = float(np.abs(np.triu(u @ u.T, 1)).max()) if len(u) > 1 else 0.0
    return s, v, float(residual), overlap


def _lapack(x: NDArray[Any], u: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fill `u` by LAPACK's singular value decomposition in float64; return s, v and the residual."""
    wide = x.astype(np.float64)
    right, values, left = np.linalg.svd(wide, full_matrices=False)
    s = np.where(values <= _NOISE[u.dtype] * values[0], 0.0, values)[: len(u)]
    v = np.ascontiguousarray(right.T[: len(u)])
    u[:] = np.where(s[:, np.newaxis] > 0, left[: len(u)], 0.0)
    along = np.linalg.norm(v @ wide - s[:, np.newaxis] * u, axis=1)
    across = np.where(s > 0, np.linalg.norm(u @ wide.T - s[:, np.newaxis] * v, axis=1), 0.0)
    return s, v, float(np.maximum(along, across).max() / s[0])


def _orient(u: NDArray[Any], v: NDArray[np.float64], nonnegative: bool) -> None:
    """Choose the signs of pairs of vectors: see `truncated_svd`."""
    direction = (v * np.abs(v)).sum(axis=1) + (u * np.abs(u)).sum(axis=1)
    if nonnegative:
        direction[0] = u[0].sum()
    sign = np.where(direction < 0, -1.0, 1.0)[:, np.newaxis]
    u *= sign.astype(u.dtype)
    v *= sign
