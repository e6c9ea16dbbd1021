"""Zarrs in small chunks, for tests of the readers."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr

SHAPE = (9, 12, 10)
CHUNKS = (4, 6, 5)


def write_zarr(path: Path, volume: np.ndarray, **options: Any) -> Path:
    array = zarr.create_array(path, shape=volume.shape, dtype=volume.dtype, **{"chunks": CHUNKS} | options)
    array[...] = volume
    return path
