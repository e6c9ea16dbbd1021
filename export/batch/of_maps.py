"""What engines leave to the kernels, from response maps on: strongest channel and singular triplets."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.kernels import strongest_channel, truncated_svd


def alpha_of(maps: Any) -> dict[str, Any]:
    """Return the arrays of `eigenfeatures.export.outputs.ALPHA` of maps ``(N, C, h, w)``."""
    alpha: Any = strongest_channel(maps)
    return {
        "alpha_index": alpha.index,
        "alpha_maximum": _single(alpha.maximum),
        "alpha_mean": _single(alpha.mean),
    }


def triplets_of(maps: Any, rank: int, seed: int = 0) -> dict[str, Any]:
    """Return the arrays of `eigenfeatures.export.outputs.DECOMPOSITION` of maps ``(N, C, h, w)``."""
    svd: Any = truncated_svd(maps, rank, seed=seed, gap=True)
    return {
        "eigenfeatures": svd.u,
        "singular_values": _single(svd.s),
        "gap": _single(svd.gap),
        "residual": _single(svd.residual),
    }


def check_size(slices: Any, maps: Any, rank: int, file: Path) -> None:
    """Refuse slices whose maps have fewer pixels than the model that is `file` gives singular vectors.

    Raises
    ------
    InputError
        Where that is for the slices' size, and not for too few channels.
    """
    if maps.ndim == 4 and math.prod(maps.shape[2:]) < rank <= maps.shape[1]:
        height, width = slices.shape[1:]
        raise InputError(
            f"slices of {height}×{width} pixels are too small for rank {rank} of {file}; use a larger --roi"
        )


@contextmanager
def kernel_threads(count: int | None) -> Iterator[None]:
    """Let the kernels that this thread calls use so many threads; None for all there are."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(count or before, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _single(array: Any) -> Any:
    return array.astype(np.float32) if isinstance(array, np.ndarray) else array.float()
