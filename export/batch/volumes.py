"""All volumes of a job: OME-Zarr that grow block by block, or OME-TIFF written at the end."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path, can_be_named
from eigenfeatures.eigen.tiff_pages import read_layout
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.folder import writing
from eigenfeatures.export.batch.grid import grid_of
from eigenfeatures.export.batch.plan import Part
from eigenfeatures.export.batch.source import Source
from eigenfeatures.export.batch.zarr_layout import ZarrLayout, is_whole
from eigenfeatures.export.batch.zarr_volume import ZarrVolume

_SUFFIXES = {"zarr": "zarr", "tiff": "tif"}

FORMATS = tuple(_SUFFIXES)

Maps = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, int, int]]


class Volumes(Protocol):
    """A volume for each output and stack."""

    def write(self, part: Part, maps: Maps) -> Maps:
        """Write the maps ``(slices, C, h, w)`` of a block; return those that must be kept in it."""
        ...

    def has(self, part: Part) -> bool:
        """Tell whether the maps of a block that was done are there still."""
        ...

    def finish(self, parts: Sequence[Part], load: Callable[[int], Mapping[str, NDArray[Any]]]) -> None:
        """Complete the volumes when all blocks are there; may be done again after a kill."""
        ...


def make_volumes(
    form: str,
    folder: Path,
    sources: Sequence[Source],
    shapes: Shapes,
    facts: ModelFacts,
    block: int,
) -> Volumes:
    """Prepare the volumes of a job.

    Parameters
    ----------
    form
        One of `FORMATS`.
    folder
        Of the results; volumes are ``<output>/<stack>`` below it.
    sources
        The stacks.
    shapes
        Output to the shape ``(C, h, w)`` of a slice's maps.
    facts
        Of the model.
    block
        Slices a block.

    Raises
    ------
    InputError
        When the folder can't be written.
    """
    if form == "tiff":
        return _TiffVolumes(folder, sources, shapes, facts)
    return _ZarrVolumes(folder, sources, shapes, facts, block)


def check_names(form: str, folder: Path, sources: Sequence[Source], outputs: Iterable[str]) -> None:
    """Raise `InputError` where a stack's name is too long for that of a volume; parameters as above."""
    for output, source in product(outputs, sources):
        path = _path(form, folder, output, source)
        if not can_be_named(path, atomically=form == "tiff"):
            raise InputError(
                f"{source.stack.path}: its name is too long, as {path.suffixes[-2]}{path.suffix} is added to "
                "it; rename the stack"
            )


def damaged_file(
    form: str, folder: Path, sources: Sequence[Source], shapes: Shapes, block: int
) -> Path | None:
    """Return a file of a finished job's volumes that is not there or has lost data; parameters as above."""
    for (output, (channels, height, width)), source in product(shapes.items(), sources):
        path, slices = _path(form, folder, output, source), len(source.indices)
        if form == "tiff":
            if not _has_pages(path, slices * channels, (height, width)):
                return path
        else:
            layout = ZarrLayout(path, (channels, slices, height, width), block)
            for file in chain(layout.metadata(), layout.files(0, slices)):
                if not is_whole(file):
                    return file
    return None


def _has_pages(path: Path, number: int, size: tuple[int, int]) -> bool:
    """Tell whether a TIFF has so many pages, each within the file."""
    try:
        pages = read_layout(path).pages
    except InputError:
        return False
    return len(pages) == number and all((page.height, page.width) == size for page in pages)


def _path(form: str, folder: Path, output: str, source: Source) -> Path:
    return folder / output / f"{source.name}.ome.{_SUFFIXES[form]}"


class _ZarrVolumes:
    def __init__(
        self, folder: Path, sources: Sequence[Source], shapes: Shapes, facts: ModelFacts, block: int
    ) -> None:
        self._folder = folder
        self._volumes: dict[tuple[str, int], ZarrVolume] = {}
        with writing(folder):
            for output, (channels, height, width) in shapes.items():
                stride, offset = facts.stride(output), facts.offset(output)
                for number, source in enumerate(sources):
                    self._volumes[output, number] = ZarrVolume(
                        _path("zarr", folder, output, source),
                        (channels, len(source.indices), height, width),
                        block,
                        grid_of(source, stride, offset),
                    )

    def write(self, part: Part, maps: Maps) -> Maps:
        with writing(self._folder):
            for output, array in maps.items():
                self._volumes[output, part.stack].write(part.first, array)
        return {}

    def has(self, part: Part) -> bool:
        volumes = (volume for (_, stack), volume in self._volumes.items() if stack == part.stack)
        return all(volume.has(part.first, part.length) for volume in volumes)

    def finish(self, parts: Sequence[Part], load: Callable[[int], Mapping[str, NDArray[Any]]]) -> None:  # noqa: ARG002
        with writing(self._folder):
            for volume in self._volumes.values():
                volume.finish()


class _TiffVolumes:
    def __init__(self, folder: Path, sources: Sequence[Source], shapes: Shapes, facts: ModelFacts) -> None:
        self._folder, self._sources, self._shapes, self._facts = folder, sources, shapes, facts

    def write(self, part: Part, maps: Maps) -> Maps:  # noqa: ARG002
        """Leave the maps to the blocks: a TIFF grows at its end only."""
        return maps

    def has(self, part: Part) -> bool:  # noqa: ARG002
        """Tell that the maps are there: the block holds them itself."""
        return True

    def finish(self, parts: Sequence[Part], load: Callable[[int], Mapping[str, NDArray[Any]]]) -> None:
        def pages(output: str, stack: int) -> Iterator[NDArray[np.float32]]:
            for part in parts:
                if part.stack == stack:
                    yield from load(part.number)[output].reshape(-1, *self._shapes[output][1:])

        with writing(self._folder):
            for output in self._shapes:
                for number, source in enumerate(self._sources):
                    self._write(output, source, pages(output, number))

    def _write(self, output: str, source: Source, pages: Iterator[NDArray[np.float32]]) -> None:
        grid = grid_of(source, self._facts.stride(output), self._facts.offset(output))
        lengths = dict(zip("ZYX", grid.scale, strict=True))
        # Not tifffile's random one, so that the same job gives the same bytes.
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._facts.sha256}/{output}/{source.name}")
        metadata: dict[str, Any] = {"axes": "ZCYX", "UUID": str(name)}
        if grid.known:
            metadata |= {f"PhysicalSize{axis}": length for axis, length in lengths.items()}
            metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in lengths}
        with atomic_path(_path("tiff", self._folder, output, source)) as temporary:
            tifffile.imwrite(
                temporary,
                pages,
                shape=(len(source.indices), *self._shapes[output]),
                dtype=np.float32,
                photometric="minisblack",
                bigtiff=True,
                ome=True,
                metadata=metadata,
            )
