"""OME-Zarr metadata: which array, how large its voxels are, where it lies, and what is refused."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from random_volumes import random_images
from zarr_files import CHUNKS, SHAPE, write_zarr

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.eigen.volumes import open_volume

UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}


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
    write_zarr(path / "0", volume, chunks=lead + CHUNKS, zarr_format=form)
    write_zarr(path / "1", volume[..., ::2, ::2, ::2], chunks=lead + CHUNKS, zarr_format=form)
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
    ],
)
def test_a_scale_without_a_unit_is_told(tmp_path: Path, change: dict[str, Any], told: bool) -> None:
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), _image(**change))
    with open_volume(path, every=2) as stack:
        assert [note.partition(": ")[2] for note in stack.notes] == [
            "its scale has no known unit of length: lengths are in voxels, unless a voxel size is stated"
        ] * told


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ((3, 2, 0), "[3, 2, 0]"),
        ((3, -2, 1), "[3, -2, 1]"),
        ((float("nan"), 2, 1), "[nan, 2, 1]"),
        ((3, float("inf"), 1), "[3, inf, 1]"),
        ((3,), "[3]"),
        ((3, None, 1), "[3, None, 1]"),
        (("a\nb", 2, 1), "['a\\nb', 2, 1]"),
        ((1e-9,) * 100, "[1e-09, 1e-09, 1e-09"),
    ],
)
@pytest.mark.parametrize("units", [UNITS, {}])
@pytest.mark.parametrize("opened", ["", "0"])
def test_an_impossible_voxel_size_is_told(
    tmp_path: Path, scale: Any, told: str, units: dict[str, str], opened: str
) -> None:
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), _image(scale=scale, units=units))
    with open_volume(path / opened, axis=1) as stack:
        assert stack.voxel_size is None
        (note,) = stack.notes
    assert note.startswith(f"{path / opened}: states the scale {told}")
    assert note.endswith(", which no voxel can have: lengths are in voxels, unless a voxel size is stated")
    assert "\n" not in note
    assert len(note) < len(str(path)) + 200


def test_an_impossible_scale_of_all_levels_is_told(tmp_path: Path) -> None:
    image = _image() | {"coordinateTransformations": [{"type": "scale", "scale": [2, 0, 0.5]}]}
    with open_volume(_ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)) as stack:
        assert ": states the scale [3, 2, 1] times [2, 0, 0.5], which no voxel" in stack.notes[0]


@pytest.mark.parametrize(
    ("scale", "of_all", "unit", "told"),
    [
        (1e305, None, "meter", "the scale [1e+305, 1e+305, 1e+305] in meter"),
        (1e-322, None, "nanometer", "the scale [1e-322, 1e-322, 1e-322] in nanometer"),
        (1e305, 0.1, "meter", "the scale [1e+305, 1e+305, 1e+305] times [0.1, 0.1, 0.1] in meter"),
        (1e200, 1e200, "meter", "the scale [1e+200, 1e+200, 1e+200] times [1e+200, 1e+200, 1e+200]"),
        (float("inf"), 0, "meter", "the scale [inf, inf, inf] times [0, 0, 0]"),
        (1e305, None, "furlong", ""),
    ],
)
def test_a_scale_beyond_all_numbers_is_told_as_such_and_nothing_else(
    tmp_path: Path, scale: float, of_all: float | None, unit: str, told: str
) -> None:
    image = _image(scale=(scale,) * 3, units=dict.fromkeys("zyx", unit))
    image["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [scale] * 3}
    )
    if of_all is not None:
        image["coordinateTransformations"] = [{"type": "scale", "scale": [of_all] * 3}]
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with open_volume(path) as stack:
            (note,) = stack.notes
            assert (stack.voxel_size, stack.origin) == (None, (0, 0, 0))
    assert note.startswith(f"{path}: states {told}" if told else f"{path}: its scale has no known unit of le")
    assert ("no voxel can have" in note) == bool(told)


def test_a_translation_beyond_all_numbers_counts_for_nothing(tmp_path: Path) -> None:
    image = _image(units=dict.fromkeys("zyx", "meter"))
    image["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [1e305, float("inf"), 0]}
    )
    image["coordinateTransformations"] = [{"type": "translation", "translation": [0, float("-inf"), 0]}]
    path = _ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with open_volume(path) as stack:
            assert (stack.voxel_size, stack.origin) == (VoxelSize(3e6, 2e6, 1e6), (0, 0, 0))


@pytest.mark.parametrize("transformations", [None, [], [{"type": "translation", "translation": [1, 2, 3]}]])
def test_a_scale_that_is_left_out_is_not_told(tmp_path: Path, transformations: Any) -> None:
    """Nor is one of a single slice, whose thickness isn't stated."""
    image = _image()
    image["datasets"][0]["coordinateTransformations"] = transformations
    if transformations is None:
        del image["datasets"][0]["coordinateTransformations"]
        image["coordinateTransformations"] = [{"type": "scale", "scale": [2, 2, 2]}]
    with open_volume(_ome(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), image)) as stack:
        assert (stack.voxel_size, stack.notes) == (None, ())
    plane = zarr.create_group(tmp_path / "p.zarr")
    plane.attrs["ome"] = {"version": "0.5", "multiscales": [_image("yx", (2, 1))]}
    write_zarr(tmp_path / "p.zarr" / "0", random_images(np.uint8, (12, 10)), chunks=(6, 5))
    with open_volume(tmp_path / "p.zarr") as stack:
        assert (stack.voxel_size, stack.notes) == (None, ())


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
    secret = write_zarr(tmp_path / "secret.zarr", np.zeros(SHAPE, np.uint8))
    path = _ome(tmp_path / "v.zarr", np.zeros(SHAPE, np.uint8), _image(path=level))
    (path / "link").symlink_to(secret)
    with pytest.raises(InputError, match=r"v\.zarr: its level '.*' lies outside of it"):
        open_volume(path)


def test_members_are_not_taken_from_consolidated_metadata(tmp_path: Path) -> None:
    secret = write_zarr(tmp_path / "secret.zarr", np.ones(SHAPE, np.uint8))
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
