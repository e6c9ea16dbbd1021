"""Walk a TIFF's page directories and check that every page lies within the file.

tifffile stops at a broken chain of directories with a message in its log, and
pads or fails late where data are missing. Half a stack must not pass for a
whole one, so the chain is followed here first and every strip and tile is
compared with the length of the file, before anything is decoded or allocated.

References
----------
TIFF Revision 6.0, Adobe, 1992, sections 2 and 15; the BigTIFF proposal.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import MAX_SLICE_BYTES
from eigenfeatures.eigen.watched_files import check_ends

# Declared sizes beyond these are taken for damage or malice: nothing is allocated for them.
_MAX_SIDE = 1 << 20
_MAX_TILE_SIDE = 4096  # unless the slice is larger still
_MAX_DIRECTORY_ENTRIES = 4096
_MAX_DESCRIPTION_BYTES = 64 << 20
_SHORTEST_HEADER = 8

_IMAGE_WIDTH, _IMAGE_LENGTH, _BITS_PER_SAMPLE, _COMPRESSION = 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _IMAGE_DESCRIPTION = 262, 266, 270
_STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTE_COUNTS = 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PREDICTOR = 282, 283, 317
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTE_COUNTS, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_IMAGE_DEPTH, _TILE_DEPTH = 32997, 32998

# Field type -> NumPy type: BYTE, ASCII, SHORT, LONG, RATIONAL (two LONGs), IFD, LONG8, IFD8.
_FIELD_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "2u4", 13: "u4", 16: "u8", 18: "u8"}

# (SampleFormat, BitsPerSample) -> NumPy type. Format 4 is "undefined": unsigned by custom.
_SAMPLE_TYPES = {(1, 8): "u1", (4, 8): "u1", (1, 16): "u2", (4, 16): "u2", (2, 16): "i2", (3, 32): "f4"}
_SAMPLE_KINDS = {1: "unsigned integer", 2: "signed integer", 3: "float", 5: "complex integer", 6: "complex"}

_DAMAGED = "the file is truncated or damaged: copy or export it again"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A fraction as it is stated: either number may be 0."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float:
        """The quotient; NaN where that is no positive number."""
        return self.numerator / self.denominator if self.numerator and self.denominator else math.nan

    def __str__(self) -> str:
        return f"{self.numerator / self.denominator:g}" if self.denominator else f"{self.numerator}/0"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a TIFF, checked to be greyscale and to lie within its file.

    Attributes
    ----------
    directory : int
        Where the page's directory starts, in bytes.
    height, width : int
        In pixels.
    dtype : numpy.dtype
        uint8, uint16, int16 or float32, in the byte order of the file.
    data : int or None
        Where the pixels start if they are one uncompressed run of rows;
        None if strips or tiles have to be decoded.
    """

    directory: int
    height: int
    width: int
    dtype: np.dtype[Any]
    data: int | None

    @property
    def nbytes(self) -> int:
        """Size of the decoded page in bytes."""
        return self.height * self.width * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """All pages of one TIFF and what its first page says about them.

    Attributes
    ----------
    path : Path
        The file.
    size : int
        Its length in bytes.
    pages : tuple of Page
        In file order; at least one.
    description : str
        ImageDescription of the first page, "" if there is none.
    resolution : tuple of (Ratio or None)
        Pixels a unit along x and y: None where not stated.
    """

    path: Path
    size: int
    pages: tuple[Page, ...]
    description: str
    resolution: tuple[Ratio | None, Ratio | None]


def read_layout(path: Path) -> Layout:
    """Read and check the page directories of a TIFF; no pixel is read.

    Parameters
    ----------
    path : Path
        A classic TIFF or BigTIFF of either byte order.

    Returns
    -------
    Layout

    Raises
    ------
    InputError
        The file can't be read, is no regular file or no TIFF, has a broken chain of directories
        or data outside the file, or isn't greyscale uint8, uint16, int16 or
        float32.
    """
    check_ends(path)
    try:
        with path.open("rb") as file:
            return _read_layout(path, file)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}; check the path") from error


def _read_layout(path: Path, file: BinaryIO) -> Layout:
    size = file.seek(0, 2)
    form, offset = _read_header(path, file)
    pages: list[Page] = []
    for number, directory in enumerate(_directories(path, file, size, form, offset)):
        if number == 0:
            description = directory.text(_IMAGE_DESCRIPTION)
            resolution = (directory.ratio(_X_RESOLUTION), directory.ratio(_Y_RESOLUTION))
        pages.append(_check_page(directory))
    if not pages:
        raise InputError(f"{path}: holds no page; {_DAMAGED}")
    return Layout(path, size, tuple(pages), description, resolution)


