"""The size of a voxel, where the first one lies, and the units in which files state both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "um": 1.0, "µm": 1.0, "μm": 1.0, r"\u00b5m": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "å": 1e-4, "angstrom": 1e-4,
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
    "in": 25_400.0, "inch": 25_400.0, '"': 25_400.0,
}  # fmt: skip


_LONGEST = 80  # of what a file states, in messages

IN_VOXELS = "lengths are in voxels, unless a voxel size is stated"

# Along z, y and x.
Position = tuple[float, float, float]


def micrometres(unit: str) -> float | None:
    """Return how many micrometres a unit of length is; None if it isn't known."""
    return _MICROMETRES.get(unit.strip().lower())


@dataclass(frozen=True)
class VoxelSize:
    """Edge lengths of a voxel in micrometres: between slices (z), rows (y) and columns (x)."""

    z: float
    y: float
    x: float

    @classmethod
    def of(cls, edges: Sequence[float]) -> Self | None:
        """Return the size with these edges (z, y, x); None unless all are finite and positive."""
        usable = len(edges) == 3 and all(math.isfinite(edge) and edge > 0 for edge in edges)
        return cls(*edges) if usable else None

    def along(self, axis: int) -> "VoxelSize":
        """Return the size as seen by slices along an axis, whose rows and columns are the other two."""
        return VoxelSize(*seen_along(axis, (self.z, self.y, self.x)))


def impossible(stated: str) -> str:
    """Return what a person should know of a voxel size that a file states and no voxel can have."""
    shown = stated if len(stated) <= _LONGEST else f"{stated[:_LONGEST]}…"
    return f"states {' '.join(shown.split())}, which no voxel can have: {IN_VOXELS}"


def seen_along(axis: int, lengths: Position) -> Position:
    """Return lengths along z, y and x as seen by slices along an axis."""
    others = list(lengths)
    first = others.pop(axis)
    return first, others[0], others[1]
