"""What the OME-Zarr metadata of a group say: where the full resolution lies, its axes and its voxel size.

References
----------
OME-Zarr (OME-NGFF) specification, versions 0.4 and 0.5, "multiscales" metadata.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eigenfeatures.eigen.voxel_size import VoxelSize, micrometres


@dataclass(frozen=True)
class Multiscale:
    """The full resolution of one image.

    Attributes
    ----------
    array : str
        Its path in the group, as written there: not yet checked.
    axes : tuple of str
        Names of its axes, slowest first.
    voxel_size : VoxelSize or None
        None unless scale and unit are stated for z, y and x.
    """

    array: str
    axes: tuple[str, ...]
    voxel_size: VoxelSize | None


def read_multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """Interpret the attributes of a Zarr group.

    Parameters
    ----------
    attributes : mapping
        Of a group: "multiscales" stand at the top (0.4) or under "ome" (0.5).

    Returns
    -------
    Multiscale or None
        Of the first image at full resolution; None where the attributes
        describe none.
    """
    try:
        image = attributes.get("ome", attributes)["multiscales"][0]
        level = image["datasets"][0]
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes", "tczyx")]
        names = tuple(str(axis["name"]) for axis in axes)
        units = [str(axis.get("unit", "")) for axis in axes]
        return Multiscale(str(level["path"]), names, _voxel_size(names, units, _scale(level), _scale(image)))
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return None


def _scale(item: Mapping[str, Any]) -> list[float]:
    """Return the scale of a level, or of all levels; it may be left out for the latter."""
    for transformation in item.get("coordinateTransformations", ()):
        if transformation["type"] == "scale":
            return [float(factor) for factor in transformation["scale"]]
    return []


def _voxel_size(
    names: tuple[str, ...], units: list[str], level: list[float], image: list[float]
) -> VoxelSize | None:
    if len(level) != len(names) or len(image) not in (0, len(names)):
        return None
    factors = image or [1.0] * len(names)
    edges = {
        name: own * common * (micrometres(unit) or math.nan)
        for name, unit, own, common in zip(names, units, level, factors, strict=True)
    }
    return VoxelSize.of([edges.get(name, math.nan) for name in "zyx"])
