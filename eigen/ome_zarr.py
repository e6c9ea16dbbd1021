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

from eigenfeatures.eigen.voxel_size import IN_VOXELS, Position, VoxelSize, impossible, micrometres

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
    note : str
        Why a scale that is stated tells no voxel size: it lacks units or is impossible. "" where none is.
    """

    array: str
    axes: tuple[str, ...]
    voxel_size: VoxelSize | None
    origin: Position
    note: str


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
        path = str(level["path"])
        factor = _numbers(image, "scale", np.ones(len(axes)))
        own = _numbers(level, "scale", np.full(len(axes), math.nan))
    except _UNSOUND:
        return None
    with np.errstate(all="ignore"):  # what is beyond all numbers is told below, or counts for nothing
        scale = own * factor
        edges, origin = _zyx(names, scale * units), _zyx(names, _shift(image, level, factor) * units)
    voxel_size = VoxelSize.of(edges)
    return Multiscale(
        path,
        names,
        voxel_size,
        origin if voxel_size and np.isfinite(origin).all() else (0.0, 0.0, 0.0),
        note="" if voxel_size else _note(image, level, names, scale, edges),
    )


def _note(
    image: Mapping[str, Any],
    level: Mapping[str, Any],
    names: Sequence[str],
    scale: NDArray[np.float64],
    edges: Position,
) -> str:
    """Say why the scale tells no voxel size; a scale of 1 is what writers put when they know none."""
    own, of_all = _stated(level, "scale"), _stated(image, "scale")
    unitless = dict(zip(names, scale.tolist(), strict=True))
    if own is None or VoxelSize.of(_zyx(names, scale)) == VoxelSize(1, 1, 1):
        return ""
    said = f"the scale {own}" + ("" if of_all is None else f" times {of_all}")
    if not all(math.isfinite(unitless[axis]) and unitless[axis] > 0 for axis in "zyx" if axis in unitless):
        return impossible(said)
    beyond = [axis for axis, edge in zip("zyx", edges, strict=True) if edge == 0 or math.isinf(edge)]
    if beyond:  # all numbers, with the unit
        described = [axis for axis in image["axes"] if isinstance(axis, Mapping) and axis["name"] in beyond]
        return impossible(f"{said} in {', '.join(dict.fromkeys(axis['unit'] for axis in described))}")
    return f"its scale has no known unit of length: {IN_VOXELS}" if "z" in unitless else ""


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
    stated = _stated(item, kind)
    if stated is None:
        return default
    try:
        found = np.array([float(number) for number in stated])
    except _UNSOUND:
        found = np.empty(0)
    return found if found.shape == default.shape else np.full_like(default, math.nan)


def _stated(item: Mapping[str, Any], kind: str) -> Any:
    """Return what a transformation states, whatever that is; None where there is no such."""
    for transformation in item.get("coordinateTransformations", ()):
        if transformation["type"] == kind:
            return transformation[kind]
    return None


def _zyx(names: Sequence[str], numbers: NDArray[np.float64]) -> Position:
    """Return the numbers of z, y and x; NaN for one that the image hasn't."""
    of = dict(zip(names, numbers.tolist(), strict=True))
    return of.get("z", math.nan), of.get("y", math.nan), of.get("x", math.nan)
