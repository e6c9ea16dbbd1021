"""What an ImageJ, OME or tifffile description says of a stack: its slices, their order, the voxel size.

The description is read here rather than through tifffile's series because
those follow file names that stand inside a file (OME-TIFF, Micro-Manager).
Nothing outside the file at hand is ever opened.
"""

import json
import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.tiff_pages import Layout
from eigenfeatures.eigen.voxel_size import VoxelSize, impossible, micrometres

# tifffile calls the slices of a volume "channels" unless it is told the axes. So channels alone, and
# more of them than RGBA has, are taken for slices.
_MOST_CHANNELS = 4
_MOST_DIGITS = 16


@dataclass(frozen=True)
class Description:
    """What the description of a TIFF's first page says.

    Attributes
    ----------
    slices : int
        Number of slices declared; 1 where nothing is said.
    contiguous : bool
        Whether slices beyond the first page may follow its data without
        directories of their own (ImageJ above 4 GB, tifffile).
    order : tuple of int or None
        The page that holds each slice, None for the order of the file (OME).
    voxel_size : VoxelSize or None
        None where the file doesn't say or says nothing usable.
    note : str
        Of a voxel size that is stated and impossible; "" otherwise.
    """

    slices: int = 1
    contiguous: bool = False
    order: tuple[int, ...] | None = None
    voxel_size: VoxelSize | None = None
    note: str = ""


def read_description(layout: Layout) -> Description:
    """Interpret the description of a TIFF.

    Parameters
    ----------
    layout : Layout
        From `read_layout`.

    Returns
    -------
    Description

    Raises
    ------
    InputError
        The description declares channels, several images, or both slices and
        time points: one greyscale volume is needed.
    """
    text = layout.description.strip()
    if text.startswith(("ImageJ=", "SCIFIO=")):
        return _imagej(layout, text)
    if text.endswith("OME>"):
        return _ome(layout, text)
    if text.startswith('{"shape":'):
        return _tifffile(layout, text)
    return Description()


def _one_axis(layout: Layout, sizes: dict[str, int]) -> int:
    """Return the number of slices if at most one axis besides the image's own is longer than 1."""
    longer = {name: size for name, size in sizes.items() if size != 1}
    axes = " × ".join(f"{size} {name}" for name, size in longer.items())
    if min(sizes.values(), default=1) < 1:
        raise InputError(f"{layout.path}: declares an axis of no length ({axes}); export the stack again")
    if len(longer) > 1:
        raise InputError(f"{layout.path}: is a hyperstack of {axes}; save one greyscale volume of it")
    if 1 < sizes.get("channels", 1) <= _MOST_CHANNELS:
        raise InputError(
            f"{layout.path}: declares {axes}; save one of them or, if they are slices, "
            "say so (in Fiji: Image > Properties; in tifffile: axes 'ZYX')"
        )
    return math.prod(longer.values())


def _imagej(layout: Layout, text: str) -> Description:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    sizes = {name: _whole(fields.get(name)) for name in ("channels", "frames", "slices")}
    slices = _one_axis(layout, sizes)
    if slices == 1:  # a plain stack may state only "images"
        slices = max(1, _whole(fields.get("images")))
    voxel_size, note = _imagej_voxel_size(layout, fields)
    return Description(slices, contiguous=True, voxel_size=voxel_size, note=note)


def _whole(text: str | None) -> int:
    """Read a count; what isn't one counts as not stated."""
    return int(text) if text and text.strip().isdecimal() and len(text) < _MOST_DIGITS else 1


def _imagej_voxel_size(layout: Layout, fields: dict[str, str]) -> tuple[VoxelSize | None, str]:
    """Read the calibration, and what is wrong with it.

    A resolution of exactly 1 is what writers put when they know none.
    ImageJ leaves `spacing` out where it was never set: CT voxels are cubes, so
    the pixel size stands for it.
    """
    unit = micrometres(fields.get("unit", ""))
    x, y = layout.resolution
    if unit is None or x is None or y is None or x.value == y.value == 1:
        return None, ""
    try:
        spacing = abs(float(fields.get("spacing", 1 / y.value)))
    except ValueError:
        spacing = math.nan
    size = VoxelSize.of((spacing * unit, unit / y.value, unit / x.value))
    if size is not None:
        return size, ""
    said = f" and a spacing of {fields['spacing']}" if "spacing" in fields else ""
    return None, impossible(f"{x} by {y} pixels a unit{said}")


def _ome(layout: Layout, text: str) -> Description:
    try:
        images = ElementTree.fromstring(text).findall("{*}Image/{*}Pixels")  # noqa: S314 (expat limits entities)
    except (ElementTree.ParseError, LookupError, ValueError):  # broken, or in an encoding that isn't known
        return Description()
    if not images:  # a part of a set whose metadata stand elsewhere
        return Description()
    if len(images) > 1:
        raise InputError(f"{layout.path}: holds {len(images)} OME images; save one greyscale volume of it")
    pixels = images[0]
    keys = {"channels": "SizeC", "time points": "SizeT", "slices": "SizeZ"}
    slices = _one_axis(layout, {name: _whole(pixels.get(key)) for name, key in keys.items()})
    first = next((f"First{axis}" for axis in "TC" if _whole(pixels.get(f"Size{axis}")) > 1), "FirstZ")
    order = _ome_order(pixels, slices, first) if slices == len(layout.pages) else None
    voxel_size, note = _ome_voxel_size(pixels)
    return Description(slices, order=order, voxel_size=voxel_size, note=note)


def _ome_order(pixels: ElementTree.Element, slices: int, first: str) -> tuple[int, ...] | None:
    """Return the page of each slice from the TiffData elements, None where they don't give one for all."""
    order: dict[int, int] = {}
    for data in pixels.findall("{*}TiffData"):
        start, page = _whole(data.get(first, "0")), _whole(data.get("IFD", "0"))
        count = _whole(data.get("PlaneCount", "1" if "IFD" in data.attrib else str(slices)))
        order |= {start + k: page + k for k in range(min(count, slices))}
    pages = tuple(order.get(index, -1) for index in range(slices))
    return pages if sorted(pages) == list(range(slices)) else None


def _ome_voxel_size(pixels: ElementTree.Element) -> tuple[VoxelSize | None, str]:
    """Read the physical size, and what is wrong with it."""
    edges: list[float] = []
    wrong: list[str] = []
    for axis in "ZYX":
        name = f"PhysicalSize{axis}"
        unit, stated = micrometres(pixels.get(f"{name}Unit", "µm")), pixels.get(name)
        try:
            edge = float(stated or math.nan) * (unit or math.nan)
        except ValueError:
            edge = math.nan
        edges.append(edge)
        if unit and stated and not (math.isfinite(edge) and edge > 0):
            wrong.append(f'{name}="{stated}"')
    return VoxelSize.of(edges), impossible(" ".join(wrong)) if wrong else ""


def _tifffile(layout: Layout, text: str) -> Description:
    try:
        shape: Any = json.loads(text)["shape"]
        leading = [int(size) for size in shape[:-2]]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return Description()
    sizes = {f"along axis {axis}": size for axis, size in enumerate(leading)}
    return Description(_one_axis(layout, sizes), contiguous=True)
