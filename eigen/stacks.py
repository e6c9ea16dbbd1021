"""A CT stack as the method sees it, whatever file it comes from: equal slices that are read on demand.

A stack is never read whole. `volumes.open_volume` opens every kind;
`tiff_stacks`, `array_files`, `zarr_stacks` and `hdf5_stacks` have one each.
"""

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.closing import Closing
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.voxel_size import Position, VoxelSize

__all__ = ["MAX_SLICE_BYTES", "Missing", "Region", "Stack", "VoxelSize"]

Missing = Literal["refuse", "fill"]  # what to do about values that aren't there

# A slice that claims more is taken for damage or malice: nothing is allocated for it.
MAX_SLICE_BYTES = 4 << 30


@dataclass(frozen=True)
class Region:
    """A rectangle of a slice in pixels, with the first row and column counted from 0.

    Raises
    ------
    InputError
        A negative origin or an empty rectangle.
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1:
            raise InputError(f"region {self}: needs an origin of at least 0 and a size of at least 1")

    def __str__(self) -> str:
        return f"{self.top},{self.left},{self.height},{self.width}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "top,left,height,width".

        Raises
        ------
        InputError
            The text isn't four whole numbers that make a rectangle.
        """
        try:
            top, left, height, width = (int(part) for part in text.split(","))
        except ValueError:
            raise InputError(
                f"region {text!r}: must be top,left,height,width in whole pixels, such as 0,0,266,266"
            ) from None
        return cls(top, left, height, width)

    def centre(self, height: int, width: int) -> "Region":
        """Return the central rectangle of the given size within this one."""
        top = self.top + (self.height - height) // 2
        left = self.left + (self.width - width) // 2
        return Region(top, left, height, width)


