"""Truncated SVD of the slices of a stack: searches start from the slice before, or go side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.arrays import read_only, working_dtype
from eigenfeatures.kernels.cpu.centre import centred
from eigenfeatures.kernels.cpu.compile import is_small, thread_count
from eigenfeatures.kernels.cpu.lanczos import Workspace
from eigenfeatures.kernels.cpu.passes import tile_count
from eigenfeatures.kernels.cpu.triplets import UNDEFINED, Triplets, triplets
from eigenfeatures.kernels.svd import TruncatedSVD

# From so many pixels on a search takes less time than LAPACK, where there are no more of them than channels.
_SEARCHED = 64

# Its threads' counters and the call by address exist as compiled code only.
_CAN_SEARCH = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

# The most slices of a chain, in which each search starts from the slice before. Chains don't depend on
# the threads, so that they change no bit.
CHAIN = 8

# From so many tiles a thread on, all threads work on one slice, if it has no more bytes than this: it then
# lies in the third-level cache, which may lack room for a slice of each thread. Larger ones come from memory.
_TILES_A_THREAD = 4
_IN_CACHE = 16 * 2**20

# From the number of a chain to the triplets of its slices.
_Chain = Callable[[int], list[Triplets]]


def default_passes(channels: int) -> int:
    """Return how many passes take about as long as the Gram matrix and its eigenvectors, as measured."""
    return 2 + channels // 10


def decompose(
    maps: NDArray[Any],
    rank: int,
    start: NDArray[np.float64] | None,
    tol: float,
    max_passes: int,
    seed: int,
    center: bool,
    gap: bool,
) -> TruncatedSVD:
    """Decompose each slice of maps (N, C, n); arrays of the result are (N, rank, n), (N, rank) and so on."""
    count, channels, pixels = maps.shape
    dtype = working_dtype(maps)
    # After a ReLU no weight of the leading vector is negative, so the sum of the maps is near it.
    direction = np.full((1, channels), channels**-0.5) if start is None else start[np.newaxis]
    u = np.empty((count, rank, pixels), dtype)
    # A search pays for one vector, and where LAPACK on the slice itself takes longer.
    searched = rank == 1 and max_passes > 0 and (pixels > channels or pixels >= _SEARCHED) and _CAN_SEARCH
    chains = -(-count // CHAIN) if searched else count

    def chain(number: int) -> list[Triplets]:
        room = Workspace.make(channels, pixels, dtype, max_passes) if searched else None
        results, nearest = [], direction
        for k in range(number * count // chains, (number + 1) * count // chains):
            x = maps[k]
            working = read_only(centred(x, dtype) if center else x.astype(dtype, copy=False))
            result = triplets(working, u[k], nearest, tol, seed, gap, room)
            if result.method not in UNDEFINED:
                nearest = result.nearby
            results.append(result)
        return results

    together = searched and _suits_all_threads(channels, pixels, dtype)
    # What Python does for a small slice takes longer than the loops, and threads don't share it.
    by_one = together or is_small(channels * pixels)
    done = map(chain, range(chains)) if by_one else _side_by_side(chain, chains)
    results = [result for of_chain in done for result in of_chain]

    def gathered(name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        return np.array([getattr(result, name) for result in results], dtype).reshape((count, *shape))

    return TruncatedSVD(
        u=u,
        s=gathered("s", np.float64, rank),
        v=gathered("v", np.float64, rank, channels),
        gap=gathered("gap", np.float64),
        residual=gathered("residual", np.float64),
        passes=gathered("passes", np.int64),
        method=gathered("method", "<U7"),
        energy=gathered("energy", np.float64),
    )


def _suits_all_threads(channels: int, pixels: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether all threads should work on one slice after the other."""
    enough = tile_count(pixels) >= _TILES_A_THREAD * thread_count()
    return enough and channels * pixels * dtype.itemsize <= _IN_CACHE


def _side_by_side(chain: _Chain, count: int) -> list[list[Triplets]]:
    """Decompose chains of slices, a chain a thread unless too many threads would be left without one.

    A thread by itself waits at no barrier and computes what a pass leaves to one thread, such as
    eigenvectors, while another reads.
    """
    threads = thread_count()
    idle = -count % threads
    if threads == 1 or idle > count // 4:
        return list(map(chain, range(count)))
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(chain, range(count)))
