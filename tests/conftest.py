"""Where the real CT stacks lie; tests that need them skip, saying why, where they are absent."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("EIGENFEATURES_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"real CT data are absent: no folder {folder} (set EIGENFEATURES_DATA)")
    return folder


@pytest.fixture(scope="session")
def ct_data() -> Path:
    """The folder of real CT stacks, one entry a material."""
    return _folder("ct")


@pytest.fixture(scope="session")
def odd_tiffs() -> Path:
    """Valid TIFFs that readers stumble over."""
    return _folder("odd_tiffs")
