"""Which files a volume of OME-Zarr has, whether they are there or not."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

# Levels are added until the longer side is at most this.
SMALLEST_SIDE = 128

# Of a volume and of each of its levels.
METADATA = "zarr.json"

_CHUNK_BYTES = 4 * 2**20
_CHUNK_SIDE = 1024


@dataclass(frozen=True)
class ZarrLayout:
    """A float32 volume ``(C, Z, Y, X)`` with in-plane levels of half the size each, in chunks.

    A chunk holds slices of one block only, and all of a block's chunks are stored, whatever they hold.

    Attributes
    ----------
    path
        Its folder.
    shape
        Channels, slices, height, width.
    block
        Slices a block.
    """

    path: Path
    shape: tuple[int, int, int, int]
    block: int

    @property
    def levels(self) -> int:
        """How many there are."""
        return 1 + max(0, math.ceil(math.log2(max(self.shape[2:]) / SMALLEST_SIDE)))

    @cached_property
    def depth(self) -> int:
        """Slices a chunk."""
        side = [min(length, _CHUNK_SIDE) for length in self.shape[2:]]
        fitting = max(1, _CHUNK_BYTES // (4 * math.prod(side)))
        depth = next(d for d in range(min(self.block, fitting), 0, -1) if self.block % d == 0)
        return min(depth, self.shape[1])

    def plane(self, level: int) -> tuple[int, int]:
        """Height and width of a level."""
        height, width = (math.ceil(side / 2**level) for side in self.shape[2:])
        return height, width

    def chunks(self, level: int) -> tuple[int, int, int, int]:
        """Shape of the chunks of a level."""
        height, width = (min(side, _CHUNK_SIDE) for side in self.plane(level))
        return 1, self.depth, height, width

    def metadata(self) -> list[Path]:
        """Return the files by which readers know the volume and its levels."""
        return [self.path / METADATA, *(self.path / str(n) / METADATA for n in range(self.levels))]

    def files(self, first: int, count: int) -> Iterator[Path]:
        """Yield the chunks of some slices from `first` on, of all channels and levels."""
        layers = range(first // self.depth, -(-(first + count) // self.depth))
        for level in range(self.levels):
            sides = zip(self.plane(level), self.chunks(level)[2:], strict=True)
            rows, columns = (range(-(-side // chunk)) for side, chunk in sides)
            for place in product(range(self.shape[0]), layers, rows, columns):
                yield self.path.joinpath(str(level), "c", *map(str, place))


def is_whole(file: Path) -> bool:
    """Tell whether a file is there and not empty, as a crash of the machine may leave it."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
