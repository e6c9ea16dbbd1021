"""What the tests of batches share."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import tifffile
from commands import random_stack


@pytest.fixture
def worker():
    """One thread beside the test's."""
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def stack(tmp_path):
    """Few and small slices; files that need others have a stack of their own."""
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((8, 16, 16)), photometric="minisblack")
    return tmp_path / "scan.tif"
