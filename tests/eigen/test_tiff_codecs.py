"""Strips and tiles that are images of a codec, which state a size of their own."""

import struct
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.tiff_stacks import open_stack

CODECS = ("jpeg", "jpeg2000", "jpegxl", "jpegxr", "png", "lerc")
# Tag -> what ImageWidth, ImageLength, RowsPerStrip and the length of the strip get in `_claim`.
_WIDTH, _LENGTH, _ROWS, _BYTES = 256, 257, 278, 279


def _claim(path: Path, height: int, width: int, data: bytes | None = None) -> None:
    """Change what the first page says of its size and, if given, its only strip."""
    values = {_WIDTH: width, _LENGTH: height, _ROWS: height}
    if data is not None:
        values[_BYTES] = len(data)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        for tag, value in values.items():
            struct.pack_into("<HII", content, page.tags[tag].offset + 2, 4, 1, value)
        start = page.dataoffsets[0]
    if data is not None:
        content[start:] = data
    path.write_bytes(content)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"rowsperstrip": 70}, {"tile": (32, 16)}])
def test_images_are_read_as_by_tifffile(tmp_path: Path, codec: str, options: dict[str, object]) -> None:
    path = tmp_path / "stack.tif"
    images = np.random.default_rng(3).integers(0, 255, (2, 70, 53), dtype=np.uint8)
    tifffile.imwrite(path, images, photometric="minisblack", compression=codec, **options)
    with open_stack(path) as stack:
        read = stack.read([0, 1])
        np.testing.assert_array_equal(stack.read([1], Region(31, 15, 20, 20)), read[1:, 31:51, 15:35])
    np.testing.assert_array_equal(read, tifffile.imread(path))
    if codec != "jpeg":
        np.testing.assert_array_equal(read, images)


def test_a_last_strip_may_be_coded_with_the_rows_of_a_whole_one(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 255, (70, 53), dtype=np.uint8)
    path = tmp_path / "stack.tif"
    strips = [np.pad(images[top : top + 32], ((0, max(0, top + 32 - 70)), (0, 0))) for top in (0, 32, 64)]
    encoded = iter([imagecodecs.png_encode(strip) for strip in strips])
    tifffile.imwrite(path, encoded, shape=(70, 53), dtype=np.uint8, rowsperstrip=32, compression="png")
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([0])[0], images)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("claimed", [(32, 64), (16, 64), (8, 16), (64, 16), (128, 32)])
def test_an_image_of_another_size_is_refused(tmp_path: Path, codec: str, claimed: tuple[int, int]) -> None:
    """Its rows were broken anew until they fitted."""
    path = tmp_path / "stack.tif"
    image = np.random.default_rng(3).integers(0, 255, (64, 32), dtype=np.uint8)
    tifffile.imwrite(path, image, photometric="minisblack", compression=codec, rowsperstrip=64)
    _claim(path, *claimed)
    reason = rf"slice 0 .* isn't the image of {claimed[0]}×{claimed[1]} uint8 that it should be"
    with open_stack(path) as stack, pytest.raises(InputError, match=reason) as refusal:
        stack.read([0])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("codec", ["lerc", "jpegxl", "png"])
def test_a_small_file_gets_no_more_memory_than_its_page_claims(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "stack.tif"
    data = getattr(imagecodecs, f"{codec}_encode")(np.zeros((3000, 3000), np.uint8))
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), compression=codec, rowsperstrip=8, metadata=None)
    _claim(path, 8, 8, data)
    with open_stack(path) as stack:
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=r"slice 0 .* isn't the image of 8×8"):
                stack.read([0])
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
