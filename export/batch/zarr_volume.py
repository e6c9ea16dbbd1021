"""One volume as OME-Zarr 0.5: the chunks of every level are written block by block."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from eigenfeatures.eigen.files import settle
from eigenfeatures.export.batch.folder import writing
from eigenfeatures.export.batch.grid import Grid

# Levels are added until the longer side is at most this.
SMALLEST_SIDE = 128

# Of a volume and of each of its levels.
METADATA = "zarr.json"

_CHUNK_BYTES = 4 * 2**20
_CHUNK_SIDE = 1024


class ZarrVolume:
    """A float32 volume ``(C, Z, Y, X)`` with in-plane levels of half the size each.

    A chunk holds slices of one block only, so that blocks are written independently, from
    several threads or machines: levels are coarser in the plane only, so that a block has its own
    part of each. What was not written reads as NaN.

    Parameters
    ----------
    path
        Its folder; an array that is there is gone on with.
    shape
        Channels, slices, height, width.
    block
        Slices a block.
    grid
        Of the finest level.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int], block: int, grid: Grid) -> None:
        self._path, self._shape, self._grid = path, shape, grid
        side = [min(length, _CHUNK_SIDE) for length in shape[2:]]
        fitting = max(1, _CHUNK_BYTES // (4 * math.prod(side)))
        depth = next(d for d in range(min(block, fitting), 0, -1) if block % d == 0)
        self._chunks = (1, min(depth, shape[1]), *side)
        coarser = max(0, math.ceil(math.log2(max(shape[2:]) / SMALLEST_SIDE)))
        self._levels = [self._level(number) for number in range(1 + coarser)]

    def write(self, first: int, maps: NDArray[np.float32]) -> None:
        """Put the maps ``(slices, C, h, w)`` of a block from slice `first` on the disk, at all levels.

        Raises
        ------
        InputError
            The disk is full or can't be written. Some chunks of the block may be there, each whole.
        """
        depth = self._chunks[1]
        with writing(self._path):
            for start in range(0, len(maps), depth):
                part = np.moveaxis(maps[start : start + depth], 1, 0)
                place = slice(first + start, first + start + part.shape[1])
                for number, level in enumerate(self._levels):
                    part = halved(part) if number else part
                    level[:, place] = part
            self._settle(first, len(maps))

    def has(self, first: int, count: int) -> bool:
        """Tell whether slices of the finest level are there: chunks without a number but NaN never are."""
        ends = {0, self._shape[0] - 1}
        return all(folder.is_dir() for folder in self._folders(0, ends, first, count))

    def finish(self) -> None:
        """Write the metadata, by which readers know the volume; it is incomplete without them."""
        attributes: Any = {"ome": {"version": "0.5", "multiscales": [self._multiscale(len(self._levels))]}}
        zarr.open_group(self._path, mode="a", attributes=attributes)
        settle(self._path / METADATA)

    def _settle(self, first: int, count: int) -> None:
        for number in range(len(self._levels)):
            for folder in self._folders(number, range(self._shape[0]), first, count):
                for file in folder.rglob("*"):
                    if file.is_file():
                        # One that a worker which outlived its command was writing gets its name meanwhile.
                        with suppress(FileNotFoundError):
                            settle(file)

    def _folders(self, level: int, channels: Iterable[int], first: int, count: int) -> Iterator[Path]:
        """Yield where the chunks of some channels and slices are."""
        depth = self._chunks[1]
        for c, z in product(channels, range(first // depth, -(-(first + count) // depth))):
            yield self._path / str(level) / "c" / str(c) / str(z)

    def _level(self, number: int) -> Any:
        """Open an array, or make it."""
        path = self._path / str(number)
        if (path / METADATA).is_file():
            return zarr.open_array(path, mode="r+")
        height, width = (math.ceil(side / 2**number) for side in self._shape[2:])
        made = zarr.create_array(
            path,
            shape=(*self._shape[:2], height, width),
            chunks=(
                *self._chunks[:2],
                *(min(a, b) for a, b in zip(self._chunks[2:], (height, width), strict=True)),
            ),
            dtype=np.float32,
            compressors=ZstdCodec(level=3),
            fill_value=np.nan,
            dimension_names=["c", "z", "y", "x"],
        )
        settle(path / METADATA)
        return made

    def _multiscale(self, levels: int) -> dict[str, Any]:
        unit = {"unit": "micrometer"} if self._grid.known else {}
        axes = [
            {"name": "c", "type": "channel"},
            *({"name": name, "type": "space", **unit} for name in "zyx"),
        ]
        datasets = []
        for number in range(levels):
            grid = self._grid.coarser(2**number)
            datasets.append(
                {
                    "path": str(number),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1.0, *grid.scale]},
                        {"type": "translation", "translation": [0.0, *grid.origin]},
                    ],
                }
            )
        return {
            "name": self._path.name.removesuffix(".ome.zarr"),
            "axes": axes,
            "datasets": datasets,
            "type": "mean",
        }


def halved(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 2×2 pixels of maps ``(…, h, w)``; an odd last row or column counts twice."""
    edges = [(0, 0)] * (maps.ndim - 2) + [(0, side % 2) for side in maps.shape[-2:]]
    even = np.pad(maps, edges, mode="edge")
    rows = (even[..., ::2, :] + even[..., 1::2, :]) / np.float32(2)
    return np.asarray((rows[..., ::2] + rows[..., 1::2]) / np.float32(2), np.float32)
