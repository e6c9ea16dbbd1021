"""Zarr arrays (format 2 and 3) and OME-Zarr images as stacks."""

import math
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.array_stacks import Selection
from eigenfeatures.eigen.chunked_stacks import ChunkedStack, check_chunk, touched_chunks
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.ome_zarr import Multiscale, read_multiscale
from eigenfeatures.eigen.stacks import Stack, one_line
from eigenfeatures.eigen.tiff_stacks import visible_entries
from eigenfeatures.eigen.voxel_size import seen_along
from eigenfeatures.eigen.watched_files import WatchedFiles, check_regular
from eigenfeatures.eigen.zarr_shards import SHARDING, Shards, are_readable

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_FURTHER_METADATA = ".zmetadata"  # which zarr reads too, and which needn't be there
_MOST_CHUNKS_PER_SHARD = 1 << 22  # their index takes 16 bytes each


def is_zarr(path: Path) -> bool:
    """Tell the folder of a Zarr array or group by its metadata or its name."""
    return path.is_dir() and (path.suffix == ".zarr" or any((path / name).is_file() for name in _METADATA))


def open_zarr(path: Path, axis: int = 0) -> Stack:
    """Open a Zarr array as a stack, without reading its chunks.

    Parameters
    ----------
    path : Path
        The folder of an array, of a group with one array, or of an OME-Zarr
        image, of which the full resolution is taken. A group or an array
        within a Zarr is named by its folder: ``volume.zarr/entry/data``.
    axis : int
        As of `ArrayStack`.

    Returns
    -------
    Stack
        Reading fills the result without a copy; it takes the memory of the
        chunks at work besides. Writers may leave out chunks that hold nothing
        but the fill value, in a shard too: nothing tells these from lost ones.

    Raises
    ------
    InputError
        The metadata are damaged, there is none or more than one array, or it
        is no greyscale volume. Or a symbolic link in the folder leads out of
        it: only the folder itself may be one.
    """
    node = _open_node(path, path)
    if not _is_group(node):
        return _ZarrStack(path, node, _image_around(path), axis)
    image = read_multiscale(node.attrs)
    if image is None:
        return _ZarrStack(path, _only_array(path), None, axis)
    array = _open_node(_full_resolution(path, image), path)
    if _is_group(array):
        raise InputError(f"{path}: its level {image.array!r} is no array; export the image again")
    _check_axes(path, image, array.shape)
    return _ZarrStack(path, array, image, axis)


def _open_node(path: Path, within: Path) -> Any:
    folder = within.resolve()
    for name in (*_METADATA, _FURTHER_METADATA):
        check_regular(path / name, folder)
    try:
        zarr = import_module("zarr")
    except ImportError as error:
        raise InputError(
            f"{path}: reading Zarr needs more packages ({error}): pip install 'eigenfeatures[cpu]'"
        ) from error
    try:
        return zarr.open(path, mode="r")
    except Exception as error:  # whatever a damaged description makes of itself
        raise InputError(
            f"{path}: isn't a Zarr that can be read ({one_line(error)}); copy or export it again"
        ) from error


def _is_group(node: Any) -> bool:
    return not hasattr(node, "shape")


def _only_array(path: Path) -> Any:
    """Open the one array among the members, which are looked for rather than taken from the metadata."""
    entries = [entry for entry in visible_entries(path) if is_zarr(entry)]
    members = {entry.name: _open_node(entry, path) for entry in entries if _lies_in(entry, path)}
    arrays = [node for node in members.values() if not _is_group(node)]
    if len(arrays) == 1:
        return arrays[0]
    if entries and not members:
        raise InputError(
            f"{path}: its member {entries[0].name} lies outside of it, which isn't followed for safety; "
            "name the array itself"
        )
    held = ", ".join(list(members)[:8]) + (", …" if len(members) > 8 else "")
    raise InputError(f"{path}: is a Zarr group of {held or 'nothing'}; name one array: {path}/…")


def _full_resolution(path: Path, image: Multiscale) -> Path:
    """Return the folder of the first level, which must lie in the group's."""
    name = PurePosixPath(image.array)
    if ".." in name.parts or not _lies_in(path / name, path):
        raise InputError(f"{path}: its level {image.array!r} lies outside of it; name the array itself")
    return path / name


def _lies_in(entry: Path, folder: Path) -> bool:
    try:
        return entry.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # symbolic links in circles, or no name that a file can have
        return False


