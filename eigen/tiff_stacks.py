"""Lazy reading of TIFF stacks: one multi-page TIFF, or a folder of single-slice TIFFs.

Opening one reads its page directories only; `Stack.read` then fetches the
slices and the rows that are asked for.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

from natsort import natsorted
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.slice_numbers import missing_numbers
from eigenfeatures.eigen.stacks import Region, Stack, changed
from eigenfeatures.eigen.tiff_description import Description, read_description
from eigenfeatures.eigen.tiff_pages import Layout, Page, read_layout
from eigenfeatures.eigen.tiff_reader import TiffReader

# Systems let a process have as few as 256 files open, and a job may have thousands of stacks.
_MOST_KEPT = 100
_kept: WeakSet[TiffReader] = WeakSet()


class _TiffStack(Stack):
    """Slices that are pages of TIFFs."""

    def __init__(
        self, path: Path, files: Sequence[Path], pages: Sequence[Page], description: Description
    ) -> None:
        shape = (len(pages), pages[0].height, pages[0].width)
        super().__init__(path, files, shape, pages[0].dtype, description.voxel_size)
        self.notes = (f"{path}: {description.note}",) if description.note else ()
        self._pages = tuple(pages)


class _FileStack(_TiffStack):
    """All slices in one TIFF. It stays open, unless many others do: then it is opened for each read."""

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
        super().__init__(layout.path, [layout.path], pages, description)
        self._reader = TiffReader(layout.path) if len(_kept) < _MOST_KEPT else None
        if self._reader:
            _kept.add(self._reader)
        self._lock = threading.Lock()

    def _release(self) -> None:
        if self._reader:
            self._reader.close()
            _kept.discard(self._reader)

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        with ExitStack() as opened:
            reader = self._reader or opened.enter_context(TiffReader(self.path))
            for index, image in zip(run, out, strict=True):
                with self._lock:
                    reader.read(self._pages[index], region.top, region.left, image)


class _FolderStack(_TiffStack):
    """One TIFF a slice, each opened only while it is read.

    Parameters
    ----------
    path : Path
        The folder.
    layouts : sequence of Layout
        Of its TIFFs.
    version : int
        Modification time of the folder, taken before it was listed: it moves when a file comes or goes.
    """

    def __init__(self, path: Path, layouts: Sequence[Layout], version: int) -> None:
        pages = [layout.pages[0] for layout in layouts]
        for layout, page in zip(layouts, pages, strict=True):
            if count_slices(layout) > 1:
                raise InputError(
                    f"{layout.path}: holds {count_slices(layout)} slices beside files of one; move it out"
                )
            _check_equal(f"{layout.path}", page, pages[0], layouts[0].path.name)
        files = [layout.path for layout in layouts]
        super().__init__(path, files, pages, read_description(layouts[0]))
        self._names, self._version = {file.name for file in files}, version
        if missing := missing_numbers([file.stem for file in files]):
            named = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            self.notes += (
                f"{path}: its numbered slices lack {len(missing)} ({named}); the others are read on",
            )

    def check_files(self, *, thoroughly: bool = True) -> None:
        """List the folder anew, unless it need not be `thoroughly` and the folder's time is as it was.

        That time alone misses a file that came within the tick of the clock in which the folder was listed.
        """
        version = _version(self.path)
        if version == self._version and not thoroughly:
            return
        names = _tiff_names(self.path)
        if differing := sorted(names ^ self._names):
            which = f"{differing[0]} and {len(differing) - 1} more" if len(differing) > 1 else differing[0]
            raise changed(f"{self.path} ({'new' if differing[0] in names else 'gone'}: {which})")
        self._version = version

    def _name(self, index: int) -> str:
        return f"{self.files[index]}: slice {index} (counted from 0)"

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        for index, image in zip(run, out, strict=True):
            with TiffReader(self.files[index]) as reader:
                reader.read(self._pages[index], region.top, region.left, image)


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
    """List a folder in natural order, without hidden entries and what a Mac adds to a zip."""
    with _telling(folder):
        entries = [entry for entry in folder.iterdir() if _is_visible(entry.name)]
    return natsorted(sorted(entries), key=lambda entry: entry.name)  # s1 and s01 are equal to natsorted


def note_ignored(name: str, entries: Iterable[Path], notes: list[str]) -> None:
    """Add a remark that names entries of a folder that are not taken, if there are any."""
    names = natsorted(entry.name for entry in entries)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"{name}: ignored {', '.join(names[:3])}{more}")


def is_tiff(path: Path) -> bool:
    """Tell a TIFF by its name."""
    return _has_tiff_name(path.name) and path.is_file()


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _has_tiff_name(name: str) -> bool:
    return name.lower().endswith((".tif", ".tiff"))


def _tiff_names(folder: Path) -> set[str]:
    """Return the names of a folder's visible TIFFs, without a `Path` for each of perhaps 100,000."""
    with _telling(folder), os.scandir(folder) as entries:
        return {
            entry.name
            for entry in entries
            if _is_visible(entry.name) and _has_tiff_name(entry.name) and entry.is_file()
        }


def _version(folder: Path) -> int:
    with _telling(folder):
        return folder.stat().st_mtime_ns


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that names the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: can't be read: {error.strerror or error}; check the path") from error


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
    version = _version(path)
    names = natsorted(sorted(_tiff_names(path)))
    if not names:
        raise InputError(f"{path}: holds no TIFF (.tif, .tiff); give a folder of slices or a multi-page TIFF")
    return _FolderStack(path, [read_layout(path / name) for name in names], version)
