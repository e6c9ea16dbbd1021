"""What tests of the readers share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_volumes import random_images
from zarr_files import SHAPE, write_zarr

# How to write a Zarr, and the file with slice 4.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "format 2": ({"zarr_format": 2}, "1.0.1"),
    "format 3": ({"zarr_format": 3}, "c/1/0/1"),
    "shards": ({"shards": (4, 12, 10)}, "c/1/0/0"),
}


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Return a Zarr, and the file of a chunk that holds a part of slices 4 to 7."""
    options, file = KINDS[request.param]
    volume = random_images(np.uint8, SHAPE)
    path = write_zarr(tmp_path / "v.zarr", volume, compressors=None, **options)
    return path, path / file
