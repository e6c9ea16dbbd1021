"""TIFFs that a reader must refuse, each a sound file with one thing broken."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile


def sound(
    path: Path, *, bigtiff: bool = False, compression: str | None = None, **options: object
) -> np.ndarray:
    """Write five pages of 20×30 uint16 and return them."""
    images = np.random.default_rng(7).integers(0, 60_000, (5, 20, 30), dtype=np.uint16)
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for image in images:
            writer.write(
                image,
                compression=compression,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                **options,
            )
    return images


def _patch(path: Path, offset: int, form: str, *values: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + form, data, offset, *values)
    path.write_bytes(data)


def _next_directory(path: Path, number: int) -> int:
    """Return where page `number` of a classic TIFF keeps the offset of the next page."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[number]
        return page.offset + 2 + 12 * len(page.tags)


def _tag_value(path: Path, number: int, tag: str) -> int:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[number].tags[tag].valueoffset


def _entry(path: Path, number: int, tag: str) -> int:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[number].tags[tag].offset


def _first_directory_past_the_end(path: Path) -> None:
    sound(path)
    _patch(path, 4, "I", 10_000_000)


def _big_first_directory_past_the_end(path: Path) -> None:
    sound(path, bigtiff=True)
    _patch(path, 8, "Q", 2**63 + 5)


def _next_directory_past_the_end(path: Path) -> None:
    sound(path)
    _patch(path, _next_directory(path, 2), "I", 10_000_000)


def _directory_cut_by_the_end(path: Path) -> None:
    sound(path)
    _patch(path, _next_directory(path, 2), "I", path.stat().st_size - 5)


def _loop(path: Path) -> None:
    sound(path)
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages[1].offset
    _patch(path, _next_directory(path, 4), "I", first)


def _no_page(path: Path) -> None:
    sound(path)
    _patch(path, 4, "I", 0)


def _directory_without_entries(path: Path) -> None:
    sound(path)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[3].offset
    _patch(path, offset, "H", 0)


def _tag_values_past_the_end(path: Path) -> None:
    sound(path, rowsperstrip=4)
    _patch(path, _entry(path, 1, "StripOffsets") + 8, "I", 10_000_000)


def _strip_past_the_end(path: Path) -> None:
    sound(path)
    _patch(path, _tag_value(path, 3, "StripOffsets"), "I", 10_000_000)


def _strip_in_the_header(path: Path) -> None:
    sound(path)
    _patch(path, _tag_value(path, 3, "StripOffsets"), "I", 0)


def _strip_without_bytes(path: Path) -> None:
    sound(path)
    _patch(path, _tag_value(path, 3, "StripByteCounts"), "I", 0)


def _strip_too_short(path: Path) -> None:
    sound(path)
    _patch(path, _tag_value(path, 3, "StripByteCounts"), "I", 20 * 30 * 2 - 1)


def _strips_left_out(path: Path) -> None:
    sound(path, rowsperstrip=4)
    _patch(path, _entry(path, 1, "StripOffsets") + 4, "I", 3)


def _compressed_strip_without_bytes(path: Path) -> None:
    sound(path, compression="zlib")
    _patch(path, _tag_value(path, 3, "StripByteCounts"), "I", 0)


def _tile_past_the_end(path: Path) -> None:
    sound(path, tile=(16, 16))
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[2].tags["TileOffsets"]
    _patch(path, tag.valueoffset + 4, "I", 10_000_000)


def _truncated(path: Path) -> None:
    sound(path)
    path.write_bytes(path.read_bytes()[:-700])


def _truncated_imagej(path: Path) -> None:
    """Above 4 GB ImageJ writes one directory for all slices; here the last of them is missing."""
    imagej_virtual(path, np.zeros((6, 20, 30), np.uint16))
    path.write_bytes(path.read_bytes()[:-100])


def _imagej_with_too_few_pages(path: Path) -> None:
    images = np.zeros((5, 20, 30), np.uint8)
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(images):
            text = "ImageJ=1.53t\nimages=9\nslices=9\n" if number == 0 else None
            writer.write(image, description=text, metadata=None, contiguous=False)


def _huge_claim(path: Path) -> None:
    sound(path, compression="zlib")
    _patch(path, _entry(path, 1, "ImageWidth") + 2, "HII", 4, 1, 2**31)


def _huge_tiles(path: Path) -> None:
    sound(path, tile=(16, 16), compression="zlib")
    _patch(path, _entry(path, 1, "TileWidth") + 2, "HII", 4, 1, 2**31)


def _empty_tiles(path: Path) -> None:
    sound(path, tile=(16, 16))
    _patch(path, _entry(path, 1, "TileWidth") + 2, "HII", 4, 1, 0)


def _strips_of_no_rows(path: Path) -> None:
    sound(path)
    _patch(path, _entry(path, 1, "RowsPerStrip") + 2, "HII", 4, 1, 0)


def _slice_of_six_gigabytes(path: Path) -> None:
    sound(path, compression="zlib", rowsperstrip=20)
    for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
        _patch(path, _entry(path, 0, tag) + 2, "HII", 4, 1, 57_000)


def _width_twice(path: Path) -> None:
    """State another width where the unit of the resolution was: tifffile takes the first of both."""
    sound(path, compression="zlib")
    _patch(path, _entry(path, 1, "ResolutionUnit"), "HHII", 256, 4, 1, 4)


def _text(path: Path) -> None:
    path.write_text("II* not really a TIFF\n")


def _zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def _colour(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((3, 20, 30, 3), np.uint8), photometric="rgb")


def _palette(path: Path) -> None:
    tifffile.imwrite(
        path, np.zeros((20, 30), np.uint8), photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    )


