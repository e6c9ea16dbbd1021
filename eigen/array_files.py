"""Stacks that are one uncompressed array in a file: `.npy` and raw."""

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.array_stacks import ArrayStack, Selection, check_volume
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Stack, one_line
from eigenfeatures.eigen.watched_files import check_ends

# Bytes of a file that are mapped, and so may be in memory, at a time.
_MAPPED = 1 << 26


class _FileStack(ArrayStack):
    """Slices of an uncompressed array in a file.

    The file is mapped anew for each read: its pages leave memory with the
    read, and a file that was cut short meanwhile is an error, not a crash.
    """

    def __init__(self, array: "np.memmap[Any, Any]", path: Path, axis: int) -> None:
        super().__init__(path, [path], array.shape, array.dtype, None, axis)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        self._layout = {
            "shape": array.shape,
            "dtype": array.dtype,
            "offset": array.offset,
            "order": "F" if fortran else "C",
        }

    def _fetch(self, selection: Selection, out: NDArray[Any]) -> None:
        """Map one portion of the file after the other: slices across the fastest axis touch all pages."""
        shape, along = self._layout["shape"], out.ndim - 1 if self._layout["order"] == "F" else 0
        slowest = len(shape) - out.ndim + along
        chosen = range(shape[slowest])[cast(slice, selection[slowest])]  # axes before it are of length 1
        count = max(1, _MAPPED // (math.prod(shape) * self.dtype.itemsize // shape[slowest]))
        for first in range(0, len(chosen), count):
            part = chosen[first : first + count]
            place = (*selection[:slowest], slice(part.start, part.stop, part.step), *selection[slowest + 1 :])
            mapped = np.memmap(self.path, mode="r", **self._layout)[place]
            out[(*[slice(None)] * along, slice(first, first + len(part)))] = mapped


def open_npy(path: Path, axis: int = 0) -> Stack:
    """Open an array saved by `numpy.save` as a stack.

    Parameters
    ----------
    path : Path
        The ``.npy``.
    axis : int
        As of `ArrayStack`.

    Raises
    ------
    InputError
        The file is missing, a pipe or a device, no ``.npy``, cut short, or no greyscale volume.
    """
    check_ends(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # never unpickles
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}; check the path") from error
    except Exception as error:  # whatever a made-up header makes of itself
        raise InputError(f"{path}: isn't a whole .npy ({one_line(error)}); save the array again") from error
    return _FileStack(array, path, axis)


def open_raw(path: Path, shape: Sequence[int], dtype: str | np.dtype[Any], axis: int = 0) -> Stack:
    """Open a file that holds nothing but the values of a stack.

    Parameters
    ----------
    path : Path
        The file.
    shape : sequence of int
        Slices, rows and columns; the columns vary fastest.
    dtype : str or numpy.dtype
        Such as "uint8" or, with the most significant byte first, ">u2".
    axis : int
        As of `ArrayStack`.

    Raises
    ------
    InputError
        The file is missing, a pipe or a device, or hasn't the size of such an array, or the shape
        or type can't be used.
    """
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise InputError(f"dtype {dtype!r}: is no type; give uint8, uint16, int16, float32 or >u2") from None
    try:
        sides = tuple(map(operator.index, shape))
    except TypeError:
        raise InputError(f"shape {shape!r}: must be whole numbers of slices, rows and columns") from None
    check_volume(path, sides, kind)
    check_ends(path)
    try:
        size = path.stat().st_size
        expected = math.prod(sides) * kind.itemsize
        if size != expected:
            raise InputError(
                f"{path}: has {size} bytes, but {'×'.join(map(str, sides))} {kind.name} are {expected}; "
                "correct shape and dtype or copy the file again"
            )
        return _FileStack(np.memmap(path, kind, "r", shape=sides), path, axis)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}; check the path") from error
