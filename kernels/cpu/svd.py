"""Truncated SVD of the slices of a stack: searches start from the slice before, others go side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only, working_dtype
from eigenfeatures.kernels.cpu.centre import centred
from eigenfeatures.kernels.cpu.krylov import Workspace
from eigenfeatures.kernels.cpu.triplets import UNDEFINED, Triplets, triplets
from eigenfeatures.kernels.svd import TruncatedSVD

# From so many pixels on a search takes less time than LAPACK, where there are no more of them than channels.
_SEARCHED = 64

# From the number of a slice, and where to start its search, to its triplets.
_Slice = Callable[[int, NDArray[np.float64]], Triplets]


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

    def one(number: int, direction: NDArray[np.float64]) -> Triplets:
        x = maps[number]
        working = read_only(centred(x, dtype) if center else x.astype(dtype, copy=False))
        return triplets(working, u[number], direction, tol, seed, room)

    results = _in_turn(one, count, direction) if searched else _side_by_side(one, count, direction)

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


def _in_turn(one: _Slice, count: int, direction: NDArray[np.float64]) -> list[Triplets]:
    """Decompose slices one after the other, each started from the last that has vectors."""
    results = []
    for number in range(count):
        result = one(number, direction)
        if result.method not in UNDEFINED:
            direction = result.v[0]
        results.append(result)
    return results


def _side_by_side(one: _Slice, count: int, direction: NDArray[np.float64]) -> list[Triplets]:
    """Decompose slices that need no start from another, a slice a thread where there are enough of them.

    Eigenvectors of a small matrix take a third of the time, and have work for one thread only.
    """
    threads = numba.get_num_threads()
    starts = [direction] * count
    if threads == 1 or count < 2 * threads:
        return list(map(one, range(count), starts))
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(one, range(count), starts))
