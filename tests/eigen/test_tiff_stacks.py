import logging
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from broken_tiffs import imagej_virtual, sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_process import printed
from random_volumes import DTYPES, SHAPE, random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.tiff_stacks import open_stack

FORMATS = {
    "plain": {},
    "no metadata": {"metadata": None},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian BigTIFF": {"byteorder": ">", "bigtiff": True},
    "OME": {"ome": True, "metadata": {"axes": "ZYX"}},
    "one directory": {"truncate": True},
    "strips": {"rowsperstrip": 5},
    "zlib": {"compression": "zlib"},
    "zlib strips": {"compression": "zlib", "rowsperstrip": 4},
    "zlib big-endian": {"compression": "zlib", "byteorder": ">"},
    "lzw": {"compression": "lzw"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "predictor": {"compression": "zlib", "predictor": True},
    "predictor big-endian": {"compression": "lzw", "predictor": True, "byteorder": ">"},
    "tiles": {"tile": (16, 32)},
    "tiles big-endian": {"tile": (16, 16), "byteorder": ">"},
    "compressed tiles": {"tile": (32, 16), "compression": "zlib", "predictor": True},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_back_what_was_written(tmp_path: Path, form: str, dtype: type) -> None:
    images = random_images(dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack", **FORMATS[form])
    with open_stack(path) as stack:
        assert stack.shape == SHAPE
        assert stack.dtype == np.dtype(dtype)
        assert stack.files == (path,)
        read = stack.read(range(SHAPE[0]))
        part = stack.read([6, 0, 3, 3], Region(9, 14, 20, 25))
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(part, images[[6, 0, 3, 3], 9:29, 14:39])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_imagej(tmp_path: Path, dtype: type, axes: str) -> None:
    images = random_images(dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, imagej=True, metadata={"axes": axes})
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read(range(SHAPE[0])), images)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_volume_whose_axes_were_not_given(tmp_path: Path, kind: str) -> None:
    """Its slices are then called channels by tifffile; four or fewer are refused (see broken_tiffs)."""
    images = random_images(np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack", **{kind: True})
    assert (b"channels=7" if kind == "imagej" else b'SizeC="7"') in path.read_bytes()
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read(range(7)), images)


def test_imagej_with_one_directory_for_all_slices(tmp_path: Path) -> None:
    images = random_images(np.uint16)
    path = tmp_path / "stack.tif"
    imagej_virtual(path, images)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1  # the case at hand: ImageJ writes this above 4 GB
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([5, 2], Region(3, 4, 10, 11)), images[[5, 2], 3:13, 4:15])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_region_of_any_slices_equals_numpy_indexing(tmp_path: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["strips", "zlib strips", "compressed tiles", "plain"]))
    path = tmp_path / f"{form}.tif"
    images = random_images(np.uint16)
    if not path.exists():
        tifffile.imwrite(path, images, photometric="minisblack", **FORMATS[form])
    top, left = data.draw(st.integers(0, SHAPE[1] - 1)), data.draw(st.integers(0, SHAPE[2] - 1))
    height, width = data.draw(st.integers(1, SHAPE[1] - top)), data.draw(st.integers(1, SHAPE[2] - left))
    indices = data.draw(st.lists(st.integers(0, SHAPE[0] - 1), max_size=4))
    with open_stack(path) as stack:
        read = stack.read(indices, Region(top, left, height, width))
    np.testing.assert_array_equal(read, images[indices][:, top : top + height, left : left + width])


@pytest.mark.parametrize("form", ["plain", "zlib strips"])
def test_threads_may_share_a_stack(tmp_path: Path, form: str) -> None:
    images = random_images(np.uint16, (40, 37, 45))
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack", **FORMATS[form])
    order = np.random.default_rng(1).integers(0, 40, 400)
    with open_stack(path) as stack, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: stack.read([index])[0], order))
    np.testing.assert_array_equal(np.stack(read), images[order])


# Folders


def _write_slices(folder: Path, images: np.ndarray) -> None:
    folder.mkdir()
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"s{number}.tif", image)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    images = random_images(np.int16, (12, 20, 30))
    _write_slices(tmp_path / "folder", images)
    (tmp_path / "folder" / ".hidden.tif").write_text("ignored")
    (tmp_path / "folder" / "notes.txt").write_text("ignored")
    with open_stack(tmp_path / "folder") as stack:
        assert [file.name for file in stack.files] == [f"s{number}.tif" for number in range(12)]
        np.testing.assert_array_equal(stack.read(range(12)), images)
        np.testing.assert_array_equal(stack.read([11, 2], Region(5, 6, 7, 8)), images[[11, 2], 5:12, 6:14])


def test_numbers_that_a_folder_lacks_are_told(tmp_path: Path) -> None:
    _write_slices(tmp_path / "folder", random_images(np.uint8, (20, 8, 9)))
    with open_stack(tmp_path / "folder") as stack:
        assert stack.notes == ()
    for number in (3, 4, 9):
        (tmp_path / "folder" / f"s{number}.tif").unlink()
    with open_stack(tmp_path / "folder") as stack:
        assert stack.shape[0] == 17
        said = f"{tmp_path / 'folder'}: its numbered slices lack 3 (3, 4, 9); the others are read on"
        assert stack.notes == (said,)
    (tmp_path / "folder" / "s13.tif").unlink()
    for number in (11, 12):
        (tmp_path / "folder" / f"s{number}.tif").unlink()
    with open_stack(tmp_path / "folder") as stack:
        assert "lack 6 (3, 4, 9, 11, 12, …);" in stack.notes[0]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (np.zeros((20, 31), np.int16), r"s7\.tif is 20×31 int16 but s0\.tif is 20×30 int16"),
        (np.zeros((20, 30), np.uint8), r"s7\.tif is 20×30 uint8 but s0\.tif is 20×30 int16"),
        (np.zeros((3, 20, 30), np.int16), r"s7\.tif: holds 3 slices beside files of one"),
    ],
)
def test_the_odd_file_of_a_folder_is_named(tmp_path: Path, odd: np.ndarray, reason: str) -> None:
    _write_slices(tmp_path / "folder", np.zeros((9, 20, 30), np.int16))
    tifffile.imwrite(tmp_path / "folder" / "s7.tif", odd, photometric="minisblack")
    with pytest.raises(InputError, match=reason):
        open_stack(tmp_path / "folder")


