import logging
import os
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from broken_tiffs import REFUSED_ON_OPENING, imagej_virtual, sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize, open_stack

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)
SHAPE = (7, 37, 45)


def _images(dtype: type, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(3)
    if dtype is np.float32:
        return rng.normal(3e4, 1e3, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


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
    images = _images(dtype)
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
    images = _images(dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, imagej=True, metadata={"axes": axes})
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read(range(SHAPE[0])), images)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_volume_whose_axes_were_not_given(tmp_path: Path, kind: str) -> None:
    """Its slices are then called channels by tifffile; four or fewer are refused (see broken_tiffs)."""
    images = _images(np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack", **{kind: True})
    assert (b"channels=7" if kind == "imagej" else b'SizeC="7"') in path.read_bytes()
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read(range(7)), images)


def test_imagej_with_one_directory_for_all_slices(tmp_path: Path) -> None:
    images = _images(np.uint16)
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
    images = _images(np.uint16)
    if not path.exists():
        tifffile.imwrite(path, images, photometric="minisblack", **FORMATS[form])
    top, left = data.draw(st.integers(0, SHAPE[1] - 1)), data.draw(st.integers(0, SHAPE[2] - 1))
    height, width = data.draw(st.integers(1, SHAPE[1] - top)), data.draw(st.integers(1, SHAPE[2] - left))
    indices = data.draw(st.lists(st.integers(0, SHAPE[0] - 1), max_size=4))
    with open_stack(path) as stack:
        read = stack.read(indices, Region(top, left, height, width))
    np.testing.assert_array_equal(read, images[indices][:, top : top + height, left : left + width])


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
    images = _images(np.float32)
    images[4, 10, 20] = value
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack")
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.read([3]), images[[3]])
        np.testing.assert_array_equal(stack.read([4], Region(0, 0, 10, 45)), images[[4], :10])
        with pytest.raises(InputError, match=r"stack\.tif: slice 4 \(counted from 0\) holds NaN or infinite"):
            stack.read([3, 4])


@pytest.mark.parametrize("form", ["plain", "zlib strips"])
def test_threads_may_share_a_stack(tmp_path: Path, form: str) -> None:
    images = _images(np.uint16, (40, 37, 45))
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images, photometric="minisblack", **FORMATS[form])
    order = np.random.default_rng(1).integers(0, 40, 400)
    with open_stack(path) as stack, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: stack.read([index])[0], order))
    np.testing.assert_array_equal(np.stack(read), images[order])


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


def test_regions_and_slices_outside_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, _images(np.uint8), photometric="minisblack")
    with open_stack(path) as stack:
        with pytest.raises(InputError, match="region 30,0,8,8 leaves its 37×45 slices"):
            stack.read([0], Region(30, 0, 8, 8))
        for index in (-1, 7):
            with pytest.raises(IndexError, match=f"no slice {index} in a stack of 7"):
                stack.read([index])


def test_region_from_text() -> None:
    assert Region.parse("1, 2,30,40") == Region(1, 2, 30, 40)
    assert str(Region(1, 2, 30, 40)) == "1,2,30,40"
    assert Region(10, 20, 31, 40).centre(10, 10) == Region(20, 35, 10, 10)
    for text in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3.5,4", "-1,0,3,3", "0,0,0,5"):
        with pytest.raises(InputError, match="region"):
            Region.parse(text)


# Folders


def _write_slices(folder: Path, images: np.ndarray) -> None:
    folder.mkdir()
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"s{number}.tif", image)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    images = _images(np.int16, (12, 20, 30))
    _write_slices(tmp_path / "folder", images)
    (tmp_path / "folder" / ".hidden.tif").write_text("ignored")
    (tmp_path / "folder" / "notes.txt").write_text("ignored")
    with open_stack(tmp_path / "folder") as stack:
        assert [file.name for file in stack.files] == [f"s{number}.tif" for number in range(12)]
        np.testing.assert_array_equal(stack.read(range(12)), images)
        np.testing.assert_array_equal(stack.read([11, 2], Region(5, 6, 7, 8)), images[[11, 2], 5:12, 6:14])


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
    images = _images(np.float32, (3, 20, 30))
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


# OME-TIFF and its references to other files


def _ome(slices: int, body: str) -> str:
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" '
        f'SizeC="1" SizeT="1" SizeZ="{slices}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{body}</Pixels>'
        "</Image></OME>"
    )


def _plane(z: int, file_name: str) -> str:
    """Return the element that says: slice z is the first page of that file."""
    uuid = f'<UUID FileName="{file_name}">urn:uuid:{z + 2}</UUID>'
    return f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">{uuid}</TiffData>'


def _write_ome(path: Path, images: np.ndarray, xml: str) -> None:
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(images):
            writer.write(image, description=xml if number == 0 else None, metadata=None, contiguous=False)


def test_ome_order_of_pages(tmp_path: Path) -> None:
    images = _images(np.uint8, (4, 20, 30))
    order = [2, 0, 3, 1]
    body = "".join(f'<TiffData FirstZ="{z}" IFD="{page}" PlaneCount="1"/>' for z, page in enumerate(order))
    _write_ome(tmp_path / "a.ome.tif", images, _ome(4, body))
    with open_stack(tmp_path / "a.ome.tif") as stack:
        np.testing.assert_array_equal(stack.read(range(4)), images[order])


