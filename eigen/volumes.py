"""Open a CT volume of any kind as a stack of slices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from eigenfeatures.eigen.array_files import open_npy, open_raw
from eigenfeatures.eigen.errors import InputError, whole_number
from eigenfeatures.eigen.hdf5_stacks import is_hdf5, open_hdf5
from eigenfeatures.eigen.stack_views import AcrossStack, EveryStack
from eigenfeatures.eigen.stacks import Missing, Stack
from eigenfeatures.eigen.tiff_stacks import open_stack
from eigenfeatures.eigen.zarr_stacks import is_zarr, open_zarr

_RAW_SUFFIXES = (".raw", ".bin", ".vol", ".dat")


def open_volume(
    source: str | Path,
    *,
    axis: int = 0,
    every: int = 1,
    shape: Sequence[int] | None = None,
    dtype: str | np.dtype[Any] | None = None,
    missing: Missing = "refuse",
) -> Stack:
    """Open a volume of any kind without reading its values.

    Parameters
    ----------
    source : path
        A TIFF or a folder of TIFFs (`open_stack`); a Zarr array, a group with
        one, or an OME-Zarr image, whose full resolution is taken; a data set
        of an HDF5 or NeXus file (``file.h5:/entry/data``, or the file if it
        holds one volume); a ``.npy``; or a raw file with `shape` and `dtype`.
    axis : {0, 1, 2}
        The slices are those of ``numpy.moveaxis(volume, axis, 0)``. Along axis
        1 or 2 each read passes through all pages of a TIFF, and decodes every
        strip or tile that the wanted rows or columns touch; other kinds read
        the chunks or bytes concerned. Ask for many slices at a time.
    every : int
        Take each `every`-th slice, from the first.
    shape : sequence of int, optional
        Slices, rows and columns of a raw file.
    dtype : str or numpy.dtype, optional
        Values of a raw file, such as "uint8" or ">u2".
    missing : {"refuse", "fill"}
        Whether slices that hold NaN or infinite values are refused as they are
        read, or get 0 there; and those of a Zarr or an HDF5 file that lack a
        chunk, or get its fill value. `Stack.filled` counts them.

    Returns
    -------
    Stack

    Raises
    ------
    InputError
        The source is missing, damaged, of an unknown kind, or no greyscale
        volume of uint8, uint16, int16 or float32; or an argument can't be used.
    """
    axis, every = whole_number(axis, "axis"), whole_number(every, "every")
    if axis not in (0, 1, 2):
        raise InputError(f"axis {axis}: must be 0, 1 or 2")
    if every < 1:
        raise InputError(f"every {every}: must be at least 1")
    if missing not in get_args(Missing):
        raise InputError(f"missing {missing!r}: must be 'refuse' or 'fill'")
    if (shape is None) != (dtype is None):
        raise InputError(f"{source}: a raw file needs both, shape and dtype; give the other too")
    if shape is not None and dtype is not None:
        stack = open_raw(Path(source), shape, dtype, axis)
    else:
        stack = _open(str(source), axis)
    if missing == "fill":
        stack.fill_missing()
    return EveryStack(stack, every) if every > 1 else stack


def _open(source: str, axis: int) -> Stack:
    path, name = split_source(source)
    if name or is_hdf5(path):
        return open_hdf5(path, name, axis)
    if is_zarr(path):
        return open_zarr(path, axis)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return open_npy(path, axis)
    if suffix in _RAW_SUFFIXES:
        raise InputError(
            f"{path}: says nothing of its values; give shape and dtype (--shape slices,height,width --dtype)"
        )
    stack = open_stack(path)
    return AcrossStack(stack, axis) if axis else stack


def split_source(source: str) -> tuple[Path, str]:
    """Separate the data set's name from an HDF5 file's: the part after the first ":" that follows a file."""
    for position, letter in enumerate(source):
        if letter == ":" and Path(source[:position]).is_file() and not Path(source).exists():
            return Path(source[:position]), source[position + 1 :]
    return Path(source), ""
