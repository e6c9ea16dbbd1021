"""Names, links and gaps in HDF5 files, and files that are damaged or hostile."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.eigen.volumes import open_volume

SHAPE = (9, 12, 10)
CHUNKS = (4, 6, 5)
VOLUME = random_images(np.uint16, SHAPE)


def test_the_only_volume_is_taken_and_several_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["entry/angles"] = np.zeros(5)
        file["entry/flat"] = np.zeros((4, 5), np.uint16)
    with pytest.raises(InputError, match=r"v\.h5: holds no data set of three dimensions; name the one"):
        open_volume(path)
    with h5py.File(path, "a") as file:
        file["entry/data"] = VOLUME
    with open_volume(path) as stack:
        assert str(stack.path) == f"{path}:/entry/data"
        assert stack.files == (path,)
        np.testing.assert_array_equal(stack.read(range(9)), VOLUME)
    with h5py.File(path, "a") as file:
        file["other"] = VOLUME
    with pytest.raises(
        InputError, match=r"v\.h5: holds the volumes /entry/data, /other; name one: .*:/entry"
    ):
        open_volume(path)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("link", [True, False])
def test_of_several_volumes_the_default_of_nexus_is_taken(tmp_path: Path, root: bool, link: bool) -> None:
    path = tmp_path / "v.nxs"
    with h5py.File(path, "w") as file:
        file["entry/flat"] = file["entry/dark"] = VOLUME // 2
        file["entry/detector/counts"] = VOLUME
        file["entry/plot/data"] = h5py.SoftLink("/entry/detector/counts") if link else VOLUME
        file["entry"].attrs["NX_class"] = "NXentry"
        file["entry"].attrs["default"] = np.bytes_("plot")
        file["entry/plot"].attrs["signal"] = "data"
        if root:
            file.attrs["default"] = "entry"
    with open_volume(path, every=2) as stack:
        assert str(stack.path) == f"{path}:/entry/plot/data"
        assert stack.notes == (
            f"{path}: of several volumes, /entry/plot/data is read, which the file has as default",
        )
        np.testing.assert_array_equal(stack.read([1]), VOLUME[[2]])


def test_a_default_may_begin_at_the_root_and_be_a_list_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "v.nxs"
    with h5py.File(path, "w") as file:
        file["entry/a/data"] = VOLUME
        file["entry/b/data"] = VOLUME // 2
        file["entry"].attrs["default"] = "/entry/b"
        file["entry/b"].attrs["signal"] = np.array(["data"], h5py.string_dtype())
        file.attrs["default"] = "entry"
    with open_volume(path) as stack:
        assert str(stack.path) == f"{path}:/entry/b/data"


@pytest.mark.parametrize("default", ["none", "entry/flat", "entry/out", "loop", 3, ""])
def test_a_default_that_names_no_volume_counts_for_nothing(tmp_path: Path, default: object) -> None:
    path = tmp_path / "v.nxs"
    with h5py.File(path, "w") as file:
        file["entry/a"] = file["entry/b"] = VOLUME
        file["entry/flat/data"] = VOLUME[0]
        file["entry/flat"].attrs["signal"] = "data"
        file["entry/out"] = h5py.ExternalLink("other.h5", "/")
        file.create_group("loop").attrs["default"] = "."
        file.attrs["default"] = default
    with pytest.raises(InputError, match=r"v\.nxs: holds the volumes /entry/a, /entry/b; name one"):
        open_volume(path)


def test_axes_of_length_1_before_the_three_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["entry/plain"] = VOLUME // 3
        file["entry/data"] = VOLUME[None, None]
    with open_volume(path) as stack:
        assert stack.path.name == "plain", "three axes come before more"
    with h5py.File(path, "w") as file:
        file["entry/data"] = VOLUME[None, None]
        file["entry/colours"] = np.stack([VOLUME, VOLUME])
    for axis in range(3):
        with open_volume(path, axis=axis) as stack:
            expected = np.moveaxis(VOLUME, axis, 0)
            np.testing.assert_array_equal(stack.read(range(len(expected))), expected)


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "v:1.h5"
    with h5py.File(path, "w") as file:
        file["entry/a:b"] = VOLUME
        file["entry/flat"] = VOLUME[0]
    with open_volume(f"{path}:/entry/a:b") as stack:
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])
    with open_volume(f"{path}:entry/flat") as stack:
        np.testing.assert_array_equal(stack.read([0]), VOLUME[[0]])
    for name, reason in (
        ("entry", "is no data set but a group of a:b, flat; name a data set"),
        ("entry/none", "/entry/none: is not in the file; /entry has a:b, flat"),
        ("none/data", "is not in the file; / has entry"),
        ("entry/flat/x", "is not in the file; /entry/flat has no members"),
    ):
        with pytest.raises(InputError, match=reason):
            open_volume(f"{path}:/{name}")


def test_links_within_the_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["entry/detector/data"] = VOLUME
        file["entry/hard"] = file["entry/detector/data"]
        file["entry/relative"] = h5py.SoftLink("detector/./data")
        file["group"] = h5py.SoftLink("/entry/detector")
        file["chain"] = h5py.SoftLink("/group/data")
    for name in ("entry/hard", "entry/relative", "group/data", "chain"):
        with open_volume(f"{tmp_path / 'v.h5'}:/{name}") as stack:
            np.testing.assert_array_equal(stack.read([8]), VOLUME[[8]])


def test_values_in_a_file_of_no_kind_are_refused(tmp_path: Path) -> None:
    """Even in its own folder: nothing tells that such a file is meant to be read."""
    (tmp_path / "values.bin").write_bytes(VOLUME.tobytes())
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, np.uint16, external=[("values.bin", 0, VOLUME.nbytes)])
    for name in (path, f"{path}:/raw"):
        with pytest.raises(
            InputError, match=r"v\.h5:/raw: keeps its values in other places, which aren't followed"
        ):
            open_volume(name)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
        file["c"] = h5py.SoftLink("/none")
        file["d"] = h5py.SoftLink("/d/d")
    for name, reason in (
        ("a", "go round in circles"),
        ("c", "a link in it leads to 'none', which is not there"),
        ("d", "go round"),
    ):
        with pytest.raises(InputError, match=rf"v\.h5:/{name}: .*{reason}"):
            open_volume(f"{tmp_path / 'v.h5'}:/{name}")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_chunks_that_were_never_written(tmp_path: Path, axis: int) -> None:
    """As after an acquisition that was broken off."""
    with h5py.File(tmp_path / "v.h5", "w") as file:
        data = file.create_dataset("data", SHAPE, np.uint16, chunks=CHUNKS, fillvalue=7)
        data[:4] = VOLUME[:4]
    written = VOLUME.copy()
    written[4:] = 7
    expected = np.moveaxis(written, axis, 0)
    everything = range(len(expected))
    with (
        open_volume(tmp_path / "v.h5", axis=axis) as stack,
        pytest.raises(InputError, match=rf"slice {0 if axis else 4} .* lacks chunk 1\.0\.0; copy the data"),
    ):
        stack.read(everything)
    with open_volume(tmp_path / "v.h5", axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(everything), expected)
        assert stack.filled == (5 if axis == 0 else len(expected))


def test_a_data_set_that_was_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("data", SHAPE, np.uint16)
    with (
        open_volume(tmp_path / "v.h5") as stack,
        pytest.raises(InputError, match=r"slice 3 .* lacks chunk 0\.0\.0"),
    ):
        stack.read([3])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3.0, 2.0, 1.0), VoxelSize(3, 2, 1)),
        ((3.0, 2.0), None),
        ((0.0, 2.0, 1.0), None),
        ("three", None),
        (None, None),
    ],
)
def test_the_voxel_size(tmp_path: Path, size: object, expected: VoxelSize | None) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["data"] = VOLUME
        if size is not None:
            file["data"].attrs["element_size_um"] = size
    with open_volume(tmp_path / "v.h5") as stack:
        assert stack.voxel_size == expected
    with open_volume(tmp_path / "v.h5", axis=2) as stack:
        assert stack.voxel_size == (VoxelSize(1, 3, 2) if expected else None)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((3.0, 2.0, 1.0), ""),
        (None, ""),
        ((3.0, 2.0, 0.0), "[3. 2. 0.]"),
        ((3.0, -2.0, 1.0), "[ 3. -2.  1.]"),
        ((3.0, np.nan, 1.0), "[ 3. nan  1.]"),
        ((np.inf, 2.0, 1.0), "[inf  2.  1.]"),
        ((3.0, 2.0), "[3. 2.]"),
        ("three", "three"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"axis": 2}, {"every": 2}])
def test_an_impossible_voxel_size_is_told(
    tmp_path: Path, size: object, told: str, options: dict[str, int]
) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["data"] = VOLUME
        if size is not None:
            file["data"].attrs["element_size_um"] = size
    with open_volume(path, **options) as stack:
        assert stack.notes == (
            f"{path}:/data: states element_size_um {' '.join(told.split())}, which no voxel can have: "
            "lengths are in voxels, unless a voxel size is stated",
        ) * bool(told)


def test_what_is_no_greyscale_volume(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["compound"] = np.zeros((3, 4, 5), [("a", "u1"), ("b", "u2")])
        file["text"] = np.full((3, 4, 5), b"abc")
        file.create_dataset("strings", (3, 4, 5), h5py.string_dtype())
        file.create_dataset("nothing", data=h5py.Empty("u2"))
        file["number"] = np.uint8(3)
    for name, reason in (
        ("compound", "holds no plain numbers; convert"),
        ("text", "holds no plain numbers; convert"),
        ("strings", "holds no plain numbers; convert"),
        ("nothing", "is an array of no values"),
        ("number", "is an array of no values"),
    ):
        with pytest.raises(InputError, match=rf"v\.h5:/{name}: {reason}"):
            open_volume(f"{tmp_path / 'v.h5'}:/{name}")


def test_compressed_by_a_plugin(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("data", data=VOLUME, chunks=CHUNKS, compression=hdf5plugin.Bitshuffle())
    with open_volume(tmp_path / "v.h5") as stack:
        np.testing.assert_array_equal(stack.read([8, 1], Region(1, 2, 3, 4)), VOLUME[[8, 1], 1:4, 2:6])


@pytest.mark.parametrize("keep", [0, 4, 100, 1500, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=VOLUME, chunks=CHUNKS, compression="gzip")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"v\.h5: isn't an HDF5 file that can be read .*; copy") as refusal:
        open_volume(path)
    assert "\n" not in str(refusal.value)


def test_a_damaged_chunk_names_the_slice(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=VOLUME, chunks=CHUNKS, compression="gzip")
        place = data.id.get_chunk_info_by_coord((4, 0, 0)).byte_offset
    stored = bytearray(path.read_bytes())
    stored[place : place + 20] = b"\xff" * 20
    path.write_bytes(stored)
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([3, 8]), VOLUME[[3, 8]])
        with pytest.raises(InputError, match=r"v\.h5:/data: slice 4 \(counted from 0\) can't be read"):
            stack.read(range(9))


def test_random_damage_never_escapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data", data=VOLUME, chunks=CHUNKS, compression="gzip")
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    refusals = []
    for _ in range(200):
        data = sound.copy()
        data[rng.integers(0, len(data), 8)] = rng.choice([0, 1, 127, 255], 8)
        path.write_bytes(data.tobytes())
        try:
            with open_volume(path) as stack:
                stack.read(range(min(stack.shape[0], 20)))
        except InputError as error:
            refusals.append(str(error))
    assert 20 < len(refusals) < 200
    assert not any("\n" in message for message in refusals)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["data"] = VOLUME
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs more packages .*: pip install 'eigenfeatures\[cpu\]'"):
        open_volume(tmp_path / "v.h5")
