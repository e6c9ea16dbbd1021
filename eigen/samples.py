"""The samples of a study: a folder whose entries are the classes, read as one list of slices."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from eigenfeatures.eigen.closing import Closing
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, Stack, VoxelSize
from eigenfeatures.eigen.tiff_pages import read_layout
from eigenfeatures.eigen.tiff_stacks import count_slices, is_tiff, note_ignored, open_stack, visible_entries

Regions = Mapping[str, Sequence[Region]] | Sequence[Region]


@dataclass(frozen=True, eq=False)
class Specimen:
    """One region of one stack, the unit that a split by specimen keeps together with its source.

    Attributes
    ----------
    sample : str
        The class.
    name : str
        The stack's name, with "#1", "#2", ... where several regions were cut from it.
    source : str
        The stack's name, shared by all of its regions.
    stack : Stack
        Where the slices come from.
    region : Region
        The part of every slice that is used, after cropping.
    """

    sample: str
    name: str
    source: str
    stack: Stack
    region: Region


@dataclass(frozen=True, eq=False)
class SampleSet(Closing):
    """All slices of all samples, in order: by class, specimen and depth.

    Use it as a context manager, or `close` it.

    Attributes
    ----------
    root : Path
        The folder.
    classes : tuple of str
        In natural order.
    specimens : tuple of Specimen
        By class, then in natural order.
    size : (int, int)
        Height and width of every slice, in pixels.
    dtype : numpy.dtype
        That of the stacks if they agree, float32 otherwise.
    voxel_size : VoxelSize or None
        In micrometres; None unless all stacks state the same.
    notes : tuple of str
        Remarks for the user: what was cropped, converted or ignored.
    """

    root: Path
    classes: tuple[str, ...]
    specimens: tuple[Specimen, ...]
    size: tuple[int, int]
    dtype: np.dtype[Any]
    voxel_size: VoxelSize | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.specimen_of)

    def close(self) -> None:
        """Release the files."""
        for specimen in self.specimens:
            specimen.stack.close()

    @cached_property
    def specimen_of(self) -> NDArray[np.int64]:
        """Index into `specimens` of every slice."""
        lengths = [specimen.stack.shape[0] for specimen in self.specimens]
        return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)

    @cached_property
    def slice_of(self) -> NDArray[np.int64]:
        """Index of every slice within its stack."""
        return np.concatenate(
            [np.arange(specimen.stack.shape[0], dtype=np.int64) for specimen in self.specimens]
        )

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """Index into `classes` of every slice."""
        labels = [self.classes.index(specimen.sample) for specimen in self.specimens]
        return np.array(labels, np.int64)[self.specimen_of]

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Read slices by their index in the whole set.

        Parameters
        ----------
        indices : sequence of int
            In any order; the result keeps it.

        Returns
        -------
        ndarray, shape (len(indices), *size)
            Raw intensities in `dtype`.

        Raises
        ------
        InputError
            A slice can't be decoded or holds NaN or infinite values.
        IndexError
            There is no such slice.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.root}: slices are counted from 0 to {len(self) - 1}")
        out = np.empty((len(wanted), *self.size), self.dtype)
        for index in np.unique(self.specimen_of[wanted]):
            specimen = self.specimens[index]
            positions = np.flatnonzero(self.specimen_of[wanted] == index)
            out[positions] = specimen.stack.read(self.slice_of[wanted[positions]], specimen.region)
        return out

    def files(self) -> tuple[Path, ...]:
        """Return all input files, sorted."""
        return tuple(sorted({file for specimen in self.specimens for file in specimen.stack.files}))


def open_samples(folder: str | Path, *, size: int | None = None, regions: Regions = ()) -> SampleSet:
    """Open a folder of samples without reading their pixels.

    Parameters
    ----------
    folder : path
        Each entry is a class: a folder of single-slice TIFFs, one multi-page
        TIFF, or a folder of several specimens of one material (multi-page
        TIFFs, folders of slices, or both).
    size : int, optional
        Crop every region at its centre to `size` × `size` pixels. Without it,
        all are cropped to the smallest height and width among them.
    regions : sequence of Region, or mapping from class to such, optional
        Parts to cut from every slice, of all classes or of those named. The
        paper cuts two from each plate and leaves the air out.

    Returns
    -------
    SampleSet

    Raises
    ------
    InputError
        The folder is missing or has fewer than two classes, an entry is
        ambiguous, a stack can't be used (`open_stack`), or a size or region
        doesn't fit.
    """
    root = Path(folder)
    with ExitStack() as opened:
        notes: list[str] = []
        found = [_open_class(entry, notes, opened) for entry in _classes(root, notes)]
        found = natsorted(found, key=lambda sample: sample[0])
        parts = _cut(root, found, regions)
        target = _target_size(parts, size, explicit=bool(regions))
        specimens = tuple(_crop(part, target, notes) for part in parts)
        stacks = [stack for _, named in found for stack in named.values()]
        notes += (note for stack in stacks for note in stack.notes)
        classes = tuple(name for name, _ in found)
        samples = SampleSet(
            root, classes, specimens, target, _dtype(found, notes), _voxel_size(found, notes), tuple(notes)
        )
        opened.pop_all()  # from here on the set owns its stacks
        return samples


def _classes(root: Path, notes: list[str]) -> list[Path]:
    if root.is_file():
        raise InputError(f"{root}: is a file; give the folder whose entries are the classes")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder whose entries are the classes")
    entries = visible_entries(root)
    classes = [entry for entry in entries if entry.is_dir() or is_tiff(entry)]
    note_ignored(root.name, set(entries) - set(classes), notes)
    if len(classes) < 2:
        raise InputError(
            f"{root}: has {'one' if classes else 'no'} class, at least two are needed; "
            "each entry of this folder (a folder of slices or a multi-page TIFF) is one class"
        )
    repeated = [name for name, times in Counter(_stem(entry) for entry in classes).items() if times > 1]
    if repeated:
        raise InputError(f"{root}: several entries are named {repeated[0]!r}; rename all but one")
    return classes


def _stem(path: Path) -> str:
    """Return the name of a stack: a folder's, or a file's without .tif, .tiff or .ome.tif."""
    return path.name if path.is_dir() else path.stem.removesuffix(".ome")


def _open_class(entry: Path, notes: list[str], opened: ExitStack) -> tuple[str, dict[str, Stack]]:
    """Open the stacks of one class, by name in natural order."""
    name = _stem(entry)
    if not entry.is_dir():
        return name, {name: _open_volume(entry, opened)}
    entries = visible_entries(entry)
    tiffs = [file for file in entries if is_tiff(file)]
    folders = [folder for folder in entries if folder.is_dir() and any(map(is_tiff, visible_entries(folder)))]
    note_ignored(name, set(entries) - set(tiffs) - set(folders), notes)
    if not tiffs and not folders:
        raise InputError(
            f"{entry}: holds no TIFF (.tif, .tiff); add the stack of this class or remove the folder"
        )
    if tiffs and count_slices(read_layout(tiffs[0])) == 1:
        if folders:
            raise InputError(
                f"{entry}: holds single slices beside the folder {folders[0].name}; give each its own"
            )
        return name, {name: opened.enter_context(open_stack(entry))}
    stacks: dict[str, Stack] = {}
    for path in natsorted([*tiffs, *folders], key=_stem):
        if _stem(path) in stacks:
            raise InputError(f"{entry}: several specimens are named {_stem(path)!r}; rename all but one")
        stacks[_stem(path)] = (
            opened.enter_context(open_stack(path)) if path.is_dir() else _open_volume(path, opened)
        )
    return name, stacks


def _open_volume(path: Path, opened: ExitStack) -> Stack:
    stack = opened.enter_context(open_stack(path))
    if stack.shape[0] == 1:
        raise InputError(
            f"{path}: holds one slice where a stack is needed; put the slices of a stack into a folder"
        )
    return stack


def _cut(root: Path, found: Sequence[tuple[str, dict[str, Stack]]], regions: Regions) -> list[Specimen]:
    """Return every region of every stack, whole slices where none is given."""
    if isinstance(regions, Mapping):
        unknown = sorted(set(regions) - {name for name, _ in found})
        if unknown:
            known = ", ".join(name for name, _ in found)
            raise InputError(
                f"{root}: regions are given for {unknown[0]!r}, which is no class; there are {known}"
            )
        by_class = regions
    else:
        by_class = {name: regions for name, _ in found}
    sizes = {(region.height, region.width): region for group in by_class.values() for region in group}
    if len(sizes) > 1:
        listed = " and ".join(str(region) for region in sizes.values())
        raise InputError(f"regions {listed} differ in height or width; make all of them equal")
    return [
        part
        for name, stacks in found
        for source, stack in stacks.items()
        for part in _regions_of(name, source, stack, by_class.get(name, ()))
    ]


def _regions_of(sample: str, source: str, stack: Stack, regions: Sequence[Region]) -> list[Specimen]:
    _, height, width = stack.shape
    for region in regions:
        if region.top + region.height > height or region.left + region.width > width:
            raise InputError(
                f"{stack.path}: region {region} leaves its {height}×{width} slices; move or shrink it"
            )
    names = [f"{source}#{number}" for number in range(1, len(regions) + 1)] if len(regions) > 1 else [source]
    cut = regions or [Region(0, 0, height, width)]
    return [Specimen(sample, name, source, stack, region) for name, region in zip(names, cut, strict=True)]


def _target_size(parts: Sequence[Specimen], size: int | None, *, explicit: bool) -> tuple[int, int]:
    smallest = min(part.region.height for part in parts), min(part.region.width for part in parts)
    if size is None:
        return smallest
    if size < 1:
        raise InputError(f"size {size}: must be at least 1 pixel")
    for part in parts:
        if size > min(part.region.height, part.region.width):
            given = f"{'regions' if explicit else 'slices'} of {part.region.height}×{part.region.width}"
            raise InputError(
                f"{part.stack.path}: size {size} exceeds its {given}; choose at most {min(smallest)}"
            )
    return size, size


def _crop(part: Specimen, size: tuple[int, int], notes: list[str]) -> Specimen:
    region = part.region
    if (region.height, region.width) == size:
        return part
    notes.append(
        f"{part.name}: {region.height}×{region.width} slices are cropped at the centre to {size[0]}×{size[1]}"
    )
    return Specimen(part.sample, part.name, part.source, part.stack, region.centre(*size))


def _dtype(found: Sequence[tuple[str, dict[str, Stack]]], notes: list[str]) -> np.dtype[Any]:
    dtypes = {stack.dtype for _, stacks in found for stack in stacks.values()}
    if len(dtypes) == 1:
        return dtypes.pop()
    notes.append(
        f"samples differ in type ({_listed(found, lambda stack: stack.dtype.name)}) and are read as float32: "
        "grey values and gradients of samples of different types can't be compared; convert all to one scale"
    )
    return np.dtype(np.float32)


def _voxel_size(found: Sequence[tuple[str, dict[str, Stack]]], notes: list[str]) -> VoxelSize | None:
    sizes = [stack.voxel_size for _, stacks in found for stack in stacks.values()]
    stated = [size for size in sizes if size is not None]
    if not stated:
        return None
    alike = np.allclose([astuple(size) for size in stated], astuple(stated[0]), rtol=1e-4)
    if alike and len(stated) == len(sizes):
        return stated[0]
    notes.append(
        f"the stacks state no common voxel size ({_listed(found, _edges)}): lengths are in pixels, unless a "
        f"voxel size is given{'' if alike else '; the network may learn the magnification'}"
    )
    return None


def _edges(stack: Stack) -> str:
    size = stack.voxel_size
    return "none" if size is None else f"{'×'.join(f'{edge:.6g}' for edge in astuple(size))} µm"


def _listed(found: Sequence[tuple[str, dict[str, Stack]]], what: Callable[[Stack], str]) -> str:
    """Return what there is of a property, each with the samples that have it."""
    samples: dict[str, dict[str, None]] = {}
    for name, stacks in found:
        for stack in stacks.values():
            samples.setdefault(what(stack), {})[name] = None
    return "; ".join(f"{text}: {', '.join(names)}" for text, names in samples.items())
