"""Truncated singular value decomposition of response maps (paper, section 3.3)."""

import math
from dataclasses import dataclass
from typing import Any, Generic, SupportsIndex, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import (
    NOISE,
    Array,
    Foreign,
    ForeignArray,
    flag,
    real_number,
    stacked,
    whole_number,
    working_dtype,
)
from eigenfeatures.kernels.call import Backend, Call


@dataclass(frozen=True, eq=False)
class TruncatedSVD(Generic[Array]):
    """The largest singular triplets of each slice's responses, and how well they are known.

    Arrays of the responses' library, but for `method`, which is NumPy's.

    Attributes
    ----------
    u
        Left singular vectors as maps ``(..., rank, h, w)`` of unit norm; ``u[..., 0, :, :]`` is
        the eigenfeature. float32 or float64, as the responses.
    s
        Singular values ``(..., rank)``, descending, in units of the responses; float64.
    v
        Right singular vectors ``(..., rank, C)``, the weights of the channels; float64.
    gap
        s_2 / s_1 of shape ``(...)``, float64: the nearer to 1, the less a vector by itself means. 0 where
        there is but one map or pixel, NaN for rank 1 unless it was asked for or found on the way.
    residual
        ``max_i max(‖X v_i − s_i u_i‖, ‖Xᵀ u_i − s_i v_i‖) / s_1`` of shape ``(...)``, measured; float64.
    passes
        How often the search read the slice, ``(...)``; a Gram matrix counts as one; int64.
    method
        ``"lanczos"``, ``"gram"``, ``"svd"``, ``"zero"`` (no response at all) or ``"invalid"``
        (NaN or infinity in the slice), ``(...)``.
    energy
        ``‖X‖²_F`` of shape ``(...)``, float64: ``s[..., 0]**2 / energy`` is the eigenfeature's share.
        Sums over at most 4,096 responses are in the precision of the responses. Infinite where the squares
        exceed float64.
    """

    u: Array
    s: Array
    v: Array
    gap: Array
    residual: Array
    passes: Array
    method: NDArray[np.str_]
    energy: Array


