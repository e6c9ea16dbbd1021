"""Products of responses and left vectors, tile by tile or slice by slice."""

import numpy as np
import pytest

from eigenfeatures.kernels.cuda import gram, memory


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixels", [5, 16, 35, 64])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_cross_products(count, pixels, dtype, monkeypatch):
    """Of whole numbers, whose sums are exact, with more tiles than slices and fewer."""
    monkeypatch.setattr(gram, "ADDED", 16)
    draw = np.random.default_rng(0)
    x = draw.integers(-9, 10, (count, 7, pixels)).astype(dtype)
    u = draw.integers(-9, 10, (count, 2, pixels)).astype(dtype)
    found = memory.to_host(gram.cross_products(memory.to_device(x), memory.to_device(u)))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.einsum("krn,kcn->krc", u, x, dtype=np.float64))


def test_products_are_added_in_float64(monkeypatch):
    """Of tiles of equal products, which float32 would round with every tile."""
    monkeypatch.setattr(gram, "ADDED", 1)
    x, u = np.full((1, 1, 3000), np.float32(1 / 3)), np.full((1, 1, 3000), np.float32(1))
    found = memory.to_host(gram.cross_products(memory.to_device(x), memory.to_device(u)))
    np.testing.assert_allclose(found, 3000 * np.float64(np.float32(1 / 3)), rtol=1e-14)
