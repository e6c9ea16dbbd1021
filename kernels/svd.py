"""Truncated singular value decomposition of response maps (paper, section 3.3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, stacked, working_dtype


@dataclass(frozen=True)
class TruncatedSVD:
    """The largest singular triplets of each slice's responses.

    Attributes
    ----------
    u
        Left singular vectors as maps ``(..., rank, h, w)``, of unit norm; ``u[..., 0, :, :]``
        is the eigenfeature.
    s
        Singular values ``(..., rank)``, descending; float64.
    v
        Right singular vectors ``(..., rank, C)``; float64.
    residual
        ``max_i max(‖X v_i − s_i u_i‖, ‖Xᵀ u_i − s_i v_i‖) / s_1``, ``(...)``, measured; float64.
    passes
        How often the search read the slice, ``(...)``; int64.
    method
        ``"lanczos"``, ``"gram"``, ``"svd"``, ``"zero"`` or ``"invalid"``, ``(...)``.
    energy
        ``‖X‖²_F``, ``(...)``; float64.
    """

    u: NDArray[Any]
    s: NDArray[np.float64]
    v: NDArray[np.float64]
    residual: NDArray[np.float64]
    passes: NDArray[np.int64]
    method: NDArray[np.str_]
    energy: NDArray[np.float64]


def truncated_svd(
    responses: ArrayLike,
    rank: int = 1,
    *,
    tol: float = 1e-5,
    seed: int = 0,
    center: bool = False,
    start: ArrayLike | None = None,
    max_passes: int | None = None,
) -> TruncatedSVD:
    """Plain version: float64 SVD."""
    given = loop_input(responses, "responses", trailing=3)
    dtype = working_dtype(given)
    leading, (channels, height, width) = given.shape[:-3], given.shape[-3:]
    maps = stacked(given, 3).reshape(-1, channels, height * width)
    count = len(maps)
    if not 1 <= rank <= min(maps.shape[1:]):
        raise ValueError(f"rank is {rank} and must be from 1 to {min(maps.shape[1:])}")
    u = np.zeros((count, rank, height * width), dtype)
    s = np.zeros((count, rank))
    v = np.zeros((count, rank, channels))
    residual, energy = np.zeros(count), np.zeros(count)
    method = np.full(count, "gram", dtype="<U7")
    for k, x in enumerate(maps):
        wide = x.astype(np.float64)
        if center:
            wide -= wide.mean(axis=1, keepdims=True)
        energy[k] = np.sum(wide**2)
        if energy[k] == 0:
            method[k] = "zero"
            continue
        _, vectors = np.linalg.eigh(wide @ wide.T)
        v[k] = vectors.T[::-1][:rank]
        left = v[k] @ wide
        s[k] = np.linalg.norm(left, axis=1)
        left /= np.where(s[k] > 0, s[k], 1)[:, None]
        sign = np.where(left.sum(axis=1) < 0, -1.0, 1.0)[:, None]
        u[k], v[k] = left * sign, v[k] * sign
        residual[k] = np.linalg.norm(left * sign @ wide.T - s[k][:, None] * v[k], axis=1).max() / s[k, 0]
    return TruncatedSVD(
        u.reshape(*leading, rank, height, width),
        s.reshape(*leading, rank),
        v.reshape(*leading, rank, channels),
        residual.reshape(leading),
        np.ones(leading, np.int64),
        method.reshape(leading),
        energy.reshape(leading),
    )