@overload
def truncated_svd(
    responses: Foreign,
    rank: SupportsIndex = ...,
    *,
    tol: float = ...,
    seed: SupportsIndex = ...,
    center: bool = ...,
    start: Foreign | ArrayLike | None = ...,
    max_passes: SupportsIndex | None = ...,
    gap: bool = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> TruncatedSVD[Foreign]: ...
@overload
def truncated_svd(
    responses: ArrayLike,
    rank: SupportsIndex = ...,
    *,
    tol: float = ...,
    seed: SupportsIndex = ...,
    center: bool = ...,
    start: ArrayLike | None = ...,
    max_passes: SupportsIndex | None = ...,
    gap: bool = ...,
    backend: Backend = ...,
    stream: object = ...,
) -> TruncatedSVD: ...
def truncated_svd(
    responses: ArrayLike | ForeignArray,
    rank: SupportsIndex = 1,
    *,
    tol: float = 1e-5,
    seed: SupportsIndex = 0,
    center: bool = False,
    start: ArrayLike | ForeignArray | None = None,
    max_passes: SupportsIndex | None = None,
    gap: bool = False,
    backend: Backend = "auto",
    stream: object = None,
) -> TruncatedSVD[Any]:
    """Decompose each slice's responses; the first left singular vector is its eigenfeature.

    X is n × C with the response maps as columns, not centred (paper, eq. 14). One vector is
    sought by Lanczos iteration, started from the sum of the maps. Along a stack the CPU starts from the first
    two of the slice before, in chains of up to eight slices that threads take side by side; a GPU searches
    all slices at once, each from its own sum. More vectors, and those that a search would take longer for,
    come from the eigenvectors of XᵀX. The result's residual is measured, and where it misses `tol` a Gram
    matrix in float64 and then LAPACK's decomposition take over; `TruncatedSVD.method` tells which one
    answered.

    What holds for any input: ``residual <= tol``; left vectors are orthogonal to ``10 * tol``; singular
    values that are found to be at most 2·10⁻⁶ of s_1 (10⁻¹² for float64) are given as 0, with ``u_i = 0``; a
    slice of zeros gives ``u = 0, s = 0``, and one with NaN or infinity, or a centred one whose range is
    beyond its type's largest number, gives NaN without harm to others. The sine of the angle between u_1 and
    the true one is at most about ``residual / (1 - s_2 / s_1)``: ask for `gap` or rank 2 to know it, and to
    see s_2. The search for one vector alone may take s_2 for s_1 where the two are within some hundredths,
    or, in one of some hundred, where it starts exactly at the second vector and few values aren't 0.
    The same seed gives the same bits for any number of Numba's threads; at rank 1 a slice of a stack doesn't
    have the bits of the slice alone, whose search starts elsewhere.

    Cost for n pixels: a pass is one read of X and 4·C·n operations, the search takes 3 to 10 of them as a
    rule, at most `max_passes`, and n numbers of memory for each; a Gram matrix takes C²·n operations and its
    eigenvectors about 4·C³.

    Signs: where all responses are at least 0, as after a ReLU, u_1 can be chosen so
    (Perron–Frobenius) and has ``sum(u_1) >= 0``. All other vectors point the way of most of
    the data's energy, ``Σ v|v| + Σ u|u| >= 0`` (Bro, Acar, Kolda 2008,
    doi:10.1002/cem.1122).

    Parameters
    ----------
    responses
        Response maps ``(..., C, h, w)``, integers or floats; integers of 32 and 64 bits count as float64.
    rank
        Number of triplets, from 1 to ``min(C, h * w)``.
    tol
        Largest residual, at least 2·10⁻⁶ (10⁻¹² for float64 responses). Where more is allowed a search goes
        on to 10⁻⁵ all the same, since it may end at another vector than the first before that.
    seed
        Of the random weights that take part in every start of a search, 0 to 2⁶⁴ − 1. For rank 1 only, since
        more vectors are not searched for.
    center
        Subtract each map's mean first, as EigenCAM does: another quantity than the paper's.
    start
        Where to start the search for rank 1: `v` of a similar slice, ``(k, C)``, whose first row is taken, or
        ``(C,)``. On the CPU it serves the first slice of every chain, on a GPU all slices.
    max_passes
        Passes of the Lanczos iteration, for rank 1, before a Gram matrix is formed; at most 24 on a GPU. By
        default about as many as take the same time: for 128 maps 14 on a CPU, 24 on a GPU.
    gap
        Find s_2 / s_1 for rank 1 too: a search then goes on until it is known to about 0.001, for one or two
        passes on responses of CT. Where other singular values lie within some hundredths of s_2 it may be one
        of theirs (0.04 too small was the worst seen), and where s_2 is within 10⁻⁶ of s_1
        it may be that of the first which isn't, in one slice of some dozens: rank 2 has neither limit.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    TruncatedSVD

    Raises
    ------
    TypeError
        Where the elements or `tol` are not real numbers, `rank`, `seed` or `max_passes` is no whole number,
        or `center` or `gap` is neither True nor False.
    ValueError
        Where there are fewer than three axes, no pixels, or an argument is out of range.
    OSError
        As of `gradient_magnitude`.

    Examples
    --------
    Two maps that are the same picture at different strengths, so rank 1 holds all:

    >>> import numpy as np
    >>> picture = np.array([[1.0, 2.0], [2.0, 4.0]])
    >>> svd = truncated_svd(np.stack([picture, 2 * picture]))
    >>> svd.u[0].round(3).tolist(), float(svd.s[0].round(3)), svd.v[0].round(3).tolist()
    ([[0.2, 0.4], [0.4, 0.8]], 11.18, [0.447, 0.894])
    >>> bool(svd.residual <= 1e-5), float((svd.s[0] ** 2 / svd.energy).round(3))
    (True, 1.0)
    """
    with Call(backend, stream, responses=responses, start=start) as call:
        given = call.input("responses", trailing=3)
        dtype = working_dtype(given)
        leading, (channels, height, width) = given.shape[:-3], given.shape[-3:]
        pixels = height * width
        ranks = f"1 to {min(channels, pixels)}"
        rank = whole_number(rank, "rank", ranks)
        _require(1 <= rank <= min(channels, pixels), f"rank {rank}", ranks)
        least, tol = NOISE[dtype], real_number(tol, "tol")
        if not least <= tol < 1:  # asked here: the name of a dtype takes longer than all other checks
            raise ValueError(f"tol {tol} is out of range; give {least:.1e} (for {dtype}) to below 1")
        seed = whole_number(seed, "seed", "0 to 2**64 - 1")
        _require(0 <= seed < 2**64, f"seed {seed}", "0 to 2**64 - 1")
        loops = call.loops("svd")
        if max_passes is None:
            max_passes = loops.default_passes(channels)
        max_passes = whole_number(max_passes, "max_passes", "0 or more")
        _require(max_passes >= 0, f"max_passes {max_passes}", "0 or more")
        # More than there are channels find nothing more, and would take memory.
        max_passes = min(max_passes, max(channels, loops.default_passes(channels)))
        found = loops.decompose(
            stacked(given, 3).reshape(-1, channels, pixels),
            rank,
            None if start is None else _direction(call, channels),
            tol,
            max_passes,
            seed,
            flag(center, "center"),
            flag(gap, "gap"),
        )
        return call.result(
            TruncatedSVD(
                u=found.u.reshape((*leading, rank, height, width)),
                s=found.s.reshape((*leading, rank)),
                v=found.v.reshape((*leading, rank, channels)),
                gap=found.gap.reshape(leading),
                residual=found.residual.reshape(leading),
                passes=found.passes.reshape(leading),
                method=found.method.reshape(leading),
                energy=found.energy.reshape(leading),
            )
        )


def _direction(call: Call, channels: int) -> NDArray[np.float64]:
    direction = call.input("start", trailing=0).astype(np.float64)
    if direction.ndim == 2 and len(direction):
        direction = direction[0]  # the leading one of a similar slice's v
    if direction.shape != (channels,) or not 0 < (largest := float(abs(direction).max())) < math.inf:
        raise ValueError(f"start must be {channels} finite numbers, not all zero")
    direction /= largest  # so that no square is beyond float64
    return cast(NDArray[np.float64], direction / call.xp.linalg.norm(direction))


def _require(condition: bool, given: str, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{given} is out of range; give {allowed}")
