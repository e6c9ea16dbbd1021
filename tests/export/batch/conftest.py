"""What the tests of batches share."""

from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def worker():
    """One thread beside the test's."""
    with ThreadPoolExecutor(1) as made:
        yield made
