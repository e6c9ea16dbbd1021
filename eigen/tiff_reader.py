"""Decode parts of pages of one open TIFF: only the rows, strips or tiles that are asked for."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TIFF, TiffFile, TiffPage

from eigenfeatures.eigen.closing import Closing
from eigenfeatures.eigen.tiff_pages import Page

# tifffile reports oddities through this logger; what matters here is raised instead.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_JPEG = {6, 7, 33007, 34892}
# Compressions whose data state a size of their own: JPEG, JPEG 2000, JPEG XR, JPEG XL, PNG, WebP and LERC.
_IMAGES = _JPEG | {33003, 33004, 33005, 34712, 22610, 34934, 50002, 52546, 34933, 50001, 34927, 34887}


class TiffReader(Closing):
    """An open TIFF whose pages were checked by `read_layout`.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        The file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._tiff: TiffFile | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, page: Page, top: int, left: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rectangle of the page whose first pixel is (top, left).

        Parameters
        ----------
        page : Page
            From `read_layout` of this file.
        top, left : int
            In pixels, from 0.
        out : ndarray, shape (height, width)
            Receives the pixels.

        Raises
        ------
        Exception
            Of many types, as each codec has its own: the data can't be decoded.
        """
        if page.data is None:
            self._decode(page, top, left, out)
        else:
            self._read_rows(page, page.data, top, left, out)

    def _read_rows(self, page: Page, data: int, top: int, left: int, out: NDArray[Any]) -> None:
        rows = np.empty((len(out), page.width), page.dtype)
        self._file.seek(data + top * page.width * page.dtype.itemsize)
        if self._file.readinto(rows.data) != rows.nbytes:
            raise EOFError("the file ends within the slice")
        out[:] = rows[:, left : left + out.shape[1]]

    def _decode(self, page: Page, top: int, left: int, out: NDArray[Any]) -> None:
        if self._tiff is None:
            self._tiff = TiffFile(self._file, _multifile=False)
        self._file.seek(page.directory)
        tiff_page = TiffPage(self._tiff, index=0)
        size = (tiff_page.imagedepth, tiff_page.imagelength, tiff_page.imagewidth)
        if size != (1, page.height, page.width):
            raise ValueError(f"is {'×'.join(map(str, size))} pixels to tifffile")
        height, width = out.shape
        if tiff_page.is_tiled:
            rows, columns = tiff_page.tilelength, tiff_page.tilewidth
        else:
            rows, columns = min(tiff_page.rowsperstrip, page.height), page.width
        across = -(-page.width // columns)
        for row in range(top // rows, -(-(top + height) // rows)):
            for column in range(left // columns, -(-(left + width) // columns)):
                least = min(rows, page.height - row * rows), min(columns, page.width - column * columns)
                shapes = dict.fromkeys([(rows, columns), least, (least[0], columns)])
                segment = self._decode_segment(tiff_page, row * across + column, list(shapes), out.dtype)
                _check_segment(segment, least, out.dtype)
                _paste(segment, row * rows - top, column * columns - left, out)

    def _decode_segment(
        self, tiff_page: TiffPage, index: int, shapes: Sequence[tuple[int, int]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Decode a strip or tile. An image in it has one of `shapes`: whole, or cut by the page's end."""
        self._file.seek(tiff_page.dataoffsets[index])
        encoded = self._file.read(tiff_page.databytecounts[index])
        if tiff_page.compression in _IMAGES:
            return _decode_image(tiff_page, encoded, shapes, dtype)
        decoded, *_ = tiff_page.decode(encoded, index, jpegtables=tiff_page.jpegtables)
        if decoded is None:
            raise ValueError("a strip or tile is empty")
        return decoded[0, :, :, 0]


def _decode_image(
    tiff_page: TiffPage, encoded: bytes, shapes: Sequence[tuple[int, int]], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Decode an image into an array of the size that the page claims.

    tifffile lets the codec make an array of any size, even gigabytes, and
    breaks its rows anew until they fit. Given an array, codecs compare it with
    what their data state before they decode.
    """
    decode = TIFF.DECOMPRESSORS[tiff_page.compression]
    options = {"tables": tiff_page.jpegtables} if tiff_page.compression in _JPEG else {}
    for shape in shapes:
        image = np.zeros(shape, dtype)
        try:
            decode(encoded, out=image, **options)
        except ValueError as error:
            failure = error
        else:
            return image
    claimed = "×".join(map(str, shapes[0]))
    raise ValueError(f"a strip or tile isn't the image of {claimed} {dtype} that it should be: {failure}")


def _check_segment(segment: NDArray[Any], least: tuple[int, int], dtype: np.dtype[Any]) -> None:
    """Refuse a strip or tile that isn't of the type, or leaves pixels of the page as they were in memory."""
    if segment.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"decodes to {segment.dtype} instead of {dtype}")
    if segment.shape[0] < least[0] or segment.shape[1] < least[1]:
        raise ValueError(f"decodes to {segment.shape[0]}×{segment.shape[1]} instead of {least[0]}×{least[1]}")


def _paste(segment: NDArray[Any], top: int, left: int, out: NDArray[Any]) -> None:
    """Copy the part of `segment` that overlaps `out`, where `segment` starts at (top, left) of `out`."""
    bottom, right = min(top + segment.shape[0], out.shape[0]), min(left + segment.shape[1], out.shape[1])
    first, start = max(top, 0), max(left, 0)
    out[first:bottom, start:right] = segment[first - top : bottom - top, start - left : right - left]
