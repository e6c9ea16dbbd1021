"""Cutting responses into parts, and both passes of a streaming SVD over them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spectra import HEIGHT, WIDTH

from eigenfeatures.kernels import StreamedSVD, StreamingSVD

# Cuts of maps (C, h, w) into parts, by rows and columns.
TILINGS = {
    "whole": ([], []),
    "bands": ([10, 20], []),
    "tiles": ([1, 16], [7, 8, 28]),
    "pixels": (range(1, HEIGHT, 3), range(1, WIDTH)),
}


def tiles(maps: NDArray[Any], rows: Sequence[int], columns: Sequence[int]) -> list[list[NDArray[Any]]]:
    """Parts of maps cut at these rows and columns."""
    return [np.split(band, columns, axis=-1) for band in np.split(maps, rows, axis=-2)]


def streamed(
    stream: StreamingSVD, parts: list[list[NDArray[Any]]]
) -> tuple[NDArray[Any], StreamedSVD, float]:
    """Both passes: u put together, the values and right vectors, and the residual."""
    for band in parts:
        for part in band:
            stream.add(part)
    svd = stream.finish()
    u = np.block([[stream.left(part) for part in band] for band in parts])
    return u, svd, stream.residual


def side_by_side(maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Maps (C, h, w) of several slices as one slice (C, 1, n)."""
    return np.concatenate([one.reshape(len(one), 1, -1) for one in maps], axis=-1)