def _check_axes(path: Path, image: Multiscale, shape: tuple[int, ...]) -> None:
    """Refuse what isn't one greyscale volume: its last axes are slices, rows and columns."""
    sizes = dict(zip(image.axes, shape, strict=False))
    longer = {name for name, size in sizes.items() if size != 1} - {"y", "x"}
    plane_last = image.axes[-2:] == ("y", "x") and image.axes[-3:-2] in ((), ("z",), ("t",), ("c",))
    if len(image.axes) != len(shape) or not plane_last or longer - {*image.axes[-3:-2]} or "c" in longer:
        axes = " × ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(f"{path}: is an image of {axes}; save one greyscale volume (z, y, x) of it")


def _image_around(path: Path) -> Multiscale | None:
    """Return the OME-Zarr image around an array that is its full resolution."""
    if not any((path.parent / name).is_file() for name in _METADATA):
        return None
    with suppress(InputError):  # what surrounds the array needn't be sound
        image = read_multiscale(_open_node(path.parent, path.parent).attrs)
        return image if image and image.array == path.name else None
    return None


def _check_shards(path: Path, chunks: tuple[int, ...], shards: tuple[int, ...]) -> None:
    number = math.prod(whole // part for whole, part in zip(shards, chunks, strict=True))
    if number > _MOST_CHUNKS_PER_SHARD:
        raise InputError(
            f"{path}: claims shards of {number} chunks and at most {_MOST_CHUNKS_PER_SHARD} are read; "
            "write it anew in larger chunks"
        )


class _ZarrStack(ChunkedStack):
    """The array stays described in memory; no file stays open."""

    def __init__(self, path: Path, array: Any, image: Multiscale | None, axis: int) -> None:
        folder: Path = Path(array.store.root) / array.path
        _check_codecs(path, array)
        try:
            dtype, chunks, shards = np.dtype(array.dtype), array.chunks, array.shards
            self._shards = Shards.of(array.metadata.to_dict(), chunks, shards) if shards else None
        except Exception as error:  # whatever a damaged description makes of itself
            raise InputError(
                f"{path}: is stored in no regular chunks ({one_line(error)}); rechunk it"
            ) from error
        check_chunk(path, chunks, dtype)
        if shards:
            _check_shards(path, chunks, shards)
        super().__init__(
            path,
            [file for parent in dict.fromkeys((path, folder)) for file in _metadata_files(parent)],
            array.shape,
            dtype,
            image.voxel_size if image else None,
            axis,
            chunks=chunks,
        )
        if image is not None:
            self.origin = seen_along(axis, image.origin)
            self.notes = (f"{path}: {image.note}",) if image.note else ()
        self._array = array
        self._folder = folder
        self._watched = WatchedFiles(folder, within=path.resolve())
        self._buffer = import_module("zarr.buffer.cpu").NDBuffer

    def check_files(self, *, thoroughly: bool = True) -> None:
        """Look once more at the chunks that were read last; a block's own are looked at as it is read."""
        if thoroughly:
            self._watched.check()

    def _fetch(self, selection: Selection, out: NDArray[Any]) -> None:
        files = {self._file_of(chunk) for chunk in touched_chunks(selection, self._chunks)}
        with self._watched.reading(files):
            if self._shards:
                self._absent_chunks(selection)  # refuses a damaged index, by which zarr would read anything
            self._array.get_basic_selection(selection, out=self._buffer.from_numpy_array(out))

    def _is_stored(self, chunk: tuple[int, ...]) -> bool:
        file = self._folder / self._file_of(chunk)
        return file.is_file() and (self._shards is None or self._shards.holds(file, chunk))

    def _file_of(self, chunk: tuple[int, ...]) -> str:
        """Name the file of a chunk, or of the shard that it is in."""
        place = self._shards.shard_of(chunk) if self._shards else chunk
        name: str = self._array.metadata.encode_chunk_key(place)
        return name


def _metadata_files(folder: Path) -> Iterator[Path]:
    return (folder / name for name in _METADATA if (folder / name).is_file())


def _check_codecs(path: Path, array: Any) -> None:
    """Refuse the one codec that can run code, and shards whose missing chunks would be read as zeros."""
    metadata = array.metadata.to_dict()
    if "pickle" in _words(metadata):
        raise InputError(f"{path}: holds pickled data, which can run code; write it with another codec")
    if SHARDING in _words(metadata.get("codecs")) and not are_readable(metadata["codecs"]):
        raise InputError(
            f"{path}: is stored in shards whose missing chunks can't be told; write it anew with one level "
            "of shards, no codec beside them and a plain index"
        )


def _words(value: Any) -> Iterator[str]:
    """Yield the last part of every text in a tree of metadata: "numcodecs.pickle" gives "pickle"."""
    if isinstance(value, str):
        yield value.rpartition(".")[2]
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "attributes":
                yield from _words(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
