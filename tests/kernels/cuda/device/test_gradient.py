"""Gradients on a device against loops."""

import numpy as np
import pytest
import reference

from eigenfeatures.kernels import MASKS, OPERATORS
from eigenfeatures.kernels.cpu import gradient as loops
from eigenfeatures.kernels.cuda import gradient, memory, tile
from eigenfeatures.kernels.cuda.compile import SIMULATED

DTYPES = ("uint8", "uint16", "float32", "float64")
# One pixel, one row, one column, primes, more than one tile down, the widest tile, of which a lane loads as
# many chunks as it may, and two across; on hardware also whole slices.
SHAPES = [(2, 1, 1), (1, 1, 11), (1, 7, 1), (2, 5, 7), (1, 19, 37), (2, 4, 320), (1, 3, 331)]
if not SIMULATED:
    SHAPES += [(3, 67, 331), (1, 40, 641), (5, 150, 150), (4, 266, 266)]


def images(shape, dtype, seed=0, offset=0):
    """Random images that start `offset` elements into a buffer, on the host and on the device."""
    scale = 255 if dtype == "uint8" else 3000
    values = np.random.default_rng(seed).random(np.prod(shape) + offset) * scale
    buffer = values.astype(dtype)
    return buffer[offset:].reshape(shape), memory.to_device(buffer)[offset:].reshape(shape)


def working(dtype):
    return np.float64 if dtype == "float64" else np.float32


def filled(shape, dtype, value=7):
    return memory.xp().full(shape, value, working(dtype))


def device_gradient(given, operator, dtype):
    gy, gx = filled(given.shape, dtype), filled(given.shape, dtype)
    gradient.gradient(given, MASKS[operator], gy, gx)
    return memory.to_host(gy), memory.to_host(gx)


def device_magnitude(given, operator, dtype, mean=0.0, factor=1.0):
    out = filled(given.shape, dtype)
    gradient.magnitude(given, MASKS[operator], mean, factor, out)
    return memory.to_host(out)


def assert_close(result, expected, dtype):
    """Within some roundings of the largest value, as differences cancel."""
    bound = 8 * np.finfo(working(dtype)).eps * max(np.abs(expected).max(), 1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_loops(shape, dtype):
    host, given = images(shape, dtype)
    expected = np.array([reference.gradient(image, "sobel") for image in host])
    gy, gx = device_gradient(given, "sobel", dtype)
    assert_close(gy, expected[:, 0], dtype)
    assert_close(gx, expected[:, 1], dtype)
    assert_close(device_magnitude(given, "sobel", dtype), np.hypot(*expected.swapaxes(0, 1)), dtype)
    np.testing.assert_array_equal(memory.to_host(given), host)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator(operator):
    host, given = images((1, 6, 9), "float32", seed=1)
    expected = np.array(reference.gradient(host[0], operator))
    gy, gx = device_gradient(given, operator, "float32")
    assert_close(gy[0], expected[0], "float32")
    assert_close(gx[0], expected[1], "float32")
    assert_close(device_magnitude(given, operator, "float32")[0], np.hypot(*expected), "float32")


@pytest.mark.parametrize("offset", [1, 2, 5, 15])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_views_that_are_not_aligned(dtype, offset):
    host, given = images((2, 3, 9), dtype, seed=2, offset=offset)
    expected = np.array([reference.gradient_magnitude(image, "sobel") for image in host])
    assert_close(device_magnitude(given, "sobel", dtype), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_side_by_side(dtype, monkeypatch):
    """Tiles of 32 columns: the last one is narrower, and each row has its own alignment."""
    monkeypatch.setattr(tile, "COLUMNS", 32)
    host, given = images((1, tile.ROWS + 2, 71), dtype, seed=3, offset=1)
    assert tile.tile_count(given) == (5 if dtype == "float64" else 3) * 2
    expected = reference.gradient_magnitude(host[0], "scharr")
    assert_close(device_magnitude(given, "scharr", dtype)[0], expected, dtype)


def test_more_slices_than_one_launch_takes(monkeypatch):
    if SIMULATED:
        monkeypatch.setattr(tile, "MOST_SLICES", 2)
    count = 2 * tile.MOST_SLICES + 1
    host, given = images((count, 2, 3), "uint8", seed=4)
    result = device_magnitude(given, "prewitt", "uint8")
    for k in (0, 1, tile.MOST_SLICES - 1, tile.MOST_SLICES, count - 1):
        assert_close(result[k], reference.gradient_magnitude(host[k], "prewitt"), "uint8")


def test_no_slices():
    _, given = images((0, 5, 5), "float32")
    assert device_magnitude(given, "sobel", "float32").shape == (0, 5, 5)
    assert device_gradient(given, "sobel", "float32")[0].shape == (0, 5, 5)


def test_mean_and_factor():
    host, given = images((3, 4, 5), "uint16", seed=5)
    sizes = np.array([reference.gradient_magnitude(image, "sobel") for image in host])
    assert_close(device_magnitude(given, "sobel", "uint16", 20, 0.5), (sizes - 20) * 0.5, "uint16")


def test_a_large_offset_keeps_the_digits():
    host, _ = images((1, 9, 9), "float32", seed=6)
    lifted = (host / 3000 + 30000).astype(np.float32)
    expected = reference.gradient_magnitude(lifted[0], "sobel")
    result = device_magnitude(memory.to_device(lifted), "sobel", "float32")
    np.testing.assert_allclose(result[0], expected, rtol=1e-5)


def cpu_gradient(host, dtype):
    host.flags.writeable = False
    gy, gx = np.empty(host.shape, working(dtype)), np.empty(host.shape, working(dtype))
    loops.gradient(host, MASKS["sobel"], gy, gx)
    return gy, gx


def test_not_a_number_stays_where_it_is():
    host, _ = images((2, 7, 9), "float32", seed=7)
    host[0, 3, 4], host[1, 0, 0] = np.nan, np.inf
    result = np.array(device_gradient(memory.to_device(host), "sobel", "float32"))
    expected = np.array(cpu_gradient(host, "float32"))
    assert np.isnan(result[:, 0]).sum() == 12
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_equals_the_cpu(dtype):
    host, given = images((1, 17, 23), dtype, seed=8)
    result, expected = np.array(device_gradient(given, "sobel", dtype)), np.array(cpu_gradient(host, dtype))
    assert_close(result, expected, dtype)
    if dtype == "uint8":  # integers in float32: nothing is rounded
        np.testing.assert_array_equal(result, expected)
