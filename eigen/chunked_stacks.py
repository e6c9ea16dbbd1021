"""Slices of an array that is stored in chunks, some of which may be missing."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.array_stacks import ArrayStack, Selection
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.voxel_size import VoxelSize

_MAX_CHUNK_BYTES = 4 << 30  # a chunk that claims more is damage or malice


class ChunkedStack(ArrayStack):
    """Slices of an array that is stored in chunks, some of which may be missing.

    Parameters
    ----------
    path, files, shape, dtype, voxel_size, axis
        As of `ArrayStack`.
    chunks : tuple of int
        Shape of what is stored or missing as a whole.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        voxel_size: VoxelSize | None,
        axis: int,
        *,
        chunks: tuple[int, ...],
    ) -> None:
        super().__init__(path, files, shape, dtype, voxel_size, axis)
        self._chunks = chunks

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        super()._read_run(run, region, out)
        # Looked for after the reading, so that a chunk deleted meanwhile is noticed.
        axis = self._axis + self._ndim - 3
        for chunk in self._absent_chunks(self._selection(run, region)):
            number = chunk[axis] if axis >= 0 else 0
            depth = self._chunks[axis] if axis >= 0 else 1
            holes = [index for index in run if index // depth == number]
            if not self._fills:
                name = ".".join(map(str, chunk))
                raise InputError(
                    f"{self._name(holes[0])} lacks chunk {name}; copy the data again or, "
                    "if empty chunks were left out on purpose, have them filled (missing: fill)"
                )
            self._filled.update(holes)

    def _absent_chunks(self, selection: Selection) -> list[tuple[int, ...]]:
        return [chunk for chunk in touched_chunks(selection, self._chunks) if not self._is_stored(chunk)]

    @abstractmethod
    def _is_stored(self, chunk: tuple[int, ...]) -> bool:
        """Tell whether the chunk of these coordinates is there."""


def touched_chunks(selection: Selection, chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the coordinates of the chunks of this shape that a selection reads."""
    return product(
        *(
            [part // size] if isinstance(part, int) else sorted({i // size for i in _range(part)})
            for part, size in zip(selection, chunks, strict=True)
        )
    )


def _range(part: slice) -> range:
    return range(part.start, part.stop, part.step or 1)


def check_chunk(path: Path, chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse chunks that would not fit into memory.

    Raises
    ------
    InputError
        A chunk is larger than 4 GiB, or empty.
    """
    if not 0 < math.prod(chunks) * dtype.itemsize <= _MAX_CHUNK_BYTES:
        sizes = "×".join(map(str, chunks))
        raise InputError(f"{path}: claims chunks of {sizes} values; at most 4 GiB are read: write it anew")