def test_a_damaged_slice_of_a_folder_is_named_when_read(tmp_path: Path) -> None:
    images = random_images(np.float32, (3, 20, 30))
    images[1, 2, 3] = np.nan
    _write_slices(tmp_path / "folder", images)
    with (
        open_stack(tmp_path / "folder") as stack,
        pytest.raises(InputError, match=r"s1\.tif: slice 1 .* holds NaN"),
    ):
        stack.read(range(3))


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tif: can't be read: No such file"):
        open_stack(tmp_path / "nowhere.tif")
    with pytest.raises(InputError, match="holds no TIFF"):
        open_stack(tmp_path)


# Laziness


@pytest.mark.parametrize("bigtiff", [False, True], ids=["ImageJ", "BigTIFF"])
def test_a_stack_larger_than_memory_is_read_slice_by_slice(tmp_path: Path, bigtiff: bool) -> None:
    """Forty sparse gigabytes: if more than the slices were read, memory or time would tell."""
    slices, side = 10_000, 2048
    path = tmp_path / "huge.tif"
    text = f"ImageJ=1.53t\nimages={slices}\nslices={slices}\n"
    page = np.zeros((side, side), np.uint8)
    tifffile.imwrite(path, page, description=text, metadata=None, bigtiff=bigtiff)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    os.truncate(path, start + slices * page.nbytes)
    last = np.random.default_rng(5).integers(0, 255, (side, side), dtype=np.uint8)
    with path.open("r+b") as file:
        file.seek(start + (slices - 1) * page.nbytes)
        file.write(last.tobytes())
    assert path.stat().st_size > 40e9
    tracemalloc.start()
    with open_stack(path) as stack:
        assert stack.shape == (slices, side, side)
        read = stack.read([slices - 1, 0])
        part = stack.read([slices - 1], Region(2000, 100, 20, 30))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 2 * page.nbytes < peak < 5 * page.nbytes
    np.testing.assert_array_equal(read, np.stack([last, page]))
    np.testing.assert_array_equal(part[0], last[2000:2020, 100:130])


def test_only_the_strips_of_the_region_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    images = sound(path, compression="zlib", rowsperstrip=5)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 8)
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([0], Region(2, 3, 13, 9)), images[[0], 2:15, 3:12])
        with pytest.raises(InputError, match="slice 0"):
            stack.read([0], Region(2, 3, 14, 9))


# Real data


@pytest.mark.parametrize("name", ["cement.tif", "fibres.tif", "nerve.tif"])
def test_real_stacks_equal_tifffile(ct_data: Path, name: str) -> None:
    expected = tifffile.imread(ct_data / name)
    with open_stack(ct_data / name) as stack:
        assert stack.voxel_size is None
        np.testing.assert_array_equal(stack.read(range(len(expected))), expected)
        np.testing.assert_array_equal(
            stack.read([100, 3], Region(11, 60, 64, 32)), expected[[100, 3], 11:75, 60:92]
        )


def test_the_real_folder_equals_its_files(ct_data: Path) -> None:
    with open_stack(ct_data / "polymer") as stack:
        assert stack.shape == (128, 128, 128)
        for index, file in enumerate(stack.files):
            assert file.name == f"slice_{index:04d}.tif"
            np.testing.assert_array_equal(stack.read([index])[0], tifffile.imread(file))


def test_odd_but_valid_files(odd_tiffs: Path) -> None:
    for name, shape, dtype in (
        ("float32_imagej_600x600.tif", (1, 600, 600), np.float32),
        ("ifds_after_data.tif", (100, 100, 100), np.uint8),
    ):
        with open_stack(odd_tiffs / name) as stack:
            assert stack.shape == shape
            assert stack.dtype == dtype
            np.testing.assert_array_equal(
                stack.read(range(shape[0])), tifffile.imread(odd_tiffs / name).reshape(shape)
            )


def test_tifffile_is_quiet() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("tifffile").handlers)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_job_may_have_more_stacks_than_a_process_may_have_files_open(
    tmp_path: Path, compression: str | None
) -> None:
    """The limit is set to 200 in a process of its own, which opens 300 stacks and reads each."""
    images = sound(tmp_path / "stack.tif", compression=compression)
    for number in range(300):
        os.link(tmp_path / "stack.tif", tmp_path / f"{number}.tif")
    pytest.importorskip("resource")
    code = """
import contextlib, os, resource, sys
from pathlib import Path
from eigenfeatures.eigen.tiff_stacks import open_stack
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
paths = [Path(sys.argv[1]) / f"{number}.tif" for number in range(300)]
for _ in range(2):  # those that were closed leave their places to others
    with contextlib.ExitStack() as opened:
        stacks = [opened.enter_context(open_stack(path)) for path in paths]
        print(sum(int(stack.read([3]).sum()) for stack in stacks), len(os.listdir("/dev/fd")))
"""
    first, most, second, again = printed(code, tmp_path)
    assert first == second == 300 * int(images[3].sum())
    assert 100 < most == again < 120