def _imagej_channels(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 2, 20, 30), np.uint8), imagej=True, metadata={"axes": "ZCYX"})


def _channels_only(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 20, 30), np.uint8), imagej=True)


def _ome_channels(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 2, 20, 30), np.uint8), ome=True, metadata={"axes": "ZCYX"})


def _imagej_time_series_of_volumes(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 2, 20, 30), np.uint8), imagej=True, metadata={"axes": "TZYX"})


def _tifffile_four_axes(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 2, 20, 30), np.uint8), photometric="minisblack")


def _two_ome_images(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(np.zeros((2, 20, 30), np.uint8), photometric="minisblack")
        writer.write(np.zeros((3, 20, 30), np.uint8), photometric="minisblack")


def _mixed_sizes(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for width in (30, 30, 31):
            writer.write(np.zeros((20, width), np.uint8), metadata=None)


def _mixed_dtypes(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for dtype in (np.uint8, np.uint8, np.uint16):
            writer.write(np.zeros((20, 30), dtype), metadata=None)


def _volumetric(**options: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        images = np.zeros((16, 64, 64), np.uint16)
        tifffile.imwrite(path, images, volumetric=True, metadata=None, photometric="minisblack", **options)

    return make


def _of_dtype(dtype: type) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tifffile.imwrite(path, np.zeros((2, 20, 30), dtype), photometric="minisblack")

    return make


def imagej_virtual(path: Path, images: np.ndarray) -> None:
    """Write an ImageJ stack with one page directory, whose slices follow one another."""
    tifffile.imwrite(path, images, imagej=True, truncate=True, metadata={"axes": "ZYX"})


# What is broken -> (how to make it, what the message must say besides the file's name).
REFUSED_ON_OPENING: dict[str, tuple[Callable[[Path], None], str]] = {
    "first directory past the end": (_first_directory_past_the_end, "page 0 .* past the end"),
    "BigTIFF, first directory past the end": (_big_first_directory_past_the_end, "page 0 .* past the end"),
    "next directory past the end": (_next_directory_past_the_end, "page 3 .* past the end"),
    "directory cut by the end": (_directory_cut_by_the_end, "page 3 .* past the end"),
    "loop": (_loop, "loops"),
    "no page": (_no_page, "no page"),
    "directory without entries": (_directory_without_entries, "page 3 .* 0 entries"),
    "tag values past the end": (_tag_values_past_the_end, "page 1 .* tag 273 lie past the end"),
    "strip past the end": (_strip_past_the_end, "page 3 .* past the end"),
    "strip in the header": (_strip_in_the_header, "page 3 .* missing or cut short"),
    "strip without bytes": (_strip_without_bytes, "page 3 .* cut short"),
    "strip too short": (_strip_too_short, "page 3 .* cut short"),
    "strips left out": (_strips_left_out, "page 1 .* fewer than its 5"),
    "compressed strip without bytes": (_compressed_strip_without_bytes, "page 3 .* cut short"),
    "tile past the end": (_tile_past_the_end, "page 2 .* past the end"),
    "truncated": (_truncated, "past the end.* truncated"),
    "ImageJ without its last slice": (_truncated_imagej, "truncated"),
    "ImageJ with too few pages": (_imagej_with_too_few_pages, "declares 9 slices and holds 5"),
    "2^31 pixels wide": (_huge_claim, "page 1 .*2147483648 pixels"),
    "tiles of 2^31 pixels": (_huge_tiles, "page 1 .*2147483648 pixels"),
    "tiles of no pixels": (_empty_tiles, "page 1 .*tiles of 16×0 pixels"),
    "strips of no rows": (_strips_of_no_rows, "page 1 .*strips of no rows"),
    "width twice": (_width_twice, "page 1 .*a tag twice"),
    "slice above 4 GiB": (_slice_of_six_gigabytes, "4 GiB"),
    "text named .tif": (_text, "isn't a TIFF"),
    "zero bytes": (_zero_bytes, "empty"),
    "RGB": (_colour, "greyscale"),
    "palette": (_palette, "palette.* greyscale"),
    "ImageJ channels": (_imagej_channels, "hyperstack of 2 channels × 4 slices"),
    "OME channels": (_ome_channels, "hyperstack of 2 channels × 4 slices"),
    "channels only": (_channels_only, "declares 4 channels; .* axes 'ZYX'"),
    "ImageJ time series": (_imagej_time_series_of_volumes, "hyperstack of 4 frames × 2 slices"),
    "tifffile with four axes": (_tifffile_four_axes, "hyperstack of 4"),
    "two OME images": (_two_ome_images, "2 OME images"),
    "mixed sizes": (_mixed_sizes, "page 2 .* 20×31 uint8 but page 0 is 20×30"),
    "mixed dtypes": (_mixed_dtypes, "page 2 .* uint16 but page 0 is 20×30 uint8"),
    "a volume in one page": (_volumetric(), "page 0 .*16 slices in depth"),
    "a volume in tiles": (_volumetric(tile=(16, 16, 16), compression="zlib"), "page 0 .*16 slices in depth"),
    "bool": (_of_dtype(np.bool_), "1-bit .* convert"),
    "int8": (_of_dtype(np.int8), "8-bit signed integer .* convert"),
    "uint32": (_of_dtype(np.uint32), "32-bit unsigned integer .* convert"),
    "float16": (_of_dtype(np.float16), "16-bit float .* convert"),
    "float64": (_of_dtype(np.float64), "64-bit float .* convert"),
    "complex64": (_of_dtype(np.complex64), "64-bit complex .* convert"),
}