class Stack(Closing):
    """A stack of equal greyscale slices that is read on demand.

    Use it as a context manager, or `close` it. Several threads may read from
    one stack.

    Attributes
    ----------
    path : Path
        The source: a file, a folder, or a data set in one (``file.h5:/data``).
    files : tuple of Path
        The files that define it: the file and those that it leads to, the
        files of the slices in natural order, or a Zarr's metadata.
    shape : (int, int, int)
        Slices, height, width.
    dtype : numpy.dtype
        uint8, uint16, int16 or float32, in native byte order.
    voxel_size : VoxelSize or None
        In micrometres; None where the files don't say.
    origin : (float, float, float)
        Centre of the first voxel in micrometres, between slices, rows and
        columns; 0 where the files don't say.
    notes : tuple of str
        What a person should know of the files, one line each.

    Raises
    ------
    InputError
        A slice is larger than 4 GiB.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        voxel_size: VoxelSize | None,
    ) -> None:
        self.path = path
        self.files = tuple(files)
        self.shape = shape
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        self.voxel_size = voxel_size
        self.origin: Position = (0.0, 0.0, 0.0)
        self.notes: tuple[str, ...] = ()
        self._fills = False
        self._filled: set[int] = set()
        self._closed = False
        _, height, width = shape
        if height * width * dtype.itemsize > MAX_SLICE_BYTES:
            raise InputError(
                f"{path}: a slice of {height}×{width} pixels exceeds 4 GiB; crop or bin the stack"
            )

    def close(self) -> None:
        """Release the files, whatever is open of them; from then on nothing is read."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        """Close what was kept open: by default nothing."""

    def check_files(self, *, thoroughly: bool = True) -> None:
        """Look for changes that sizes and times of `files` don't tell, such as further slices in a folder.

        Parameters
        ----------
        thoroughly : bool
            False for what is quick enough to be looked at after every read.

        Raises
        ------
        InputError
            There is one.
        """

    def fill_missing(self) -> None:
        """Let `read` fill from now on what it refuses otherwise.

        NaN and infinite values get 0, and chunks that aren't stored the fill value that their array states.
        """
        self._fills = True

    @property
    def filled(self) -> int:
        """How many of the slices read so far hold fill values where their data are missing."""
        return len(self._filled)

    def is_filled(self, index: int) -> bool:
        """Tell whether a slice, as it was read, holds fill values where its data are missing."""
        return index in self._filled

    def read(
        self, indices: Sequence[int] | NDArray[np.integer[Any]], region: Region | None = None
    ) -> NDArray[Any]:
        """Read slices, as stored: a photometric "white is zero" isn't inverted.

        Slices at equal steps, asked for together and in rising order, are
        fetched together: a chunk that holds several of them is decoded once.

        Parameters
        ----------
        indices : sequence of int
            Which slices, counted from 0, in any order.
        region : Region, optional
            The part of each slice; all of it by default.

        Returns
        -------
        ndarray, shape (len(indices), height, width)
            C-contiguous, in `dtype`.

        Raises
        ------
        InputError
            The stack is closed, the region leaves the slice, a slice can't be
            decoded or lacks values (see `fill_missing`); or an index is no
            whole number.
        IndexError
            There is no such slice.
        """
        if self._closed:
            raise InputError(f"{self.path}: is closed; open it again to read it")
        slices, height, width = self.shape
        region = region or Region(0, 0, height, width)
        if region.top + region.height > height or region.left + region.width > width:
            raise InputError(
                f"{self.path}: region {region} leaves its {height}×{width} slices; choose a smaller one"
            )
        try:
            wanted = [operator.index(index) for index in indices]
        except TypeError as error:
            raise InputError(
                f"{self.path}: slices are read by a list of whole numbers, counted from 0 ({error})"
            ) from None
        for index in wanted:
            if not 0 <= index < slices:
                raise IndexError(f"{self.path}: no slice {index} in a stack of {slices}")
        out = np.empty((len(wanted), region.height, region.width), self.dtype)
        for position, run in runs(wanted):
            part = out[position : position + len(run)]
            self._read_named(run, region, part)
            self._make_finite(run, part)
        return out

    def _read_named(self, run: range, region: Region, out: NDArray[Any]) -> None:
        """Do as `_read_run`; errors name the slice."""
        try:
            self._read_run(run, region, out)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each codec raises errors of its own types
            if len(run) == 1:
                raise InputError(
                    f"{self._name(run[0])} can't be read ({one_line(error)}); copy or export the file again"
                ) from error
            for position, index in enumerate(run):  # one by one, to name the slice
                self._read_named(range(index, index + 1), region, out[position : position + 1])

    def _make_finite(self, run: range, out: NDArray[Any]) -> None:
        """Refuse or fill what is no number."""
        if out.dtype.kind != "f":
            return
        for index, image in zip(run, out, strict=True):
            if np.isfinite(image).all():
                continue
            if not self._fills:
                raise InputError(
                    f"{self._name(index)} holds NaN or infinite values; replace them before the analysis, "
                    "or have infer fill them with 0 (--missing fill)"
                )
            image[~np.isfinite(image)] = 0
            self._filled.add(index)

    def _name(self, index: int) -> str:
        """Name a slice in messages."""
        return f"{self.path}: slice {index} (counted from 0)"

    @abstractmethod
    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        """Fill `out` with the region of every slice of the run, which rises."""


def one_line(error: Exception) -> str:
    """Return what an exception says in one line; its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def changed(what: object) -> InputError:
    """Return the error for what isn't any more as it was when the stack was opened or read."""
    return InputError(
        f"{what} changed while it was read; wait until it is complete and start again "
        "(infer: with another --out)"
    )


def runs(indices: Sequence[int]) -> Iterator[tuple[int, range]]:
    """Split indices into rising runs of equal steps, each with its position."""
    start = 0
    while start < len(indices):
        stop, step = start + 1, 1
        if stop < len(indices) and indices[stop] > indices[start]:
            step = indices[stop] - indices[start]
            while stop < len(indices) and indices[stop] - indices[stop - 1] == step:
                stop += 1
        yield start, range(indices[start], indices[stop - 1] + 1, step)
        start = stop
