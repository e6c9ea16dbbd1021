"""What the OME-Zarr metadata of a group say of the full resolution: its path, axes, voxel size and place.

References
----------
OME-Zarr (OME-NGFF) specification, versions 0.4 and 0.5, "multiscales" metadata.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.voxel_size import Position, VoxelSize, micrometres

# What attributes that aren't as the specification has them raise.
_UNSOUND = (LookupError, TypeError, AttributeError, ValueError, OverflowError)


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
    origin : (float, float, float)
        Centre of the first voxel along z, y and x, in micrometres; 0 where it isn't stated or the voxel size
        is None.
    lacks_unit : bool
        Whether a scale is stated that tells nothing for want of units.
    """

    array: str
    axes: tuple[str, ...]
    voxel_size: VoxelSize | None
    origin: Position
    lacks_unit: bool


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
        units = np.array([micrometres(str(axis.get("unit", ""))) or math.nan for axis in axes])
        factor = _numbers(image, "scale", np.ones(len(axes)))
        scale = _numbers(level, "scale", np.full(len(axes), math.nan)) * factor
        path = str(level["path"])
    except _UNSOUND:
        return None
    voxel_size = VoxelSize.of(_zyx(names, scale * units))
    origin = _zyx(names, _shift(image, level, factor) * units)
    stated = VoxelSize.of(_zyx(names, scale))
    return Multiscale(
        path,
        names,
        voxel_size,
        origin if voxel_size and np.isfinite(origin).all() else (0.0, 0.0, 0.0),
        lacks_unit=voxel_size is None and stated not in (None, VoxelSize(1, 1, 1)),
    )


def _shift(
    image: Mapping[str, Any], level: Mapping[str, Any], factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the translation; that of all levels comes after the level's own. NaN where it can't be used."""
    still = np.zeros_like(factor)
    try:
        return _numbers(level, "translation", still) * factor + _numbers(image, "translation", still)
    except _UNSOUND:
        return np.full_like(factor, math.nan)


def _numbers(item: Mapping[str, Any], kind: str, default: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers of a level's transformation, or of that of all; NaN unless there is one an axis."""
    for transformation in item.get("coordinateTransformations", ()):
        if transformation["type"] == kind:
            found = np.array([float(number) for number in transformation[kind]])
            return found if found.shape == default.shape else np.full_like(default, math.nan)
    return default


def _zyx(names: Sequence[str], numbers: NDArray[np.float64]) -> Position:
    """Return the numbers of z, y and x; NaN for one that the image hasn't."""
    of = dict(zip(names, numbers.tolist(), strict=True))
    return of.get("z", math.nan), of.get("y", math.nan), of.get("x", math.nan)
