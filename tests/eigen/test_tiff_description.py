import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.eigen.tiff_stacks import open_stack

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
    images = random_images(np.uint8, (4, 20, 30))
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
    images = random_images(np.uint8, (2, 20, 30))
    _write_ome(hostile, images, _ome(2, body))
    with open_stack(hostile) as stack:
        np.testing.assert_array_equal(stack.read([0, 1]), images)
    _write_ome(hostile, images[:1], _ome(2, body))
    with pytest.raises(InputError, match=r"declares 2 slices and holds 1; .* one part of a set"):
        open_stack(hostile)
    assert set(opened) == {"a.ome.tif"}


def test_a_folder_of_the_files_of_one_ome_set(tmp_path: Path) -> None:
    images = random_images(np.uint8, (3, 20, 30))
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
    images = random_images(np.uint8, (3, 20, 30))
    _write_ome(path, images, description)
    with open_stack(path) as stack:
        assert stack.voxel_size is None
        np.testing.assert_array_equal(stack.read(range(3)), images)


def test_an_endless_ome_declaration_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    _write_ome(
        path, random_images(np.uint8, (3, 20, 30)), _ome(10**14, '<TiffData PlaneCount="99999999999999"/>')
    )
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


# Voxel sizes that are stated and impossible

_END = ", which no voxel can have: lengths are in voxels, unless a voxel size is stated"


def _write_imagej(
    path: Path, fields: str, resolution: tuple[tuple[int, int], tuple[int, int]] | None
) -> Path:
    text = f"ImageJ=1.53t\nimages=3\nslices=3\n{fields}\n".encode()
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            writer.write(
                np.zeros((20, 30), np.uint8), description=text if number == 0 else None, metadata=None
            )
    with tifffile.TiffFile(path) as file:
        places = [file.pages.first.tags[tag].valueoffset for tag in (282, 283)]
    stored = bytearray(path.read_bytes())
    for place, ratio in zip(places, resolution or (), strict=False):
        struct.pack_into("<II", stored, place, *ratio)
    path.write_bytes(stored)
    return path


@pytest.mark.parametrize(
    ("fields", "resolution", "told"),
    [
        ("unit=um\nspacing=0", ((1, 2), (1, 2)), "0.5 by 0.5 pixels a unit and a spacing of 0"),
        ("unit=um\nspacing=nan", ((1, 2), (1, 2)), "0.5 by 0.5 pixels a unit and a spacing of nan"),
        ("unit=um\nspacing=two", ((1, 2), (1, 2)), "0.5 by 0.5 pixels a unit and a spacing of two"),
        ("unit=um\nspacing=2", ((0, 1), (1, 2)), "0 by 0.5 pixels a unit and a spacing of 2"),
        ("unit=um", ((1, 2), (0, 3)), "0.5 by 0 pixels a unit"),
        ("unit=um", ((1, 2), (1, 0)), "0.5 by 1/0 pixels a unit"),
        ("unit=um", ((0, 0), (0, 0)), "0/0 by 0/0 pixels a unit"),
        # Nothing is stated, or a number of no unit.
        ("unit=um\nspacing=0", None, ""),
        ("unit=um\nspacing=0", ((1, 1), (1, 1)), ""),
        ("unit=um", None, ""),
        ("unit=pixel\nspacing=0", ((1, 2), (1, 2)), ""),
        ("spacing=0", ((0, 1), (0, 1)), ""),
        ("unit=um\nspacing=-2", ((1, 2), (1, 2)), ""),  # as ImageJ has it for a reversed order
    ],
)
def test_an_impossible_imagej_voxel_size_is_told(
    tmp_path: Path, fields: str, resolution: tuple[tuple[int, int], tuple[int, int]] | None, told: str
) -> None:
    path = _write_imagej(tmp_path / "stack.tif", fields, resolution)
    with open_stack(path) as stack:
        assert stack.notes == (f"{path}: states {told}{_END}",) * bool(told)
        assert (stack.voxel_size is None) == (fields != "unit=um\nspacing=-2")


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ('PhysicalSizeX="0" PhysicalSizeY="2" PhysicalSizeZ="2"', 'PhysicalSizeX="0"'),
        ('PhysicalSizeX="2" PhysicalSizeY="-2"', 'PhysicalSizeY="-2"'),
        ('PhysicalSizeX="nan" PhysicalSizeZ="1e999"', 'PhysicalSizeZ="1e999" PhysicalSizeX="nan"'),
        ('PhysicalSizeX="two" PhysicalSizeXUnit="nm"', 'PhysicalSizeX="two"'),
        ('PhysicalSizeX="2" PhysicalSizeY="2"', ""),
        ('PhysicalSizeX="0" PhysicalSizeXUnit="pixel"', ""),
        ('PhysicalSizeX="" PhysicalSizeY="2"', ""),
        ("", ""),
    ],
)
def test_an_impossible_ome_voxel_size_is_told(tmp_path: Path, sizes: str, told: str) -> None:
    path = tmp_path / "stack.ome.tif"
    _write_ome(
        path, random_images(np.uint8, (3, 20, 30)), _ome(3, "").replace("<Pixels ", f"<Pixels {sizes} ")
    )
    with open_stack(path) as stack:
        assert stack.voxel_size is None
        assert stack.notes == (f"{path}: states {told}{_END}",) * bool(told)


def test_what_is_told_of_a_folder_is_all_told(tmp_path: Path) -> None:
    """The voxel size of its first slice, and the numbers that lack."""
    for number in (1, 2, 4):
        text = b"ImageJ=1.53t\nimages=1\nunit=um\nspacing=0\n"
        tifffile.imwrite(
            tmp_path / f"s{number}.tif",
            np.zeros((20, 30), np.uint8),
            description=text,
            metadata=None,
            resolution=(0.5, 0.5),
        )
    with open_stack(tmp_path) as stack:
        assert [note.partition(": ")[2][:30] for note in stack.notes] == [
            "states 0.5 by 0.5 pixels a uni",
            "its numbered slices lack 1 (3)",
        ]