@dataclass(frozen=True)
class _Form:
    """How numbers are laid out: byte order, and the sizes of classic TIFF or BigTIFF."""

    order: Literal["<", ">"]
    count: Literal["H", "Q"]
    offset: Literal["I", "Q"]

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.offset}{struct.calcsize(self.offset)}s")


def _read_header(path: Path, file: BinaryIO) -> tuple[_Form, int]:
    file.seek(0)
    header = file.read(16)
    order: Literal["<", ">"] = ">" if header[:2] == b"MM" else "<"
    if header[:2] in (b"II", b"MM") and len(header) >= _SHORTEST_HEADER:
        if struct.unpack_from(f"{order}H", header, 2) == (42,):
            return _Form(order, "H", "I"), struct.unpack_from(f"{order}I", header, 4)[0]
        if len(header) == 16 and struct.unpack_from(f"{order}HHH", header, 2) == (43, 8, 0):
            return _Form(order, "Q", "Q"), struct.unpack_from(f"{order}Q", header, 8)[0]
    what = "is empty (0 bytes)" if not header else "isn't a TIFF file"
    if path.suffix.lower() not in (".tif", ".tiff"):
        what += ", nor of another kind that is read"
    raise InputError(f"{path}: {what}; export the data as TIFF")


@dataclass(frozen=True)
class _Directory:
    """One page directory: tag -> (field type, count, value or offset)."""

    where: str
    file: BinaryIO
    size: int
    form: _Form
    offset: int
    entries: dict[int, tuple[int, int, bytes]]

    def values(self, tag: int, limit: int) -> NDArray[Any]:
        """Return at most `limit` values of `tag`; none if absent or not of a known type."""
        kind, count, value = self.entries.get(tag, (1, 0, b""))
        if kind not in _FIELD_TYPES:
            return np.empty(0, np.uint64)
        dtype = np.dtype(_FIELD_TYPES[kind])
        start, length = 0, dtype.itemsize * count
        if length > len(value):
            start = struct.unpack(f"{self.form.order}{self.form.offset}", value)[0]
            if start + length > self.size:
                raise InputError(f"{self.where}: the values of tag {tag} lie past the end; {_DAMAGED}")
            self.file.seek(start)
            value = self.file.read(dtype.itemsize * min(count, limit))
        return np.frombuffer(value, dtype.newbyteorder(self.form.order), min(count, limit))

    def number(self, tag: int, default: int) -> int:
        values = self.values(tag, 1)
        return int(values.flat[0]) if values.size else default

    def text(self, tag: int) -> str:
        raw = self.values(tag, _MAX_DESCRIPTION_BYTES).tobytes().rstrip(b"\0")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def ratio(self, tag: int) -> Ratio | None:
        values = self.values(tag, 1)
        return Ratio(*values[0].tolist()) if values.shape == (1, 2) else None


def _directories(path: Path, file: BinaryIO, size: int, form: _Form, offset: int) -> Iterator[_Directory]:
    seen: set[int] = set()
    while offset:
        where = f"{path}: page {len(seen)} (counted from 0)"
        if offset in seen:
            raise InputError(f"{where}: the chain of page directories loops back; {_DAMAGED}")
        seen.add(offset)
        file.seek(min(offset, size))
        head = file.read(struct.calcsize(form.order + form.count))
        count = int.from_bytes(head, "little" if form.order == "<" else "big")
        length = count * form.entry.size + struct.calcsize(form.offset)
        if offset + len(head) + length > size:
            raise InputError(f"{where}: its directory lies past the end of the file; {_DAMAGED}")
        if not 0 < count <= _MAX_DIRECTORY_ENTRIES:
            raise InputError(f"{where}: its directory claims {count} entries; {_DAMAGED}")
        body = file.read(length)
        table = body[: -struct.calcsize(form.offset)]
        entries = {tag: (kind, number, value) for tag, kind, number, value in form.entry.iter_unpack(table)}
        if len(entries) < count:  # tifffile would take the first of two, and this the last
            raise InputError(f"{where}: its directory has a tag twice; {_DAMAGED}")
        yield _Directory(where, file, size, form, offset, entries)
        offset = struct.unpack(form.order + form.offset, body[len(table) :])[0]


