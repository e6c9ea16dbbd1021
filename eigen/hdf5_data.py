"""Data sets of HDF5 files as stacks: with values of their own, and virtual ones, of slices of others."""

import math
import operator
import threading
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.array_stacks import Selection, check_volume
from eigenfeatures.eigen.chunked_stacks import ChunkedStack, along, check_chunk
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.hdf5_links import Found, Links, neighbour, open_file
from eigenfeatures.eigen.stacks import Region, Stack, runs
from eigenfeatures.eigen.voxel_size import VoxelSize

_PLANE = 2  # axes of a slice
_MOST_SLICES = 1 << 22  # of a virtual data set; where each is takes 16 bytes, even if nothing is there


class DataSetStack(ChunkedStack):
    """A data set with values of its own.

    Parameters
    ----------
    where : Path
        The file with the data set's name.
    links : Links
        Of the file; closed with the stack.
    found : Found
        The data set.
    voxel_size, axis
        As of `ArrayStack`.

    Raises
    ------
    InputError
        Its values are in other places, or are no greyscale volume.
    """

    _most_chunks = 1 << 20  # a chunk takes HDF5 much less time than a Zarr

    def __init__(
        self, where: Path, links: Links, found: Found, voxel_size: VoxelSize | None, axis: int
    ) -> None:
        data = found.node
        if data.external or data.is_virtual:
            raise InputError(
                f"{where}: keeps its values in other places, which aren't followed for safety; "
                "open the file that has them, or write them into one data set"
            )
        shape = data.shape or ()
        dtype = np.dtype(data.dtype.str)  # without the metadata that h5py adds
        if data.chunks:
            check_chunk(where, data.chunks, dtype)
        files = dict.fromkeys((links.path, found.path))
        super().__init__(where, [*files], shape, dtype, voxel_size, axis, chunks=data.chunks or shape)
        self._data, self._links = data, links

    def _release(self) -> None:
        self._links.close()

    def _fetch(self, selection: Selection, out: NDArray[Any]) -> None:
        if out.flags.c_contiguous:
            self._data.read_direct(out, selection)
        else:
            out[...] = self._data[selection]

    def _is_stored(self, chunk: tuple[int, ...]) -> bool:
        if self._data.chunks is None:
            return bool(self._data.id.get_storage_size())
        return self._corners is None or tuple(map(operator.mul, chunk, self._chunks)) in self._corners

    @cached_property
    def _corners(self) -> set[tuple[int, ...]] | None:
        """Of the chunks that are there, None where all are: HDF5 would look through all for each."""
        sizes = zip(self._data.shape, self._chunks, strict=True)
        if self._data.id.get_num_chunks() == math.prod(-(-size // part) for size, part in sizes):
            return None
        corners: set[tuple[int, ...]] = set()
        self._data.id.chunk_iter(lambda chunk: corners.add(chunk.chunk_offset))
        return corners


class VirtualStack(Stack):
    """A virtual data set of whole slices of other data sets, one after another along its first axis.

    The HDF5 library isn't let to look for these: it would do so in places that environment variables name,
    and take what isn't there for fill values. Each is opened here; the one that was read last stays open.
    Slices that none gives count as missing.

    Parameters
    ----------
    where, links, found, voxel_size
        As of `DataSetStack`.

    Raises
    ------
    InputError
        A source isn't there or isn't followed, or it gives other than whole slices of this type.
    """

    def __init__(self, where: Path, links: Links, found: Found, voxel_size: VoxelSize | None) -> None:
        data, self._links, self._own = found.node, links, found.path
        shape, dtype = shape_of(where, data, links.h5py), np.dtype(data.dtype.str)
        slices, height, width = check_volume(where, shape, dtype)
        if slices > _MOST_SLICES:
            raise InputError(
                f"{where}: claims {slices} slices of other data sets and at most {_MOST_SLICES} are read; "
                "write its values into one data set"
            )
        super().__init__(where, (), (slices, height, width), dtype, voxel_size)
        self._fill_value = data.fillvalue
        self._sources: list[tuple[str, str]] = []
        self._number, self._frame = np.full(slices, -1), np.zeros(slices, int)  # of each slice: where it is
        self._lock = threading.Lock()
        self._last: tuple[int, DataSetStack] | None = None
        try:
            sources = [self._add(mapping) for mapping in _mappings(where, data)]
        except BaseException:
            self._release()
            raise
        self.files = tuple(dict.fromkeys([links.path, found.path, *sources]))

    def _add(self, mapping: "_Mapping") -> Path:
        """Take the slices of one source; return its file."""
        number = len(self._sources)
        self._sources.append((mapping.file, mapping.data_set))
        places = self._whole_slices(mapping.place, self.shape)
        source = self._source(number)
        taken = self._how_many(mapping.part, source.shape)
        if taken != len(places):  # before these are told one by one: any number can be claimed
            raise self._refusal(f"{len(places)} slices of {taken} in {source.path}")
        self._number[places], self._frame[places] = number, self._whole_slices(mapping.part, source.shape)
        return source.files[0]

    def _release(self) -> None:
        with self._lock:
            if self._last is not None:
                self._last[1].close()
                self._last = None
        self._links.close()

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f"{self.path}: is put together of {what}, which isn't read; write its values into one data set"
        )

    def _source(self, number: int) -> DataSetStack:
        """Open a source, unless it is open still, in place of the one that is."""
        if self._last is not None:
            if self._last[0] == number:
                return self._last[1]
            self._last[1].close()
            self._last = None
        file, name = self._sources[number]
        path = self._own if file == "." else neighbour(str(self.path), file, self._own, self._links.folder)
        links = Links(path, open_file(path, self._links.h5py, str(self.path)), self._links.h5py)
        place = f"{path}:/{name.strip('/')}"
        try:
            found = links.data_set(name, f"{self.path}: takes slices from {place}", alone=True)
            stack = DataSetStack(Path(place), links, found, None, 0)
            if stack.dtype != self.dtype:
                raise self._refusal(f"{stack.dtype} in {path} where it says {self.dtype}")
        except BaseException:
            links.close()
            raise
        self._last = number, stack
        return stack

    def _how_many(self, space: Any, shape: tuple[int, int, int]) -> int:
        """Return how many slices of an array of this shape are selected, if they are whole ones."""
        if shape[1:] != self.shape[1:]:
            raise self._refusal(f"slices of {shape[1]}×{shape[2]} pixels")
        if space.get_select_type() == self._links.h5py.h5s.SEL_ALL:
            return shape[0]
        return int(space.get_select_npoints()) // (shape[1] * shape[2])

    def _whole_slices(self, space: Any, shape: tuple[int, int, int]) -> NDArray[np.intp]:
        """Return which slices of an array of this shape are selected, in the order of their values."""
        h5s, kind = self._links.h5py.h5s, space.get_select_type()
        if kind == h5s.SEL_ALL:
            return np.arange(shape[0])
        if kind != h5s.SEL_HYPERSLABS or space.get_simple_extent_ndims() < _PLANE:
            raise self._refusal("other than whole slices")
        return self._regular(space, shape) if space.is_regular_hyperslab() else self._irregular(space, shape)

    def _irregular(self, space: Any, shape: tuple[int, int, int]) -> NDArray[np.intp]:
        """Return the selected slices where their distances differ, as where some frames were dropped."""
        # As many blocks as slices at most, if they are whole.
        if space.get_simple_extent_ndims() == _PLANE or space.get_select_hyper_nblocks() > shape[0]:
            raise self._refusal("parts of slices")
        # Of each block: the first and the last index along every axis.
        blocks = np.asarray(space.get_select_hyper_blocklist(), int)
        edges = blocks[:, :, -_PLANE:] == [[0, 0], [shape[1] - 1, shape[2] - 1]]
        if not edges.all():
            raise self._refusal("parts of slices")
        if blocks[:, 1, -3].max() >= shape[0] or blocks[:, :, :-3].any():
            raise self._refusal("more than there is")
        return np.unique(np.concatenate([np.arange(first, last + 1) for first, last in blocks[:, :, -3]]))

    def _regular(self, space: Any, shape: tuple[int, int, int]) -> NDArray[np.intp]:
        """Return the selected slices where they come in blocks of one length, at one distance."""
        # Of each axis: the first index, the step from block to block, the number and the length of these.
        axes = list(zip(*space.get_regular_hyperslab(), strict=True))
        for (start, step, count, block), size in zip(axes[::-1], (*shape[::-1], 1, 1), strict=False):
            if count < 1 or (count > 1 and step < block) or start + step * (count - 1) + block > size:
                raise self._refusal("more than there is")
        if any(count * block < size for (_, _, count, block), size in zip(axes[-2:], shape[1:], strict=True)):
            raise self._refusal("parts of slices")
        start, step, count, block = axes[-3] if len(axes) > _PLANE else (0, 1, 1, 1)
        taken: NDArray[np.intp] = np.add.outer(start + step * np.arange(count), np.arange(block)).ravel()
        return taken

    def lacking(self, index: int, region: Region, axis: int) -> set[int]:
        """As of `ChunkedStack`."""
        number, frame = int(self._number[index]), int(self._frame[index])
        if number < 0:
            return set(along(region, axis))
        with self._lock:
            return self._source(number).lacking(frame, region, axis)

    def _read_run(self, run: range, region: Region, out: NDArray[Any]) -> None:
        chosen = slice(run.start, run.stop, run.step)
        frames, first = self._frame[chosen].tolist(), 0
        with self._lock:
            for number, group in groupby(self._number[chosen].tolist()):
                last = first + len(list(group))
                for place, part in runs(frames[first:last]):
                    here = slice(first + place, first + place + len(part))
                    self._read_part(number, part, region, run[here], out[here])
                first = last

    def _read_part(self, number: int, frames: range, region: Region, run: range, out: NDArray[Any]) -> None:
        """Fill `out`, a part of what is read, with slices of one source."""
        if number >= 0:
            source = self._source(number)
            if self._fills:
                source.fill_missing()
            source._read_named(frames, region, out)
            self._filled.update(i for i, frame in zip(run, frames, strict=True) if source.is_filled(frame))
        elif self._fills:
            out[...] = self._fill_value
            self._filled.update(run)
        else:
            raise InputError(
                f"{self._name(run[0])} is in none of the files that it is put together of; write it anew or "
                "have such slices filled (--missing fill)"
            )


def shape_of(where: object, data: Any, h5py: Any) -> tuple[int, ...]:
    """Return the shape of a data set, unless HDF5 would look for other files to tell it.

    Raises
    ------
    InputError
        It is a virtual data set that grows with its sources; only such a one can name them by a pattern.
    """
    for mapping in _mappings(where, data) if data.is_virtual else ():
        space = mapping.place
        regular = space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab()
        numbers = space.get_regular_hyperslab() if regular else ()
        if any(h5py.h5s.UNLIMITED in each for each in numbers):
            raise InputError(
                f"{where}: grows with other files or names them by a pattern, which isn't followed for "
                "safety; open those files, or write their values into one data set"
            )
    shape: tuple[int, ...] = data.shape or ()
    return shape


class _Mapping(NamedTuple):
    """A part of a virtual data set, as a selection of it, and where its values are."""

    place: Any
    file: str
    data_set: str
    part: Any


def _mappings(where: object, data: Any) -> Iterator[_Mapping]:
    """Yield the mappings one by one: with thousands at once, HDF5 takes ten times as long to close a file."""
    settings = data.id.get_create_plist()
    for number in range(settings.get_virtual_count()):
        try:
            names = settings.get_virtual_filename(number), settings.get_virtual_dsetname(number)
        except UnicodeDecodeError:
            raise InputError(
                f"{where}: takes slices from a file or a data set whose name is no UTF-8; rename that "
                "and write this data set anew"
            ) from None
        yield _Mapping(settings.get_virtual_vspace(number), *names, settings.get_virtual_srcspace(number))
