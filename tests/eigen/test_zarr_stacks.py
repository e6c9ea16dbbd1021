"""OME-Zarr metadata, missing chunks, and Zarrs that are damaged or hostile."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.eigen.volumes import open_volume

SHAPE = (9, 12, 10)
CHUNKS = (4, 6, 5)
UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}


def _write(path: Path, volume: np.ndarray, **options: Any) -> Path:
    array = zarr.create_array(path, shape=volume.shape, dtype=volume.dtype, **{"chunks": CHUNKS} | options)
    array[...] = volume
    return path


def _image(
    axes: str = "zyx", scale: tuple[float, ...] = (3, 2, 1), units: dict[str, str] = UNITS, path: str = "0"
) -> dict[str, Any]:
    """Return one item of "multiscales"."""
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({"unit": units[axis]} if axis in units else {})
        for axis in axes
    ]
    level = {"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    return {"axes": described, "datasets": [level, {"path": "1"}]}


def _ome(path: Path, volume: np.ndarray, image: dict[str, Any], version: str = "0.5") -> Path:
    form = 3 if version == "0.5" else 2
    group = zarr.create_group(path, zarr_format=form)
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image | {"version": version}]
    lead = (1,) * (volume.ndim - 3)
    _write(path / "0", volume, chunks=lead + CHUNKS, zarr_format=form)
    _write(path / "1", volume[..., ::2, ::2, ::2], chunks=lead + CHUNKS, zarr_format=form)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "czyx", "tczyx"])
def test_ome_zarr_gives_the_full_resolution_and_its_voxel_size(
    tmp_path: Path, version: str, axes: str
) -> None:
    volume = random_images(np.uint16, SHAPE)
    lead = (1,) * (len(axes) - 3)
    scale = (1,) * len(lead) + (3, 2, 1)
    path = _ome(tmp_path / "v.zarr", volume.reshape(lead + SHAPE), _image(axes, scale), version)
    with open_volume(path) as stack:
        assert stack.voxel_size == VoxelSize(3, 2, 1)
        np.testing.assert_array_equal(stack.read(range(9)), volume)
    with open_volume(path / "0") as stack:
        assert stack.voxel_size == VoxelSize(3, 2, 1)
    with open_volume(path / "1") as stack:
        assert stack.voxel_size is None
        np.testing.assert_array_equal(stack.read([1]), volume[2:3, ::2, ::2])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"axis": 1}, VoxelSize(2, 3, 1)),
        ({"axis": 2}, VoxelSize(1, 3, 2)),
        ({"every": 4}, VoxelSize(12, 2, 1)),
        ({"axis": 2, "every": 2}, VoxelSize(2, 3, 2)),
    ],
)
def test_the_voxel_size_follows_axis_and_step(
    tmp_path: Path, options: dict[str, int], expected: VoxelSize
) -> None:
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), _image())
    with open_volume(path, **options) as stack:
        assert stack.voxel_size == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, VoxelSize(3, 2, 1)),
        ({"units": dict.fromkeys("zyx", "nanometer")}, VoxelSize(3e-3, 2e-3, 1e-3)),
        ({"units": {**UNITS, "z": "millimeter"}}, VoxelSize(3e3, 2, 1)),
        ({"units": {}}, None),
        ({"units": {**UNITS, "x": "furlong"}}, None),
        ({"scale": (3, 2)}, None),
        ({"scale": (3, 2, 0)}, None),
        ({"scale": (3, -2, 1)}, None),
        ({"scale": (3, 2, float("nan"))}, None),
    ],
)
def test_voxel_sizes_that_are_stated_and_that_are_not(
    tmp_path: Path, change: dict[str, Any], expected: VoxelSize | None
) -> None:
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), _image(**change))
    with open_volume(path) as stack:
        if expected is None:
            assert stack.voxel_size is None
        else:
            measured = stack.voxel_size
            assert measured is not None
            np.testing.assert_allclose(
                (measured.z, measured.y, measured.x), (expected.z, expected.y, expected.x), rtol=1e-12
            )


def test_a_scale_of_all_levels_multiplies(tmp_path: Path) -> None:
    image = _image() | {"coordinateTransformations": [{"type": "scale", "scale": [2, 2, 0.5]}]}
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)
    with open_volume(path) as stack:
        assert stack.voxel_size == VoxelSize(6, 4, 0.5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (200.5, 2_040_000, 1.5)),
        ({"every": 4}, (200.5, 2_040_000, 1.5)),
        ({"axis": 1}, (2_040_000, 200.5, 1.5)),
        ({"axis": 2, "every": 3}, (1.5, 200.5, 2_040_000)),
    ],
)
def test_the_origin_is_in_micrometres_and_follows_the_axis(
    tmp_path: Path, options: dict[str, int], expected: tuple[float, ...]
) -> None:
    """The translation of all levels comes after their scale."""
    image = _image("czyx", (1, 3, 2, 1), units={"z": "micrometer", "y": "millimeter", "x": "nanometer"})
    level = image["datasets"][0]["coordinateTransformations"]
    level.append({"type": "translation", "translation": [7, 100, 1000, 3000]})
    image["coordinateTransformations"] = [
        {"type": "scale", "scale": [1, 2, 2, 0.5]},
        {"type": "translation", "translation": [7, 0.5, 40, 0]},
    ]
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, (1, *SHAPE)), image)
    for opened in (path, path / "0"):
        with open_volume(opened, **options) as stack:
            assert stack.origin == pytest.approx(expected)


@pytest.mark.parametrize(
    ("translation", "units"),
    [
        ([1, 2], UNITS),
        ([1, 2, float("nan")], UNITS),
        ([0, None, 0], UNITS),
        ("elsewhere", UNITS),
        ([1, 2, 3], {}),
    ],
)
def test_an_origin_that_means_nothing_counts_for_nothing(
    tmp_path: Path, translation: object, units: dict[str, str]
) -> None:
    image = _image(units=units)
    image["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": translation}
    )
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)
    with open_volume(path) as stack:
        assert stack.origin == (0, 0, 0)
        assert stack.voxel_size == (VoxelSize(3, 2, 1) if units else None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"units": {}}, True),
        ({"units": {}, "scale": (1, 1, 1)}, False),
        ({}, False),
        ({"scale": (3,)}, False),
    ],
)
def test_a_scale_without_a_unit_is_told(tmp_path: Path, change: dict[str, Any], told: bool) -> None:
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), _image(**change))
    with open_volume(path, every=2) as stack:
        assert [note.partition(": ")[2] for note in stack.notes] == [
            "its scale has no known unit of length: lengths are in voxels, unless a voxel size is stated"
        ] * told


@pytest.mark.parametrize(
    ("axes", "shape", "reason"),
    [
        ("cyx", (3, 6, 5), "is an image of 3 c × 6 y × 5 x; save one greyscale volume"),
        ("czyx", (2, 4, 6, 5), "2 c × 4 z"),
        ("xyz", (4, 6, 5), "4 x × 6 y × 5 z"),
        ("zyxc", (1, 6, 5, 3), "1 z × 6 y × 5 x × 3 c"),
        ("zyx", (1, 4, 6, 5), "is an image of"),
    ],
)
def test_images_that_are_no_greyscale_volume(
    tmp_path: Path, axes: str, shape: tuple[int, ...], reason: str
) -> None:
    path = _ome(tmp_path / "v.zarr", np.zeros(shape, np.uint8), _image(axes, (1,) * len(axes)))
    with pytest.raises(InputError, match=reason):
        open_volume(path)


@pytest.mark.parametrize(
    "level", ["../secret.zarr", "/secret.zarr", "a/../../secret.zarr", "link", "0\0", "\ud800"]
)
def test_a_level_outside_of_the_group_is_not_opened(tmp_path: Path, level: str) -> None:
    secret = _write(tmp_path / "secret.zarr", np.zeros(SHAPE, np.uint8))
    path = _ome(tmp_path / "v.zarr", np.zeros(SHAPE, np.uint8), _image(path=level))
    (path / "link").symlink_to(secret)
    with pytest.raises(InputError, match=r"v\.zarr: its level '.*' lies outside of it"):
        open_volume(path)


def test_members_are_not_taken_from_consolidated_metadata(tmp_path: Path) -> None:
    secret = _write(tmp_path / "secret.zarr", np.ones(SHAPE, np.uint8))
    path = tmp_path / "v.zarr"
    zarr.create_group(path)
    member = json.loads((secret / "zarr.json").read_text())
    group = json.loads((path / "zarr.json").read_text())
    group["consolidated_metadata"] = {
        "kind": "inline", "must_understand": False, "metadata": {"../secret.zarr": member},
    }  # fmt: skip
    (path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(InputError, match=r"v\.zarr"):
        open_volume(path)


# Missing and damaged chunks


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize(
    ("axis", "holes"),
    [(0, [4, 5, 6, 7]), (1, [0, 1, 2, 3, 4, 5]), (2, [5, 6, 7, 8, 9])],
)
def test_a_missing_chunk_is_refused_or_filled(tmp_path: Path, form: int, axis: int, holes: list[int]) -> None:
    volume = random_images(np.uint8, SHAPE)
    path = _write(tmp_path / "v.zarr", volume, zarr_format=form, fill_value=7)
    (path / ("1.0.1" if form == 2 else "c/1/0/1")).unlink()
    filled = volume.copy()
    filled[4:8, 0:6, 5:10] = 7
    expected = np.moveaxis(filled, axis, 0)
    everything = range(len(expected))
    with open_volume(path, axis=axis) as stack:
        along = f" along axis {axis}" if axis else ""
        with pytest.raises(InputError, match=rf"slice {holes[0]}{along} .* lacks chunk 1\.0\.1; copy the"):
            stack.read(everything)
        whole = [index for index in everything if index not in holes]
        np.testing.assert_array_equal(stack.read(whole), expected[whole])
        assert stack.filled == 0
    with open_volume(path, axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(whole), expected[whole])
        assert stack.filled == 0
        np.testing.assert_array_equal(stack.read(holes[1:2]), expected[holes[1:2]])
        assert stack.filled == 1
        np.testing.assert_array_equal(stack.read(everything), expected)
        assert [index for index in everything if stack.is_filled(index)] == holes
        assert stack.filled == len(holes)
    with open_volume(path, axis=axis, missing="fill", every=2) as stack:
        np.testing.assert_array_equal(stack.read(range(stack.shape[0])), expected[::2])
        halves = [index for index in range(stack.shape[0]) if stack.is_filled(index)]
        assert [2 * index for index in halves] == [index for index in holes if index % 2 == 0]
        assert stack.filled == len(halves)


def test_a_region_beside_the_missing_chunk_is_read(tmp_path: Path) -> None:
    volume = random_images(np.uint8, SHAPE)
    path = _write(tmp_path / "v.zarr", volume)
    (path / "c/1/0/1").unlink()
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([5], Region(0, 0, 12, 5)), volume[[5], :, :5])
        with pytest.raises(InputError, match=r"slice 5 .* lacks chunk"):
            stack.read([5], Region(0, 0, 12, 6))


def test_a_missing_shard_and_a_missing_chunk_of_a_plane(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), shards=(8, 12, 10))
    (path / "c/0/0/0").unlink()
    with open_volume(path) as stack, pytest.raises(InputError, match=r"slice 7 .* lacks chunk 1\.0\.0"):
        stack.read([8, 7])
    plane = _write(tmp_path / "p.zarr", random_images(np.uint8, (12, 10)), chunks=(6, 5))
    (plane / "c/1/0").unlink()
    for axis, index in ((0, 0), (1, 6), (2, 0)):
        with (
            open_volume(plane, axis=axis) as stack,
            pytest.raises(InputError, match=rf"slice {index} .* 1\.0;"),
        ):
            stack.read(range(stack.shape[0]))


def test_a_chunk_that_holds_only_fill_values_may_have_been_left_out(tmp_path: Path) -> None:
    """What zarr itself does by default."""
    volume = random_images(np.uint8, SHAPE)
    volume[:4] = 0
    path = _write(tmp_path / "v.zarr", volume)
    with open_volume(path, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(9)), volume)
        assert stack.filled == 4


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 9])
def test_a_truncated_chunk_names_the_slice(tmp_path: Path, form: int, compressed: bool, keep: int) -> None:
    volume = random_images(np.uint16, SHAPE)
    options = {} if compressed else {"compressors": None}
    path = _write(tmp_path / "v.zarr", volume, zarr_format=form, **options)
    chunk = path / ("1.0.1" if form == 2 else "c/1/0/1")
    chunk.write_bytes(chunk.read_bytes()[:keep])
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([0, 3, 8]), volume[[0, 3, 8]])
        with pytest.raises(InputError, match=r"slice 4 \(counted from 0\) can't be read .*; copy") as refusal:
            stack.read(range(9))
    assert "\n" not in str(refusal.value)


# Damaged and hostile metadata


def test_pickled_chunks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), zarr_format=2)
    sound = (path / ".zarray").read_text()
    for change in ({"filters": [{"id": "pickle", "protocol": 5}]}, {"compressor": {"id": "pickle"}}):
        (path / ".zarray").write_text(json.dumps(json.loads(sound) | change))
        assert numcodecs.get_codec({"id": "pickle"}).codec_id == "pickle"  # it exists
        with pytest.raises(InputError, match=r"v\.zarr: .*pickle"):
            open_volume(path)
    (path / ".zarray").write_text(sound)
    kind = type(zarr.open_array(path, mode="r").metadata)
    to_dict = kind.to_dict  # other releases of zarr than that at hand may open such an array
    monkeypatch.setattr(
        kind, "to_dict", lambda self: to_dict(self) | {"filters": [{"id": "numcodecs.pickle"}]}
    )
    with pytest.raises(InputError, match=r"v\.zarr: holds pickled data, which can run code; write it"):
        open_volume(path)


@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"zarr_format": 9}', '{"zarr_format": 3, "node_type": "array"}', "\xff"]
)
def test_a_description_that_makes_no_sense(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "v.zarr"
    path.mkdir()
    (path / name).write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"v\.zarr: .*; ") as refusal:
        open_volume(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("form", [2, 3])
def test_random_damage_of_the_description_never_escapes(tmp_path: Path, form: int) -> None:
    rng = np.random.default_rng(11)
    path = _write(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), zarr_format=form)
    file = path / ("zarr.json" if form == 3 else ".zarray")
    sound = np.frombuffer(file.read_bytes(), np.uint8)
    refusals = []
    for _ in range(150):
        data = sound.copy()
        data[rng.integers(0, len(data), 2)] = rng.choice(list(b'019{}[],:"-x'), 2)
        file.write_bytes(data.tobytes())
        try:
            with open_volume(path, missing="fill") as stack:
                stack.read([0])
        except InputError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 150
    assert not any("\n" in message for message in refusals)


def test_huge_chunks_are_refused(tmp_path: Path) -> None:
    shape = (2**20, 2**12, 2**12)
    zarr.create_array(tmp_path / "v.zarr", shape=shape, chunks=shape, dtype="u1")
    with pytest.raises(InputError, match="claims chunks of 1048576×4096×4096 values"):
        open_volume(tmp_path / "v.zarr")


def test_groups_without_one_array(tmp_path: Path) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_group(path)
    with pytest.raises(InputError, match=r"v\.zarr: is a Zarr group of nothing; name one array"):
        open_volume(path)
    zarr.create_group(path / "group")
    for name in ("b", "a", "group/c"):
        _write(path / name, np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"v\.zarr: is a Zarr group of a, b, group; name one array"):
        open_volume(path)
    shutil.rmtree(path / "a")
    with open_volume(path) as stack:
        assert stack.shape == SHAPE
        assert stack.files == (path / "zarr.json", path / "b" / "zarr.json")


def test_an_empty_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "v.zarr").mkdir()
    with pytest.raises(InputError, match=r"v\.zarr: isn't a Zarr that can be read"):
        open_volume(tmp_path / "v.zarr")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "v.zarr", np.zeros(SHAPE, np.uint8))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"needs more packages .*: pip install 'eigenfeatures\[cpu\]'"):
        open_volume(path)