def _check_page(directory: _Directory) -> Page:
    where = directory.where
    width, height = directory.number(_IMAGE_WIDTH, 0), directory.number(_IMAGE_LENGTH, 0)
    dtype = _check_greyscale(directory)
    depth = max(directory.number(_IMAGE_DEPTH, 1), directory.number(_TILE_DEPTH, 1))
    if depth > 1:
        raise InputError(f"{where}: holds {depth} slices in depth; export it as a plain multipage TIFF")
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise InputError(f"{where}: claims {height}×{width} pixels; {_DAMAGED}")
    if height * width * dtype.itemsize > MAX_SLICE_BYTES:
        raise InputError(f"{where}: a slice of {height}×{width} pixels exceeds 4 GiB; crop or bin the stack")
    return Page(directory.offset, height, width, dtype, _check_segments(directory, height, width, dtype))


def _check_greyscale(directory: _Directory) -> np.dtype[Any]:
    samples = directory.number(_SAMPLES_PER_PIXEL, 1)
    photometric = directory.number(_PHOTOMETRIC, 1)
    if samples != 1 or photometric not in (0, 1):
        what = "a colour palette" if photometric == 3 else f"{samples} values a pixel (colour or channels)"
        raise InputError(f"{directory.where}: has {what}; convert the stack to greyscale")
    bits, kind = directory.number(_BITS_PER_SAMPLE, 1), directory.number(_SAMPLE_FORMAT, 1)
    if (kind, bits) not in _SAMPLE_TYPES:
        raise InputError(
            f"{directory.where}: holds {bits}-bit {_SAMPLE_KINDS.get(kind, 'unknown')} values; "
            "convert the stack to uint8, uint16, int16 or float32"
        )
    return np.dtype(_SAMPLE_TYPES[kind, bits]).newbyteorder(directory.form.order)


@dataclass(frozen=True)
class _Segments:
    """The strips or tiles of a page: the tags that place them, their number, their decoded sizes in bytes."""

    offsets: int
    counts: int
    decoded: NDArray[np.uint64]


def _check_segments(directory: _Directory, height: int, width: int, dtype: np.dtype[Any]) -> int | None:
    """Compare the strips or tiles with the file; return where the pixels start if they are one run."""
    where = directory.where
    tiled = _TILE_OFFSETS in directory.entries
    segments = (_tiles if tiled else _strips)(directory, height, width, dtype.itemsize)
    number, needed = len(segments.decoded), segments.decoded
    compressed = directory.number(_COMPRESSION, 1) != 1
    offsets = directory.values(segments.offsets, number).astype(np.uint64)
    counts = directory.values(segments.counts, number).astype(np.uint64)
    if not counts.size and not compressed:
        counts = needed  # some writers leave the byte counts out where they follow from the size
    if len(offsets) < number or len(counts) < number:
        raise InputError(f"{where}: lists fewer than its {number} strips or tiles; {_DAMAGED}")
    size = np.uint64(directory.size)
    if np.any(offsets > size) or np.any(counts > size - offsets):
        raise InputError(f"{where}: its data run past the end of the file; {_DAMAGED}")
    if np.any(offsets < _SHORTEST_HEADER) or np.any(counts < (1 if compressed else needed)):
        raise InputError(f"{where}: its strips or tiles are missing or cut short; {_DAMAGED}")
    as_stored = directory.number(_FILL_ORDER, 1) == 1 and directory.number(_PREDICTOR, 1) == 1
    if tiled or compressed or not as_stored or not np.array_equal(offsets[1:], offsets[:-1] + needed[:-1]):
        return None
    return int(offsets[0])


def _strips(directory: _Directory, height: int, width: int, itemsize: int) -> _Segments:
    rows = min(directory.number(_ROWS_PER_STRIP, height), height)
    if rows == 0:
        raise InputError(f"{directory.where}: claims strips of no rows; {_DAMAGED}")
    decoded = np.full(math.ceil(height / rows), rows * width * itemsize, np.uint64)
    decoded[-1] = (height - rows * (len(decoded) - 1)) * width * itemsize
    return _Segments(_STRIP_OFFSETS, _STRIP_BYTE_COUNTS, decoded)


def _tiles(directory: _Directory, height: int, width: int, itemsize: int) -> _Segments:
    rows, columns = directory.number(_TILE_LENGTH, 0), directory.number(_TILE_WIDTH, 0)
    if not (0 < rows <= max(height, _MAX_TILE_SIDE) and 0 < columns <= max(width, _MAX_TILE_SIDE)):
        raise InputError(f"{directory.where}: claims tiles of {rows}×{columns} pixels; {_DAMAGED}")
    number = math.ceil(height / rows) * math.ceil(width / columns)
    return _Segments(_TILE_OFFSETS, _TILE_BYTE_COUNTS, np.full(number, rows * columns * itemsize, np.uint64))
