"""Truncated singular value decomposition of response maps (paper, section 3.3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, stacked, working_dtype
from eigenfeatures.kernels.interop import any_library
from eigenfeatures.kernels.krylov import random_signs
from eigenfeatures.kernels.triplets import UNDEFINED, Triplets, decompose, smallest_tolerance


@dataclass(frozen=True)
class TruncatedSVD:
    """The largest singular triplets of each slice's responses, and how well they are known.

    Attributes
    ----------
    u
        Left singular vectors as maps ``(..., rank, h, w)`` of unit norm; ``u[..., 0, :, :]`` is
        the eigenfeature. float32 or float64, as the responses.
    s
        Singular values ``(..., rank)``, descending; float64.
    v
        Right singular vectors ``(..., rank, C)``, the weights of the channels; float64.
    residual
        ``max_i max(‖X v_i − s_i u_i‖, ‖Xᵀ u_i − s_i v_i‖) / s_1`` of shape ``(...)``, measured; float64.
    passes
        How often the search read the slice, ``(...)``; a Gram matrix counts as one; int64.
    method
        ``"lanczos"``, ``"gram"``, ``"svd"``, ``"zero"`` (no response at all) or ``"invalid"``
        (NaN or infinity in the slice), ``(...)``.
    energy
        ``‖X‖²_F`` of shape ``(...)``, float64: ``s[..., 0]**2 / energy`` is the eigenfeature's share.
        Infinite where the squares exceed float64.
    """

    u: NDArray[Any]
    s: NDArray[np.float64]
    v: NDArray[np.float64]
    residual: NDArray[np.float64]
    passes: NDArray[np.int64]
    method: NDArray[np.str_]
    energy: NDArray[np.float64]


@any_library
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
    """Decompose each slice's responses; the first left singular vector is its eigenfeature.

    X is n × C with the response maps as columns, not centred (paper, eq. 14). One
    vector is sought by Lanczos iteration, started along a stack from the slice before;
    where that would take longer, and for more vectors, from the eigenvectors of XᵀX. The
    result's residual is measured, and where it misses `tol` a Gram matrix in float64 and then
    LAPACK's decomposition take over; `TruncatedSVD.method` tells which one answered.

    What holds for any input: ``residual <= tol``; left vectors are orthogonal to ``10 * tol``; singular
    values up to 2·10⁻⁶ of s_1 (10⁻¹² for float64) are given as 0, with ``u_i = 0``; a slice of zeros
    gives ``u = 0, s = 0``, and one with NaN or infinity gives NaN without harm to others. The sine of
    the angle between u_1 and the true one is at most about ``residual / (1 - s_2 / s_1)``: ask for
    rank 2 to know it. The same seed gives the same bits for any number of Numba's threads.

    Signs: where all responses are at least 0, as after a ReLU, u_1 can be chosen so
    (Perron–Frobenius) and has ``sum(u_1) >= 0``. All other vectors point the way of most of
    the data's energy, ``Σ v|v| + Σ u|u| >= 0`` (Bro, Acar, Kolda 2008,
    doi:10.1002/cem.1122).

    Parameters
    ----------
    responses
        Response maps ``(..., C, h, w)``, integers or floats.
    rank
        Number of triplets, from 1 to ``min(C, h * w)``.
    tol
        Largest residual, at least 2·10⁻⁶ (10⁻¹² for float64 responses).
    seed
        Of the random signs that a search starts from, 0 to 2⁶⁴ − 1.
    center
        Subtract each map's mean first, as EigenCAM does: another quantity than the paper's.
    start
        Where to start the first slice's search, ``(C,)``: ``v[0]`` of a similar one.
    max_passes
        Passes of the Lanczos iteration before a Gram matrix is formed. By default as many as
        were measured to take the same time.

    Returns
    -------
    TruncatedSVD

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than three axes, no pixels, or an argument is out of range.
    """
    given = loop_input(responses, "responses", trailing=3)
    dtype = working_dtype(given)
    leading, (channels, height, width) = given.shape[:-3], given.shape[-3:]
    maps = stacked(given, 3).reshape(-1, channels, height * width)
    _require(1 <= rank <= min(channels, height * width), f"rank {rank}", f"1 to {min(maps.shape[1:])}")
    least = smallest_tolerance(dtype)
    _require(least <= tol < 1, f"tol {tol}", f"{least:.1e} (for {dtype}) to 1")
    _require(0 <= seed < 2**64, f"seed {seed}", "0 to 2**64 - 1")
    _require(max_passes is None or max_passes >= 0, f"max_passes {max_passes}", "0 or more")
    # Measured at C = 64 and 128: the Gram matrix and its eigenvectors take as long as this many passes.
    limit = 2 + channels // 10 if max_passes is None else max_passes

    direction = random_signs(channels, seed) if start is None else _direction(start, channels)
    u = np.empty((len(maps), rank, height * width), dtype)
    results: list[Triplets] = []
    for x, left in zip(maps, u, strict=True):
        working = (_centred(x) if center else x).astype(dtype, copy=False)
        result = decompose(working, left, direction, tol, limit, seed)
        if result.method not in UNDEFINED:
            direction = result.v[0]
        results.append(result)

    def gathered(attribute: str, dtype: Any, *shape: int) -> NDArray[Any]:
        values = [getattr(result, attribute) for result in results]
        return np.array(values, dtype).reshape((*leading, *shape))

    return TruncatedSVD(
        u=u.reshape((*leading, rank, height, width)),
        s=gathered("s", np.float64, rank),
        v=gathered("v", np.float64, rank, channels),
        residual=gathered("residual", np.float64),
        passes=gathered("passes", np.int64),
        method=gathered("method", "<U7"),
        energy=gathered("energy", np.float64),
    )


def _centred(x: NDArray[Any]) -> NDArray[np.float64]:
    """Subtract each row's mean, taken about its first value so that a constant row gives zeros."""
    centred: NDArray[np.float64] = np.subtract(x, x[:, :1], dtype=np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    return centred


def _direction(start: ArrayLike, channels: int) -> NDArray[np.float64]:
    direction = np.array(loop_input(start, "start", trailing=1), np.float64)
    size = np.linalg.norm(direction)
    if direction.shape != (channels,) or not 0 < size < np.inf:
        raise ValueError(f"start must be {channels} finite numbers, not all zero")
    return direction


def _require(condition: bool, given: str, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{given} is out of range; give {allowed}")
