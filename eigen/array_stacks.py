"""Slices of an array of three axes, along any of them: what all sources but TIFF have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, Stack
from eigenfeatures.eigen.voxel_size import VoxelSize

Selection = tuple[int | slice, ...]

_KINDS = {"b": "boolean", "u": "unsigned integer", "i": "signed integer", "f": "float", "c": "complex"}
_USABLE = ("u1", "u2", "i2", "f4")
_MAX_DIMENSIONS = 5  # time and channel before z, y, x


class ArrayStack(Stack):
    """Slices of an array along one of its axes.

    Parameters
    ----------
    path : Path
        The source.
    files : sequence of Path
        As of `Stack`.
    shape : tuple of int
        (z, y, x) after up to two axes of length 1, or (y, x): one slice.
    dtype : numpy.dtype
        uint8, uint16, int16 or float32 of either byte order.
    voxel_size : VoxelSize or None
        Of the array: z, y, x.
    axis : int
        0, 1 or 2: the slices are those of ``numpy.moveaxis(volume, axis, 0)``.

    Raises
    ------
    InputError
        The array has another shape or type.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        voxel_size: VoxelSize | None,
        axis: int,
    ) -> None:
        self._ndim = len(shape)
        self._axis = axis
        sides = check_volume(path, shape, dtype)
        sides.insert(0, sides.pop(axis))
        size = voxel_size and voxel_size.along(axis)
        super().__init__(path, files, (sides[0], sides[1], sides[2]), dtype, size)

    def _name(self, index: int) -> str:
        along = f" along axis {self._axis}" if self._axis else ""
        return f"{self.path}: slice {index}{along} (counted from 0)"

    def _selection(self, run: range, region: Region) -> Selection:
        """Return the index, with one entry for each dimension of the array, of a part of some slices."""
        box = [
            slice(region.top, region.top + region.height),
            slice(region.left, region.left + region.width),
        ]
        box.insert(self._axis, slice(run.start, run.stop, run.step))
        return (0,) * (self._ndim - 3) + tuple(box[max(3 - self._ndim, 0) :])

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        volume = np.moveaxis(out, 0, self._axis)
        self._fetch(self._selection(run, region), volume[0] if self._ndim == 2 else volume)

    @abstractmethod
    def _fetch(self, selection: Selection, out: NDArray[Any]) -> None:
        """Fill `out`, which may be strided, with this part of the array."""


def is_volume(shape: tuple[int, ...]) -> bool:
    """Tell the shape (z, y, x), after up to two axes of length 1."""
    return 3 <= len(shape) <= _MAX_DIMENSIONS and all(size == 1 for size in shape[:-3])


def check_volume(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[int]:
    """Return (z, y, x) of an array that can be a stack.

    Raises
    ------
    InputError
        Its type or shape isn't that of a greyscale volume.
    """
    if dtype.str[1:] not in _USABLE:
        kind = _KINDS.get(dtype.kind)
        what = f"{8 * dtype.itemsize}-bit {kind} values" if kind else "no plain numbers"
        raise InputError(f"{path}: holds {what}; convert the stack to uint8, uint16, int16 or float32")
    sizes = "×".join(map(str, shape))
    if len(shape) != 2 and not is_volume(shape):
        raise InputError(
            f"{path}: is an array of {sizes or 'no'} values; give one volume of slices × rows × columns"
        )
    if min(shape) < 1:
        raise InputError(f"{path}: is empty ({sizes} values); export the stack again")
    return [1, *shape][-3:]
