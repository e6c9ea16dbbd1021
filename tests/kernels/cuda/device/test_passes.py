"""Passes over responses on a device against NumPy in float64."""

import numpy as np
import pytest

from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.compile import SIMULATED, WARP
from eigenfeatures.kernels.cuda.survey import SURVEYORS

# One value, groups of channels that aren't full, several groups, and more columns than a tile.
SHAPES = [(1, 1), (2, 65), (3, 70), (7, 33)]
if not SIMULATED:
    SHAPES += [(16, 700), (128, 17689), (256, 99), (257, 99)]


def responses(shape, dtype, count=2):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(dtype)


def multiplied(x, vectors, counts=(1, 1), limits=(2, 2)):
    """X y as the kept products (N, 2, n), and the shares of Xᵀ X y (N, S, C); what isn't written is NaN."""
    count, channels, pixels = x.shape
    segments = passes.segment_count(channels, pixels)
    kept = memory.to_device(np.full((count, 2, pixels), np.nan, x.dtype))
    shares = memory.to_device(np.full((count, segments, channels), np.nan))
    places = [memory.to_device(np.array(numbers, np.int32)) for numbers in (counts, limits)]
    given = [memory.to_device(array) for array in (x.reshape(count, -1), vectors)]
    kernel, threads = passes.multiply[x.dtype], passes.block_of(channels)
    memory.launch(kernel, count * segments, threads, *given, *places, kept, shares)
    return memory.to_host(kept), memory.to_host(shares)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_multiply(shape, dtype):
    if shape[0] > passes.most_channels(np.dtype(dtype)):
        pytest.skip("more channels than a block has registers for, which no call makes")
    x, vectors = responses(shape, dtype), np.random.default_rng(1).standard_normal((2, shape[0]))
    kept, shares = multiplied(x, vectors)
    wide = x.astype(np.float64)
    expected = np.einsum("ncj,nkj,nk->nc", wide, wide, vectors.astype(dtype), optimize=True)
    size = np.einsum("ncj,nkj,nk->nc", *map(np.abs, (wide, wide, vectors)), optimize=True)
    assert np.abs(shares.sum(axis=1) - expected).max() <= 4 * np.finfo(dtype).eps * size.max()
    products = np.einsum("ncj,nc->nj", wide, vectors.astype(dtype), optimize=True)
    size = np.einsum("ncj,nc->nj", *map(np.abs, (wide, vectors)), optimize=True)
    assert np.abs(kept[:, 1] - products).max() <= 4 * np.finfo(dtype).eps * size.max()
    assert np.isnan(kept[:, 0]).all()


def test_nothing_is_multiplied_once_the_limit_is_reached():
    x, vectors = responses((3, 70), "float32"), np.ones((2, 3))
    kept, shares = multiplied(x, vectors, counts=(1, 0), limits=(1, 2))
    assert np.isnan(kept[0]).all()
    assert np.isnan(shares[0]).all()
    alone_kept, alone_shares = multiplied(x[1:], vectors[1:], counts=(0,), limits=(1,))
    np.testing.assert_array_equal(kept[1], alone_kept[0])
    np.testing.assert_array_equal(shares[1], alone_shares[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
def test_blocks_are_whole_groups_of_warps(channels):
    groups = -(-channels // passes.CHANNELS)
    warps, rest = divmod(passes.block_of(channels), WARP)
    assert rest == warps % groups == 0
    assert warps <= max(groups, passes.FEWEST_WARPS)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_left_products(shape, dtype, rank):
    """More vectors, channels and columns than a block takes at once, and fewer."""
    channels, pixels = shape
    x = responses(shape, dtype)
    v = np.random.default_rng(1).standard_normal((2, rank, channels))
    left = memory.to_device(np.zeros((2, rank, pixels), dtype))
    given = memory.to_device(x.reshape(2, -1)), memory.to_device(v)
    memory.launch(
        passes.left_products, passes.left_blocks(2, rank, pixels), passes.LEFT_THREADS, *given, left
    )
    exact = v @ x.astype(np.float64)
    np.testing.assert_allclose(
        memory.to_host(left), exact, rtol=np.finfo(dtype).eps, atol=1e-14 * abs(exact).max()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vector_sums(dtype):
    values = responses((70,), dtype)
    out = memory.to_device(np.zeros((2, 3)))
    memory.launch(passes.vector_sums, 2, SURVEYORS, memory.to_device(values), out)
    wide = values.astype(np.float64)
    expected = [(wide**2).sum(axis=1), wide.sum(axis=1), (wide * abs(wide)).sum(axis=1)]
    np.testing.assert_allclose(memory.to_host(out), np.stack(expected, axis=1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "to"), [("float32", "float32"), ("float32", "float64"), ("float64", "float64")]
)
def test_scaled(dtype, to):
    """A subnormal number keeps its digits."""
    values = responses((70,), dtype)
    values[1] *= np.dtype(dtype).type(1e-42 if dtype == "float32" else 1e-310)
    factors = np.array([0.5, 2.0**100])
    out = memory.to_device(np.zeros(values.shape, to))
    memory.launch(passes.scaled, 2, SURVEYORS, memory.to_device(values), memory.to_device(factors), out)
    expected = (values.astype(np.float64) * factors[:, np.newaxis]).astype(to)
    np.testing.assert_array_equal(memory.to_host(out), expected)
