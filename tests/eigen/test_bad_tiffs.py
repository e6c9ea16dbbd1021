from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from broken_tiffs import REFUSED_ON_OPENING, sound
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.tiff_pages import read_layout
from eigenfeatures.eigen.tiff_reader import TiffReader
from eigenfeatures.eigen.tiff_stacks import open_stack


@pytest.mark.parametrize("case", REFUSED_ON_OPENING)
def test_a_bad_file_is_refused_with_one_line(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, reason = REFUSED_ON_OPENING[case]
    path = tmp_path / "bad stack.tif"
    make(path)
    capfd.readouterr()
    with pytest.raises(InputError, match=reason) as refusal:
        open_stack(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message  # after it, what to do
    assert capfd.readouterr() == ("", "")


def test_the_sound_file_behind_the_broken_ones_is_read(tmp_path: Path) -> None:
    images = sound(tmp_path / "sound.tif")
    with open_stack(tmp_path / "sound.tif") as stack:
        np.testing.assert_array_equal(stack.read(range(5)), images)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits"])
def test_corrupt_compressed_data_name_the_slice(
    tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stack.tif"
    images = sound(path, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        start, length = tiff.pages[3].dataoffsets[0], tiff.pages[3].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + length] = b"\x80" * length  # to PackBits a run of nothing
    path.write_bytes(data)
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([2, 4]), images[[2, 4]])
        with pytest.raises(InputError, match=r"stack\.tif: slice 3 \(counted from 0\) can't be read"):
            stack.read([2, 3])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_slice(tmp_path: Path, value: float) -> None:
    images = random_images(np.float32)
    images[4, 10, 20] = value
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack")
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([3]), images[[3]])
        np.testing.assert_array_equal(stack.read([4], Region(0, 0, 10, 45)), images[[4], :10])
        with pytest.raises(InputError, match=r"stack\.tif: slice 4 \(counted from 0\) holds NaN or infinite"):
            stack.read([3, 4])


def test_random_damage_is_refused_or_read_but_never_escapes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of 400 files with a few bytes changed, each is read or refused with one line, in bounded time."""
    rng = np.random.default_rng(11)
    originals = []
    for options in ({}, {"bigtiff": True}, {"compression": "lzw", "rowsperstrip": 6}, {"tile": (16, 16)}):
        sound(tmp_path / "sound.tif", **options)
        originals.append((tmp_path / "sound.tif").read_bytes())
    path = tmp_path / "damaged.tif"
    refusals = []
    for trial in range(400):
        data = np.frombuffer(originals[trial % 4], np.uint8).copy()
        data[rng.integers(0, len(data) if trial % 8 < 4 else 300, 3)] = rng.choice([0, 1, 127, 255], 3)
        path.write_bytes(data.tobytes())
        try:
            with open_stack(path) as stack:
                stack.read(range(stack.shape[0]))
        except InputError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 350
    assert not any("\n" in message for message in refusals)
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_takes_the_page_for_another_size_leaves_no_pixel_as_it_was(tmp_path: Path) -> None:
    """Whatever made both readers of the directory differ, memory is never shown in place of pixels."""
    sound(tmp_path / "stack.tif", compression="zlib")
    page = read_layout(tmp_path / "stack.tif").pages[0]
    for claimed in (replace(page, width=64), replace(page, height=24)):
        out = np.empty((claimed.height, claimed.width), np.uint16)
        with (
            TiffReader(tmp_path / "stack.tif") as reader,
            pytest.raises(ValueError, match="is 1×20×30 pixels to tifffile"),
        ):
            reader.read(claimed, 0, 0, out)


@pytest.mark.parametrize("options", [{"rowsperstrip": 6}, {"tile": (16, 16)}])
def test_a_strip_or_tile_that_decodes_to_less_is_refused(
    tmp_path: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stack.tif"
    sound(path, compression="zlib", **options)
    whole = TiffReader._decode_segment
    monkeypatch.setattr(TiffReader, "_decode_segment", lambda *arguments: whole(*arguments)[:, :-9])
    with (
        open_stack(path) as stack,
        pytest.raises(InputError, match=r"slice 0 .*decodes to \d+×\d+ inst"),
    ):
        stack.read([0])
