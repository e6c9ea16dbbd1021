"""Passes over responses on a device against NumPy in float64."""

import numpy as np
import pytest
from cuda_launch import launch
from numba import cuda

from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.compile import SIMULATED, WARP
from eigenfeatures.kernels.cuda.passes import MOST_CHANNELS, PARTIALS, normal_product

# One value, groups of channels that aren't full, several groups, and more columns than a tile.
SHAPES = [(1, 1), (2, 65), (3, 70), (7, 33)]
if not SIMULATED:
    SHAPES += [(16, 700), (128, 17689), (257, 99)]


def multiply(values, vectors, kept, out):
    direction = cuda.shared.array(MOST_CHANNELS, np.float64)
    totals = cuda.shared.array(MOST_CHANNELS, np.float64)
    weights = cuda.shared.array(MOST_CHANNELS, values.dtype)
    offsets = cuda.shared.array(MOST_CHANNELS, np.int32)
    partials = cuda.shared.array(PARTIALS, values.dtype)
    place, channels = cuda.blockIdx.x, vectors.shape[1]
    pixels = values.shape[1] // channels
    # Twice, as in an iteration: what one pass leaves in shared memory is no matter to the next.
    for _ in range(2):
        for c in range(cuda.threadIdx.x, channels, cuda.blockDim.x):
            direction[c] = vectors[place, c]
        cuda.syncthreads()
        x, products = values[place], kept[place]
        normal_product(x, channels, pixels, direction, weights, offsets, partials, products, totals)
    for c in range(cuda.threadIdx.x, channels, cuda.blockDim.x):
        out[place, c] = totals[c]


def responses(shape, dtype, count=2):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_normal_product(shape, dtype):
    x, vectors = responses(shape, dtype), np.random.default_rng(1).standard_normal((2, shape[0]))
    out, kept = memory.to_device(np.zeros((2, shape[0]))), memory.to_device(np.zeros((2, shape[1]), dtype))
    given = [memory.to_device(array) for array in (x.reshape(2, -1), vectors)]
    launch(multiply, 2, passes.block_of(shape[0]), *given, kept, out)
    wide = x.astype(np.float64)
    expected = np.einsum("ncj,nkj,nk->nc", wide, wide, vectors.astype(dtype), optimize=True)
    size = np.einsum("ncj,nkj,nk->nc", *map(np.abs, (wide, wide, vectors)), optimize=True)
    assert np.abs(memory.to_host(out) - expected).max() <= 4 * np.finfo(dtype).eps * size.max()
    products = np.einsum("ncj,nc->nj", wide, vectors.astype(dtype), optimize=True)
    size = np.einsum("ncj,nc->nj", *map(np.abs, (wide, vectors)), optimize=True)
    assert np.abs(memory.to_host(kept) - products).max() <= 4 * np.finfo(dtype).eps * size.max()


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
def test_blocks_are_whole_groups_of_warps(channels):
    groups = -(-channels // passes.CHANNELS)
    warps, rest = divmod(passes.block_of(channels), WARP)
    assert rest == warps % groups == 0
    assert warps <= max(groups, passes.FEWEST_WARPS)


def surveyed(maps):
    out = memory.to_device(np.zeros((len(maps), 4)))
    memory.launch(passes.survey, len(maps), passes.SURVEYORS, memory.to_device(maps), out)
    return memory.to_host(out).T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_survey(dtype):
    values = responses((70,), dtype)
    values[1] = abs(values[1])
    negative, squares, _, _ = surveyed(values)
    np.testing.assert_array_equal(negative, [(values[0] < 0).sum(), 0])
    np.testing.assert_allclose(squares, (values.astype(np.float64) ** 2).sum(axis=1), rtol=1e-14)


@pytest.mark.filterwarnings("ignore:overflow")
def test_survey_far_out():
    """Where squares of float64 leave its range, one of the other sums holds them."""
    values = responses((70,), "float64")
    expected = (values**2).sum(axis=1)
    reduced = surveyed(values * 2.0**900)[2]
    np.testing.assert_allclose(reduced * 2.0**-600, expected, rtol=1e-14)
    magnified = surveyed(values * 2.0**-900)[3]
    np.testing.assert_allclose(magnified * 2.0**600, expected, rtol=1e-14)


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
    memory.launch(passes.vector_sums, 2, passes.SURVEYORS, memory.to_device(values), out)
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
    memory.launch(
        passes.scaled, 2, passes.SURVEYORS, memory.to_device(values), memory.to_device(factors), out
    )
    expected = (values.astype(np.float64) * factors[:, np.newaxis]).astype(to)
    np.testing.assert_array_equal(memory.to_host(out), expected)
