"""What tests of the readers share, and those of training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_volumes import random_images
from zarr_files import SHAPE, write_zarr

from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.samples import SampleSet, open_samples

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder beside which others lie."""
    (tmp_path / "scan").mkdir()
    return tmp_path / "scan"


@pytest.fixture(scope="module")
def data(stacks: Path) -> Iterator[tuple[SampleSet, Preprocessing, np.ndarray, np.ndarray]]:
    """Yield samples, what is done to them first, and which slices to train with and to validate with."""
    with open_samples(stacks) as samples:
        everything = np.arange(len(samples))
        yield samples, Preprocessing("sobel"), everything[everything % 3 > 0], everything[everything % 3 == 0]
