"""One volume as OME-Zarr 0.5: the chunks of every level are written block by block."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import settle
from eigenfeatures.export.batch.folder import writing
from eigenfeatures.export.batch.grid import Grid
from eigenfeatures.export.batch.zarr_layout import METADATA, ZarrLayout, is_whole


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

    Raises
    ------
    InputError
        When the metadata of an array that is there are damaged.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int], block: int, grid: Grid) -> None:
        self._path, self._grid, self._layout = path, grid, ZarrLayout(path, shape, block)
        self._levels = [self._level(number) for number in range(self._layout.levels)]

    def write(self, first: int, maps: NDArray[np.float32]) -> None:
        """Put the maps ``(slices, C, h, w)`` of a block from slice `first` on the disk, at all levels.

        Raises
        ------
        InputError
            The disk is full or can't be written. Some chunks of the block may be there, each whole.
        """
        depth = self._layout.depth
        with writing(self._path):
            for start in range(0, len(maps), depth):
                part = np.moveaxis(maps[start : start + depth], 1, 0)
                place = slice(first + start, first + start + part.shape[1])
                for number, level in enumerate(self._levels):
                    part = halved(part) if number else part
                    level[:, place] = part
            for file in self._layout.files(first, len(maps)):
                settle(file)

    def has(self, first: int, count: int) -> bool:
        """Tell whether all chunks of some slices are there, and not empty."""
        return all(map(is_whole, self._layout.files(first, count)))

    def finish(self) -> None:
        """Write the metadata, by which readers know the volume; it is incomplete without them."""
        attributes: Any = {"ome": {"version": "0.5", "multiscales": [self._multiscale(len(self._levels))]}}
        zarr.open_group(self._path, mode="a", attributes=attributes)
        settle(self._path / METADATA)

    def _level(self, number: int) -> Any:
        """Open an array, or make it."""
        # So that a chunk that is not there is one that was lost, also where all of its values are NaN; by the
        # configuration, since an array that is opened takes no such option.
        with zarr.config.set({"array.write_empty_chunks": True}):
            return self._opened(number)

    def _opened(self, number: int) -> Any:
        path = self._path / str(number)
        if (path / METADATA).is_file():
            try:
                return zarr.open_array(path, mode="r+")
            except PermissionError:  # of the folder, which the caller tells
                raise
            except Exception as error:  # whatever a damaged description makes of itself
                raise InputError(
                    f"{path / METADATA} is damaged; remove it, and --resume makes it anew"
                ) from error
        made = zarr.create_array(
            path,
            shape=(*self._layout.shape[:2], *self._layout.plane(number)),
            chunks=self._layout.chunks(number),
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
