"""Truncated SVD of the slices of a stack, each search started from the slice before."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only, working_dtype
from eigenfeatures.kernels.cpu.centre import centred
from eigenfeatures.kernels.cpu.krylov import Workspace
from eigenfeatures.kernels.cpu.triplets import UNDEFINED, Triplets, triplets
from eigenfeatures.kernels.svd import TruncatedSVD

# From so many pixels on a search takes less time than LAPACK, where there are no more of them than channels.
_SEARCHED = 64


def decompose(
    maps: NDArray[Any],
    rank: int,
    start: NDArray[np.float64] | None,
    tol: float,
    max_passes: int,
    seed: int,
    center: bool,
) -> TruncatedSVD:
    """Decompose each slice of maps (N, C, n); arrays of the result are (N, rank, n), (N, rank) and so on."""
    count, channels, pixels = maps.shape
    dtype = working_dtype(maps)
    # After a ReLU no weight of the leading vector is negative, so the sum of the maps is near it.
    direction = np.full(channels, channels**-0.5) if start is None else start
    u = np.empty((count, rank, pixels), dtype)
    # A search pays for one vector, and where LAPACK on the slice itself takes longer.
    searched = rank == 1 and max_passes > 0 and (pixels > channels or pixels >= _SEARCHED)
    room = Workspace.make(channels, pixels, dtype, max_passes) if searched else None
    results: list[Triplets] = []
    for x, left in zip(maps, u, strict=True):
        working = read_only(centred(x, dtype) if center else x.astype(dtype, copy=False))
        result = triplets(working, left, direction, tol, seed, room)
        if result.method not in UNDEFINED:
            direction = result.v[0]
        results.append(result)

    def gathered(name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        return np.array([getattr(result, name) for result in results], dtype).reshape((count, *shape))

    return TruncatedSVD(
        u=u,
        s=gathered("s", np.float64, rank),
        v=gathered("v", np.float64, rank, channels),
        residual=gathered("residual", np.float64),
        passes=gathered("passes", np.int64),
        method=gathered("method", "<U7"),
        energy=gathered("energy", np.float64),
    )
