"""How a job is done, and how a person says so."""

from dataclasses import dataclass, field
from typing import get_args

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Missing, Region, VoxelSize
from eigenfeatures.export.batch.plan import parse_bytes
from eigenfeatures.export.batch.source import Reading
from eigenfeatures.export.batch.volumes import FORMATS

# More are a mistake: each has memory of its own.
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Options:
    """How a job is done.

    Attributes
    ----------
    outputs : tuple of str, optional
        Names of the model's outputs; by default all but response maps.
    batch : int, optional
        Slices that the engine gets at once.
    max_memory : str, optional
        What the process may hold, such as ``4GB``; by default half of what is free.
    engine, device : str
        As for `eigenfeatures.export.batch.engine.open_engine`.
    tf32 : bool
        Let convolutions and matrix products on a GPU round their factors to 10 bits.
    threads : int, optional
        That the model computes with on the CPU; on a cluster, in each worker.
    format : str
        Of volumes: ``zarr`` or ``tiff``.
    resume : bool
        Go on with the same job in the same folder.
    profile : bool
        Write ``trace.json``.
    cluster : str, optional
        Where to compute: ``local:N`` or the address of a scheduler of Dask; None for this process.
    reading : Reading
        Which slices, and which part of them.
    """

    outputs: tuple[str, ...] | None = None
    batch: int | None = None
    max_memory: str | None = None
    engine: str = "auto"
    device: str = "auto"
    tf32: bool = False
    threads: int | None = None
    format: str = "zarr"
    resume: bool = False
    profile: bool = False
    cluster: str | None = None
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise InputError(f"--batch-size {self.batch} is out of range; give at least 1")
        if self.max_memory is not None:
            parse_bytes(self.max_memory)
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise InputError(f"--threads {self.threads} is out of range; give 1 to {_MOST_THREADS}")
        if self.format not in FORMATS:
            raise InputError(f"--format '{self.format}' is unknown; choose one of {', '.join(FORMATS)}")
        if self.cluster is not None and self.format == "tiff":
            raise InputError("--format tiff can't be written by several workers; use zarr with --cluster")
        if self.cluster is not None and self.profile:
            raise InputError("--profile is of one process; leave it out with --cluster and see the dashboard")


def read_reading(
    axis: int,
    roi: str | None,
    every: int,
    shape: str | None,
    dtype: str | None,
    missing: str,
    overlap: float | None,
    voxel_size: str | None,
) -> Reading:
    """Read which slices to take from the texts of options.

    Raises
    ------
    InputError
        When one of them can't be read.
    """
    sides: tuple[int, ...] | None = None
    if shape is not None:
        try:
            sides = tuple(int(side) for side in shape.split(","))
        except ValueError:
            sides = ()
        if len(sides) != 3 or min(sides) < 1:
            raise InputError(f"--shape {shape!r} is no shape; give slices,height,width such as 512,300,300")
    for choice in get_args(Missing):
        if choice == missing:
            region = None if roi is None else Region.parse(roi)
            voxel = None if voxel_size is None else _voxel_size(voxel_size)
            return Reading(axis, every, region, sides, dtype, choice, overlap, voxel)
    raise InputError(f"--missing '{missing}' is unknown; choose one of {', '.join(get_args(Missing))}")


def _voxel_size(text: str) -> VoxelSize:
    """Read "2" or "3,2,2": the edge of a cube, or depth, height and width."""
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError:
        edges = []
    voxel = VoxelSize.of(edges * 3 if len(edges) == 1 else edges)
    if voxel is None:
        raise InputError(f"--voxel-size {text!r} is no size; give µm above 0, as one edge or as Z,Y,X")
    return voxel
