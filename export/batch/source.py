"""The stacks of a job: where they are found, which slices are taken, and how a change is noticed."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError, whole_number
from eigenfeatures.eigen.hdf5_stacks import HDF5_SUFFIXES
from eigenfeatures.eigen.stacks import Missing, Region, Stack, VoxelSize, changed
from eigenfeatures.eigen.tiff_pages import read_layout
from eigenfeatures.eigen.tiff_stacks import count_slices, is_tiff, note_ignored, visible_entries
from eigenfeatures.eigen.volumes import open_volume, split_source
from eigenfeatures.eigen.voxel_size import Position
from eigenfeatures.eigen.zarr_stacks import is_zarr
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.windows import check_overlap

# So few files are looked at after every block; those of a folder once all is read.
_FEW = 16

# Below a sample there may be specimens, and below a specimen its slices.
_DEEPEST = 2

# Each takes a row of the table; a file that claims more is damaged or malicious, or no stack.
_MOST_SLICES = 1 << 24

_VOLUMES = (".tif", ".tiff", ".npy", *HDF5_SUFFIXES)


@dataclass(frozen=True)
class Reading:
    """How slices are taken from a stack.

    Attributes
    ----------
    axis : int
        Along which the slices lie.
    every : int
        Take each so-manyth slice.
    region : Region, optional
        The part of each slice.
    shape, dtype : optional
        Of a raw file.
    missing : {"refuse", "fill"}
        What to do where values are missing (`Stack.fill_missing`).
    overlap : float, optional
        Of the windows over slices that are larger than the model's. None is half, save that where
        the training cut the centre of its slices, the centre is taken and there are no windows.
    voxel_size : VoxelSize, optional
        In place of what the files say of sizes and positions: z across the slices, as they lie along `axis`.
    """

    axis: int = 0
    every: int = 1
    region: Region | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    missing: Missing = "refuse"
    overlap: float | None = None
    voxel_size: VoxelSize | None = None

    def __post_init__(self) -> None:
        if self.overlap is not None:
            check_overlap(self.overlap)
        if whole_number(self.every, "every") < 1:
            raise InputError(f"--every {self.every} is out of range; give at least 1")
        for name, kind in (("region", Region), ("voxel_size", VoxelSize)):
            value = getattr(self, name)
            if not isinstance(value, kind | None):
                raise InputError(f"{name} {value!r}: must be a {kind.__name__}")


@dataclass(frozen=True)
class Source:
    """One stack as a job goes through it.

    Attributes
    ----------
    name : str
        Unique in the job; a path below the results.
    stack : Stack
        Open.
    region : Region or None
        The part of each slice.
    indices : ndarray of int64
        The chosen slices, by their number in the stack.
    stated : VoxelSize or None
        Of the stack, in place of what its files say.
    notes : tuple of str
        What a person should know of how it is read.
    """

    name: str
    stack: Stack
    region: Region | None
    indices: NDArray[np.int64]
    stated: VoxelSize | None = None
    notes: tuple[str, ...] = ()

    def read(self, first: int, count: int) -> NDArray[Any]:
        """Read some of the chosen slices, ``(count, h, w)``.

        Raises
        ------
        InputError
            Also when the stack's files are seen to have changed since it was opened.
        """
        slices = self.stack.read(self.indices[first : first + count], self.region)
        if len(self.stack.files) <= _FEW:
            self._check_stamps()
        self.stack.check_files(thoroughly=False)
        return slices

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is read."""
        if self.region is None:
            return self.stack.shape[1:]
        return self.region.height, self.region.width

    @property
    def step(self) -> int:
        """From one of the chosen slices to the next, in slices of the stack."""
        return int(self.indices[1] - self.indices[0]) if len(self.indices) > 1 else 1

    @property
    def voxel_size(self) -> VoxelSize | None:
        """In micrometres, of the chosen slices."""
        voxel = self.stated or self.stack.voxel_size
        return None if voxel is None else VoxelSize(voxel.z * self.step, voxel.y, voxel.x)

    @property
    def origin(self) -> Position:
        """Centre of the stack's first voxel in micrometres; 0 also where the voxel size is stated anew."""
        return self.stack.origin if self.stated is None else (0.0, 0.0, 0.0)

    @property
    def description(self) -> dict[str, Any]:
        """The part of `identity` for which no pixel is read."""
        return {
            "name": self.name,
            "path": _plain(self.stack.path),
            "files": self._files,
            "shape": list(self.stack.shape),
            "dtype": self.stack.dtype.name,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this stack from another or a changed one, without reading terabytes.

        Path, sizes and modification times of its files, shape, dtype, and the SHA-256 of the
        pixels of its first and last chosen slice.
        """
        ends = [self.stack.read([self.indices[k]], self.region) for k in (0, -1)]
        return {
            **self.description,
            "first_slice": hashlib.sha256(ends[0].tobytes()).hexdigest(),
            "last_slice": hashlib.sha256(ends[1].tobytes()).hexdigest(),
        }

    def check_unchanged(self) -> None:
        """Raise `InputError` when a file has another size or time than at first, or a folder other files."""
        self._check_stamps()
        self.stack.check_files()

    def _check_stamps(self) -> None:
        if _stamp(self.stack.files) != self._files:
            raise changed(self.stack.path)

    @cached_property
    def _files(self) -> dict[str, Any]:
        return _stamp(self.stack.files)


def open_sources(paths: Sequence[Path], reading: Reading, facts: ModelFacts) -> list[Source]:
    """Open stacks, and those in folders of samples, without reading their pixels.

    Parameters
    ----------
    paths
        Each a stack, or a folder of samples, which stands for every stack in it.
    reading
        Which slices, and which part of them.
    facts
        Of the model that gets the slices.

    Returns
    -------
    list of Source
        To be closed by the caller.

    Raises
    ------
    InputError
        When there is no stack, one can't be used or doesn't suit the model, or two have one name.
    """
    sources: list[Source] = []
    try:
        for path in paths:
            notes: list[str] = []
            for name, found in list(_stacks(path, notes)):
                if not _is_text(name):  # results are named after it
                    raise InputError(f"{str(found)!r}: its name is no UTF-8; rename it")
                sources.append(_open(name, found, reading, facts, notes))
                notes = []  # what is ignored is told once
        if not sources:
            raise InputError(f"{', '.join(map(str, paths))}: holds no stack; give stacks or folders of them")
        names = [source.name for source in sources]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise InputError(f"two stacks are named '{repeated}'; rename one or give them to two runs")
    except BaseException:
        close_sources(sources)
        raise
    return sources


def close_sources(sources: Sequence[Source]) -> None:
    """Release the files."""
    for source in sources:
        source.stack.close()


def source_of(
    stack: Stack, reading: Reading, facts: ModelFacts, name: str = "stack", notes: Sequence[str] = ()
) -> Source:
    """Choose the slices of an open stack; `notes` come before those that it has itself.

    Raises
    ------
    InputError
        When the stack has no slices, or they don't suit the model.
    """
    slices, height, width = stack.shape
    region, notes = reading.region, (*notes, *stack.notes)
    if region is None and reading.overlap is None and facts.crop is not None and facts.size is not None:
        # The centre, as in training.
        whole = Region(0, 0, height, width)
        region = whole.centre(*facts.size) if min(height, width) >= facts.crop else None
        if region not in (None, whole):
            notes += (
                f"{stack.path}: slices are cropped at the centre from {height}×{width} to "
                f"{region.height}×{region.width}, as those of the training; --overlap takes whole slices",
            )
    if (number := len(range(0, slices, reading.every))) > _MOST_SLICES:
        raise InputError(
            f"{stack.path}: claims {number} slices and at most {_MOST_SLICES} are taken; export it again, "
            "or take fewer with --every"
        )
    source = Source(name, stack, region, np.arange(0, slices, reading.every), reading.voxel_size, notes)
    if not len(source.indices):
        raise InputError(f"{stack.path}: holds no slices")
    stack.read([], region)  # which checks the region
    facts.check_slices(str(stack.path), *source.size, stack.dtype)
    source.check_unchanged()  # now, so that any later change is noticed
    return source


def _open(name: str, path: Path, reading: Reading, facts: ModelFacts, notes: Sequence[str]) -> Source:
    stack = open_any(path, reading)
    try:
        return source_of(stack, reading, facts, name, notes)
    except BaseException:
        stack.close()
        raise


def open_any(path: Path, reading: Reading) -> Stack:
    """Open a stack of any kind, with its slices along the chosen axis."""
    return open_volume(
        path, axis=reading.axis, shape=reading.shape, dtype=reading.dtype, missing=reading.missing
    )


def _stacks(path: Path, notes: list[str], above: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Yield the stacks at or below a path, by names made of the folders on the way; note what is none."""
    inside = [] if is_zarr(path) or not path.is_dir() else visible_entries(path)
    slices = [entry for entry in inside if is_tiff(entry)]
    if slices and count_slices(read_layout(slices[0])) == 1:
        inside = []
    below = [entry for entry in inside if _is_volume(entry) or _may_hold_stacks(entry)]
    if not below or depth > _DEEPEST:
        yield above or _stem(path), path
        return
    note_ignored(path.name, set(inside) - set(below), notes)
    for entry in below:
        yield from _stacks(entry, notes, f"{above}/{_stem(entry)}".lstrip("/"), depth + 1)


def _may_hold_stacks(path: Path) -> bool:
    return path.is_dir() and any(_is_volume(e) or e.is_dir() for e in visible_entries(path))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # of bytes of a file system that aren't UTF-8
        return False
    return True


def _is_volume(path: Path) -> bool:
    return is_zarr(path) or (path.is_file() and path.suffix.lower() in _VOLUMES)


def _stem(path: Path) -> str:
    """Return a name without suffixes; that of ``file.h5:/entry/data`` is ``file-entry-data``."""
    file, inside = split_source(str(path))
    name = file.name
    if name in ("", ".."):  # of "." or "a/.."
        name = file.resolve().name
    for suffix in (*_VOLUMES, ".zarr", ".raw", ".bin", ".ome"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return "-".join([name, *inside.strip("/").split("/")]).rstrip("-")


def _plain(path: Path) -> str:
    """Return the absolute path, in the same words from wherever it was given."""
    plain = os.path.abspath(path)  # noqa: PTH100 - which leaves no ".." in it
    with suppress(OSError):  # of a data set in a file, which is no file itself
        if not os.path.samefile(plain, path):  # noqa: PTH121 - ".." behind a symbolic link
            return str(path.resolve())
    return plain


def _stamp(files: Sequence[Path]) -> dict[str, Any]:
    """Return number, bytes and a hash of names, sizes and times: a stack may have 100,000 files."""
    digest, total = hashlib.sha256(), 0
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise InputError(f"{file} can't be read any more ({error.strerror}); check the path") from error
        total += status.st_size
        digest.update(os.fsencode(file.name) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return {"number": len(files), "bytes": total, "stamp": digest.hexdigest()}


def describe(reading: Reading) -> dict[str, Any]:
    """Return a reading as JSON holds it."""
    voxel = reading.voxel_size
    return {
        **asdict(reading),
        "region": str(reading.region) if reading.region else None,
        "voxel_size": astuple(voxel) if voxel else None,
    }
