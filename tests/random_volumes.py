"""Volumes of random values for tests of the readers."""

import numpy as np

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)
SHAPE = (7, 37, 45)


def random_images(dtype: type, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return values over the whole range of an integer type, or large ones of float32."""
    rng = np.random.default_rng(3)
    if dtype is np.float32:
        return rng.normal(3e4, 1e3, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
