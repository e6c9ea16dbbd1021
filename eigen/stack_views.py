"""A stack seen otherwise: its slices along another axis, or only some of them."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.stacks import Region, Stack, VoxelSize
from eigenfeatures.eigen.voxel_size import seen_along


class _View(Stack):
    """Slices of another stack, which is closed with this one."""

    def __init__(self, stack: Stack, shape: tuple[int, int, int], voxel_size: VoxelSize | None) -> None:
        super().__init__(stack.path, stack.files, shape, stack.dtype, voxel_size)
        self.origin, self.notes = stack.origin, stack.notes
        self._stack = stack

    def _release(self) -> None:
        self._stack.close()

    def check_files(self, *, thoroughly: bool = True) -> None:
        """Look for changes that sizes and times of `files` don't tell."""
        self._stack.check_files(thoroughly=thoroughly)


@runtime_checkable
class _TellsWhatItLacks(Protocol):
    """A stack of slices that may lack values in some of their rows or columns only."""

    def lacking(self, index: int, region: Region, axis: int) -> set[int]:
        """As of `ChunkedStack`."""


class AcrossStack(_View):
    """Slices along the rows (axis 1) or columns (axis 2) of a stack.

    Every call of `read` goes through the whole stack once, and fetches of each
    slice the rows or columns that are asked for. Ask for many at a time. Which
    of them hold fill values doesn't depend on what else is or was read.

    Parameters
    ----------
    stack : Stack
        Is closed with this one.
    axis : int
        1 or 2. The slices are those of ``numpy.moveaxis(volume, axis, 0)``.
    """

    def __init__(self, stack: Stack, axis: int) -> None:
        shape, size = list(stack.shape), stack.voxel_size
        first = shape.pop(axis)
        super().__init__(stack, (first, shape[0], shape[1]), size and size.along(axis))
        self.origin = seen_along(axis, stack.origin)
        self._axis = axis

    def fill_missing(self) -> None:
        """Let `read` fill from now on what it refuses otherwise."""
        super().fill_missing()
        self._stack.fill_missing()

    def _name(self, index: int) -> str:
        return f"{self.path}: slice {index} along axis {self._axis} (counted from 0)"

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        span = run.stop - run.start
        if self._axis == 1:
            part = Region(run.start, region.left, span, region.width)
        else:
            part = Region(region.left, run.start, region.width, span)
        image = np.empty((part.height, part.width), self.dtype)
        for row in range(region.height):
            behind = region.top + row
            self._stack._read_named(range(behind, behind + 1), part, image[np.newaxis])
            # That it was filled at some time doesn't say that these rows were.
            if self._stack.is_filled(behind) and isinstance(self._stack, _TellsWhatItLacks):
                self._filled.update(self._stack.lacking(behind, part, self._axis).intersection(run))
            out[:, row] = image[:: run.step] if self._axis == 1 else image[:, :: run.step].T


class EveryStack(_View):
    """Each k-th slice of a stack, from the first.

    Parameters
    ----------
    stack : Stack
        Is closed with this one.
    every : int
        The step, at least 1.
    """

    def __init__(self, stack: Stack, every: int) -> None:
        slices, height, width = stack.shape
        size = stack.voxel_size
        thinned = size and VoxelSize(size.z * every, size.y, size.x)
        super().__init__(stack, (-(-slices // every), height, width), thinned)
        self._every = every

    def fill_missing(self) -> None:
        """Let `read` fill from now on what it refuses otherwise."""
        self._stack.fill_missing()

    @property
    def filled(self) -> int:
        """How many of the slices read so far hold fill values where their data are missing."""
        return self._stack.filled

    def is_filled(self, index: int) -> bool:
        """Tell whether a slice, as it was read, holds fill values where its data are missing."""
        return self._stack.is_filled(index * self._every)

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        self._stack._read_named(self._behind(run), region, out)

    def _make_finite(self, run: range, out: NDArray[Any]) -> None:
        self._stack._make_finite(self._behind(run), out)

    def _behind(self, run: range) -> range:
        """Return the slices of the other stack."""
        every = self._every
        return range(run.start * every, (run.stop - 1) * every + 1, run.step * every)