def test_a_path_inside_a_file_is_never_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, np.full((20, 30), 99, np.uint8))
    body = "".join(_plane(z, "../secret.tif") for z in range(2))
    hostile = tmp_path / "data" / "a.ome.tif"
    opened: list[str] = []
    real_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(self.name) or real_open(self, *a, **k)
    )
    images = _images(np.uint8, (2, 20, 30))
    _write_ome(hostile, images, _ome(2, body))
    with open_stack(hostile) as stack:
        np.testing.assert_array_equal(stack.read([0, 1]), images)
    _write_ome(hostile, images[:1], _ome(2, body))
    with pytest.raises(InputError, match=r"declares 2 slices and holds 1; .* one part of a set"):
        open_stack(hostile)
    assert set(opened) == {"a.ome.tif"}


def test_a_folder_of_the_files_of_one_ome_set(tmp_path: Path) -> None:
    images = _images(np.uint8, (3, 20, 30))
    folder = tmp_path / "set"
    folder.mkdir()
    body = "".join(_plane(z, f"z{z}.ome.tif") for z in range(3))
    for z in range(3):
        _write_ome(folder / f"z{z}.ome.tif", images[z : z + 1], _ome(3, body))
    with open_stack(folder) as stack:
        np.testing.assert_array_equal(stack.read(range(3)), images)


# Each entity is ten of the one before: a billion in the end.
_ENTITIES = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1\nimages=" + "9" * 5000,
        "ImageJ=1\nslices=-3\nspacing=\nunit=um\n=\n",
        '{"shape": [1e400, 20, 30]}',
        '{"shape": ' + "[" * 100_000,
        '{"shape": {"a": 1}}',
        "<OME",
        '<?xml version="1.0" encoding="none-such"?><OME></OME>',
        f"<!DOCTYPE a [{_ENTITIES}]><OME>&a9;</OME>",
        '<OME><Image><Pixels SizeC="1" SizeZ="x" PhysicalSizeX=""><TiffData IFD="9"/></Pixels></Image></OME>',
    ],
)
def test_a_description_that_makes_no_sense_counts_as_none(tmp_path: Path, description: str) -> None:
    path = tmp_path / "stack.tif"
    images = _images(np.uint8, (3, 20, 30))
    _write_ome(path, images, description)
    with open_stack(path) as stack:
        assert stack.voxel_size is None
        np.testing.assert_array_equal(stack.read(range(3)), images)


def test_an_endless_ome_declaration_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    _write_ome(path, _images(np.uint8, (3, 20, 30)), _ome(10**14, '<TiffData PlaneCount="99999999999999"/>'))
    with pytest.raises(InputError, match="declares 100000000000000 slices and holds 3"):
        open_stack(path)


# Voxel size


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("micron", 1),
        ("um", 1),
        ("µm", 1),
        (r"\u00B5m", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("inch", 25400),
    ],
)
def test_imagej_voxel_size(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "stack.tif"
    text = f"ImageJ=1.53t\nimages=3\nslices=3\nunit={unit}\nspacing=3.5\n".encode()
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            description = text if number == 0 else None
            writer.write(
                np.zeros((20, 30), np.uint8), description=description, metadata=None, resolution=(0.5, 0.25)
            )
    with open_stack(path) as stack:
        assert stack.voxel_size is not None
        measured = (stack.voxel_size.z, stack.voxel_size.y, stack.voxel_size.x)
    np.testing.assert_allclose(measured, (3.5 * factor, 4 * factor, 2 * factor), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # CT voxels are cubes unless the file says otherwise
        ({"resolution": (0.5, 0.5), "metadata": {"unit": "um"}}, VoxelSize(2, 2, 2)),
        ({"resolution": (1, 1), "metadata": {"unit": "um"}}, None),
        ({"resolution": (0.5, 0.5), "metadata": {"unit": "pixel", "spacing": 2}}, None),
        ({"resolution": (0.5, 0.5)}, None),
        ({"metadata": {"unit": "um", "spacing": 2}}, None),
        ({"resolution": (0.5, 0.5), "metadata": {"unit": "um", "spacing": "nan"}}, None),
        ({"resolution": (0.5, 0.5), "metadata": {"unit": "um", "spacing": 0}}, None),
    ],
)
def test_imagej_voxel_size_that_is_left_out(
    tmp_path: Path, options: dict[str, object], expected: VoxelSize | None
) -> None:
    path = tmp_path / "stack.tif"
    options = options | {"metadata": {"axes": "ZYX"} | options.get("metadata", {})}
    tifffile.imwrite(path, np.zeros((3, 20, 30), np.uint8), imagej=True, **options)
    with open_stack(path) as stack:
        assert stack.voxel_size == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (
            {"PhysicalSizeX": 2.0, "PhysicalSizeY": 3.0, "PhysicalSizeZ": 4.0},
            VoxelSize(4, 3, 2),
        ),
        (
            {f"PhysicalSize{axis}": 500.0 for axis in "XYZ"}
            | {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"},
            VoxelSize(0.5, 0.5, 0.5),
        ),
        (
            {f"PhysicalSize{axis}": 2.0 for axis in "XYZ"}
            | {f"PhysicalSize{axis}Unit": "pixel" for axis in "XYZ"},
            None,
        ),
        ({"PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0}, None),
        ({}, None),
    ],
)
def test_ome_voxel_size(tmp_path: Path, metadata: dict[str, object], expected: VoxelSize | None) -> None:
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((3, 20, 30), np.uint8),
        ome=True,
        photometric="minisblack",
        metadata={"axes": "ZYX"} | metadata,
    )
    with open_stack(path) as stack:
        assert stack.voxel_size == expected


def test_a_resolution_for_printers_is_no_voxel_size(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), resolution=(72, 72), resolutionunit="INCH")
    with open_stack(path) as stack:
        assert stack.voxel_size is None


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
    began = time.perf_counter()
    with open_stack(path) as stack:
        assert stack.shape == (slices, side, side)
        assert time.perf_counter() - began < 2
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
