"""Lazy reading of CT stacks: one multi-page TIFF, or a folder of single-slice TIFFs.

A stack is never read whole. Opening one reads its page directories only;
`Stack.read` then fetches the slices and the rows that are asked for.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.tiff_description import VoxelSize, read_description
from eigenfeatures.eigen.tiff_pages import Layout, Page, read_layout
from eigenfeatures.eigen.tiff_reader import TiffReader

__all__ = ["Region", "Stack", "VoxelSize", "count_slices", "is_tiff", "open_stack", "visible_entries"]


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


class Stack(ABC):
    """A stack of equal greyscale slices that is read on demand.

    Use it as a context manager, or `close` it. Several threads may read from
    one stack.

    Attributes
    ----------
    path : Path
        The file or folder.
    files : tuple of Path
        The file, or the files of the slices in natural order.
    shape : (int, int, int)
        Slices, height, width.
    dtype : numpy.dtype
        uint8, uint16, int16 or float32, in native byte order.
    voxel_size : VoxelSize or None
        In micrometres; None where the files don't say.
    """

    def __init__(
        self, path: Path, files: Sequence[Path], pages: Sequence[Page], voxel_size: VoxelSize | None
    ) -> None:
        self.path = path
        self.files = tuple(files)
        self.shape = (len(pages), pages[0].height, pages[0].width)
        self.dtype: np.dtype[Any] = pages[0].dtype.newbyteorder("=")
        self.voxel_size = voxel_size
        self._pages = tuple(pages)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    def read(
        self, indices: Sequence[int] | NDArray[np.integer[Any]], region: Region | None = None
    ) -> NDArray[Any]:
        """Read slices, as stored: a photometric "white is zero" isn't inverted.

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
            The region leaves the slice, a slice can't be decoded, or it holds
            NaN or infinite values.
        IndexError
            There is no such slice.
        """
        slices, height, width = self.shape
        region = region or Region(0, 0, height, width)
        if region.top + region.height > height or region.left + region.width > width:
            raise InputError(
                f"{self.path}: region {region} leaves its {height}×{width} slices; choose a smaller one"
            )
        out = np.empty((len(indices), region.height, region.width), self.dtype)
        for position, index in enumerate(indices):
            if not 0 <= index < slices:
                raise IndexError(f"{self.path}: no slice {index} in a stack of {slices}")
            self._read_checked(int(index), region, out[position])
        return out

    def _read_checked(self, index: int, region: Region, out: NDArray[Any]) -> None:
        file = self.files[index] if len(self.files) > 1 else self.path
        where = f"{file}: slice {index} (counted from 0)"
        try:
            self._read_slice(index, region, out)
        except MemoryError:
            raise
        except Exception as error:  # each codec raises errors of its own types
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{where} can't be read ({reason}); copy or export the file again") from error
        if out.dtype.kind == "f" and not np.isfinite(out).all():
            raise InputError(f"{where} holds NaN or infinite values; replace them before the analysis")

    @abstractmethod
    def _read_slice(self, index: int, region: Region, out: NDArray[Any]) -> None:
        """Fill `out` with the region of one slice."""


class _FileStack(Stack):
    """All slices in one TIFF, which stays open."""

    def __init__(self, layout: Layout) -> None:
        description = read_description(layout)
        pages = _slices(layout, description.slices if description.contiguous else 1)
        if description.slices > len(pages):
            raise InputError(
                f"{layout.path}: declares {description.slices} slices and holds {len(pages)}; "
                "it is truncated or one part of a set: export all slices into one file"
            )
        for number, page in enumerate(pages):
            _check_equal(f"{layout.path}: page {number} (counted from 0)", page, pages[0], "page 0")
        if description.order:
            pages = tuple(pages[index] for index in description.order)
        super().__init__(layout.path, [layout.path], pages, description.voxel_size)
        self._reader = TiffReader(layout.path)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._reader.close()

    def _read_slice(self, index: int, region: Region, out: NDArray[Any]) -> None:
        with self._lock:
            self._reader.read(self._pages[index], region.top, region.left, out)


class _FolderStack(Stack):
    """One TIFF a slice, each opened only while it is read."""

    def __init__(self, path: Path, layouts: Sequence[Layout]) -> None:
        pages = [layout.pages[0] for layout in layouts]
        for layout, page in zip(layouts, pages, strict=True):
            if count_slices(layout) > 1:
                raise InputError(
                    f"{layout.path}: holds {count_slices(layout)} slices beside files of one; move it out"
                )
            _check_equal(f"{layout.path}", page, pages[0], layouts[0].path.name)
        files = [layout.path for layout in layouts]
        super().__init__(path, files, pages, read_description(layouts[0]).voxel_size)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read_slice(self, index: int, region: Region, out: NDArray[Any]) -> None:
        with TiffReader(self.files[index]) as reader:
            reader.read(self._pages[index], region.top, region.left, out)


def _check_equal(where: str, page: Page, first: Page, name: str) -> None:
    this, that = (f"{p.height}×{p.width} {p.dtype.newbyteorder('=')}" for p in (page, first))
    if this != that:
        raise InputError(f"{where} is {this} but {name} is {that}; all slices of a stack must be alike")


def _slices(layout: Layout, declared: int) -> tuple[Page, ...]:
    """Return one page a slice; above 4 GB ImageJ writes one directory, and the slices one after another."""
    first = layout.pages[0]
    if len(layout.pages) > 1 or declared == 1:
        return layout.pages
    if first.data is None or first.data + declared * first.nbytes > layout.size:
        raise InputError(
            f"{layout.path}: declares {declared} slices but ends before the last; "
            "the file is truncated or damaged: copy or export it again"
        )
    return tuple(replace(first, data=first.data + index * first.nbytes) for index in range(declared))


def count_slices(layout: Layout) -> int:
    """Return how many slices a TIFF holds itself, whatever set it may be a part of."""
    description = read_description(layout)
    return max(len(layout.pages), description.slices if description.contiguous else 1)


def visible_entries(folder: Path) -> list[Path]:
    """List a folder in natural order, without hidden entries."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: can't be read: {error.strerror or error}; check the path") from error
    return natsorted(entries, key=lambda entry: entry.name)


def is_tiff(path: Path) -> bool:
    """Tell a TIFF by its name."""
    return path.suffix.lower() in (".tif", ".tiff") and path.is_file()


def open_stack(path: str | Path) -> Stack:
    """Open one stack without reading its pixels.

    Parameters
    ----------
    path : path
        A multi-page TIFF (plain, ImageJ, OME; classic or BigTIFF; striped or
        tiled, compressed or not, either byte order), or a folder of
        single-slice TIFFs, which are taken in natural order: s2 before s10.

    Returns
    -------
    Stack

    Raises
    ------
    InputError
        There is no such file or folder, it holds no TIFF, a file is damaged,
        or the slices aren't equal greyscale images of uint8, uint16, int16 or
        float32. float64 is refused too: rounding is the owner's decision.
    """
    path = Path(path)
    if not path.is_dir():
        return _FileStack(read_layout(path))
    files = [file for file in visible_entries(path) if is_tiff(file)]
    if not files:
        raise InputError(f"{path}: holds no TIFF (.tif, .tiff); give a folder of slices or a multi-page TIFF")
    return _FolderStack(path, [read_layout(file) for file in files])
