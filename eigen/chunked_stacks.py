"""Slices of an array that is stored in chunks, some of which may be missing."""

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
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

    # That are read at once: of a Zarr, each takes some 10 kB and 0.2 ms, however small it is.
    _most_chunks = 1 << 16

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

    def lacking(self, index: int, region: Region, axis: int) -> set[int]:
        """Tell which rows or columns of a part of a slice lack values, without reading these.

        Parameters
        ----------
        index : int
            The slice.
        region : Region
            The part of it.
        axis : int
            1 for rows, 2 for columns.

        Returns
        -------
        set of int
            Counted from the first of the slice.
        """
        of_volume = [0, 1, 2]
        del of_volume[self._axis]
        absent = self._absent_chunks(self._selection(range(index, index + 1), region))
        return set(self._covered(absent, of_volume[axis - 1], along(region, axis)))

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        number = _how_many(self._selection(run, region), self._chunks)
        if number > self._most_chunks and len(run) > 1:
            half = len(run) // 2
            self._read_run(run[:half], region, out[:half])
            self._read_run(run[half:], region, out[half:])
            return
        if number > self._most_chunks:
            raise InputError(
                f"{self._name(run[0])} lies in {number} chunks and at most {self._most_chunks} are read; "
                "write it anew in larger chunks, or read a smaller region"
            )
        super()._read_run(run, region, out)
        # Looked for after the reading, so that a chunk deleted meanwhile is noticed.
        for chunk in self._absent_chunks(self._selection(run, region)):
            holes = self._covered([chunk], self._axis, run)
            if not self._fills:
                name = ".".join(map(str, chunk))
                raise InputError(
                    f"{self._name(holes[0])} lacks chunk {name}; copy the data again or, "
                    "if empty chunks were left out on purpose, have them filled (--missing fill)"
                )
            self._filled.update(holes)

    def _absent_chunks(self, selection: Selection) -> list[tuple[int, ...]]:
        return [chunk for chunk in touched_chunks(selection, self._chunks) if not self._is_stored(chunk)]

    def _covered(self, chunks: Collection[tuple[int, ...]], axis: int, places: range) -> list[int]:
        """Return which places along an axis of the volume lie in some chunks."""
        axis += self._ndim - 3
        if axis < 0:  # of an image, which is one slice
            return list(places) if chunks else []
        numbers = {chunk[axis] for chunk in chunks}
        return [place for place in places if place // self._chunks[axis] in numbers]

    @abstractmethod
    def _is_stored(self, chunk: tuple[int, ...]) -> bool:
        """Tell whether the chunk of these coordinates is there."""


def touched_chunks(selection: Selection, chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the coordinates of the chunks of this shape that a selection reads."""
    return product(*_touched(selection, chunks))


def _how_many(selection: Selection, chunks: tuple[int, ...]) -> int:
    return math.prod(map(len, _touched(selection, chunks)))


def _touched(selection: Selection, chunks: tuple[int, ...]) -> Iterator[list[int]]:
    """Yield, for each axis, the numbers of the chunks that a selection reads."""
    for part, size in zip(selection, chunks, strict=True):
        yield [part // size] if isinstance(part, int) else sorted({i // size for i in _range(part)})


def along(region: Region, axis: int) -> range:
    """Return the rows (axis 1) or the columns (axis 2) of a region."""
    if axis == 1:
        return range(region.top, region.top + region.height)
    return range(region.left, region.left + region.width)


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
