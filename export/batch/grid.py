"""Where the pixels of a volume of maps lie in the volume that was scanned."""

from dataclasses import dataclass

from eigenfeatures.export.batch.source import Source


@dataclass(frozen=True)
class Grid:
    """A grid along z, y and x.

    Attributes
    ----------
    scale
        Distance of its pixels.
    origin
        Position of its first pixel.
    known
        Whether lengths are in micrometres, or in voxels since the stack states no size.
    """

    scale: tuple[float, float, float]
    origin: tuple[float, float, float]
    known: bool

    def coarser(self, factor: int) -> "Grid":
        """Return the grid whose pixels are means of ``factor`` × ``factor`` pixels of a slice."""
        z, y, x = self.scale
        shift = (factor - 1) / 2
        origin = (self.origin[0], self.origin[1] + shift * y, self.origin[2] + shift * x)
        return Grid((z, y * factor, x * factor), origin, self.known)


def grid_of(source: Source, stride: int, offset: float) -> Grid:
    """Return the grid of maps whose pixel i lies at ``offset + stride * i`` of what is read of a slice."""
    voxel = source.voxel_size
    z, y, x = (float(source.step), 1.0, 1.0) if voxel is None else (voxel.z, voxel.y, voxel.x)
    top, left = (source.region.top, source.region.left) if source.region else (0, 0)
    first = source.origin
    origin = (first[0], first[1] + (top + offset) * y, first[2] + (left + offset) * x)
    return Grid((z, y * stride, x * stride), origin, voxel is not None)
