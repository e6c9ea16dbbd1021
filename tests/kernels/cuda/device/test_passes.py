"""Passes over responses on a device against NumPy in float64."""

import numpy as np
import pytest
from numba import cuda

from eigenfeatures.kernels.cuda import memory, passes
from eigenfeatures.kernels.cuda.compile import SIMULATED, WARP, Kernel
from eigenfeatures.kernels.cuda.passes import MOST_CHANNELS, PARTIALS, normal_product

# One value, groups of channels that aren't full, several groups, and more columns than a tile.
SHAPES = [(1, 1), (2, 65), (3, 70), (7, 33)]
if not SIMULATED:
    SHAPES += [(16, 700), (128, 17689), (257, 99)]


def multiply(values, scales, vectors, out):
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
        x, scale = values[place], scales[place]
        normal_product(x, channels, pixels, scale, direction, weights, offsets, partials, totals)
    for c in range(cuda.threadIdx.x, channels, cuda.blockDim.x):
        out[place, c] = totals[c]


def responses(shape, dtype, count=2):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_normal_product(shape, dtype):
    x, vectors = responses(shape, dtype), np.random.default_rng(1).standard_normal((2, shape[0]))
    scales = np.array([1, 0.5], dtype)
    out = memory.to_device(np.zeros((2, shape[0])))
    given = [memory.to_device(array) for array in (x.reshape(2, -1), scales, vectors)]
    memory.launch(Kernel(multiply, (), 1024, None, ""), 2, passes.block_of(shape[0]), *given, out)
    wide = x.astype(np.float64) * scales[:, np.newaxis, np.newaxis]
    expected = np.einsum("ncj,nkj,nk->nc", wide, wide, vectors.astype(dtype), optimize=True)
    size = np.einsum("ncj,nkj,nk->nc", *map(np.abs, (wide, wide, vectors)), optimize=True)
    assert np.abs(memory.to_host(out) - expected).max() <= 4 * np.finfo(dtype).eps * size.max()


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_left_vectors(shape, dtype):
    channels, pixels = shape
    x = responses(shape, dtype)
    scales = np.array([1, 0.5], dtype)
    v = np.random.default_rng(1).standard_normal((2, 2, channels))
    u, sums = np.zeros((2, 2, pixels), dtype), np.zeros((2, 2, 4))
    arrays = [x.reshape(2, -1), scales, v, u, sums, np.zeros((2, 2, channels))]
    given = [memory.to_device(array) for array in arrays]
    memory.launch(passes.left_vectors, 4, passes.LEFT_WARPS * WARP, *given)
    u, sums, products = (memory.to_host(array) for array in given[3:])

    wide = x.astype(np.float64) * scales[:, np.newaxis, np.newaxis]
    exact = v @ wide
    np.testing.assert_allclose(u, exact, rtol=np.finfo(dtype).eps, atol=1e-14 * abs(exact).max())
    stored = u.astype(np.float64)
    lost = ((exact - stored) ** 2).sum(axis=2)
    expected = [(stored**2).sum(axis=2), lost, stored.sum(axis=2), (stored * abs(stored)).sum(axis=2)]
    np.testing.assert_allclose(sums, np.stack(expected, axis=2), rtol=1e-6, atol=1e-12 * pixels)
    across = stored @ wide.transpose(0, 2, 1)
    size = (abs(stored) @ abs(wide).transpose(0, 2, 1)).max()
    np.testing.assert_allclose(products, across, atol=4 * np.finfo(dtype).eps * size)
