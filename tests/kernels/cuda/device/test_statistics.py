"""Moments and standardised slices on a device against loops."""

import numpy as np
import pytest
import reference

from eigenfeatures.kernels import MASKS, OPERATORS
from eigenfeatures.kernels.cuda import memory, statistics, tile
from eigenfeatures.kernels.cuda.compile import SIMULATED

DTYPES = ("uint8", "uint16", "float32", "float64")
SHAPES = [(1, 1, 1), (2, 5, 7), (1, 17, 35)]
if not SIMULATED:
    SHAPES += [(3, 67, 331), (2, 40, 641), (300, 20, 20), (4, 266, 266)]


def images(shape, dtype, seed=0, offset=0):
    values = np.random.default_rng(seed).random(shape) * (255 if dtype == "uint8" else 3000) + offset
    host = values.astype(dtype)
    return host, memory.to_device(host)


def device_moments(given, operator="sobel"):
    out = memory.xp().full((len(given), 2, 3), 7.0)
    statistics.moments(given, MASKS[operator], out)
    return memory.to_host(out)


def device_standardized(given, operator="sobel"):
    working = np.float64 if given.dtype == np.float64 else np.float32
    out = memory.xp().full(given.shape, 7, working)
    statistics.standardized(given, MASKS[operator], out)
    return memory.to_host(out)


def sizes(host, operator="sobel"):
    return np.array([reference.gradient_magnitude(image, operator) for image in host])


def assert_moments(result, values, tolerance):
    """Count, mean and deviation of float64 values (N, H, W), to a tolerance of their range."""
    scale = tolerance * (1 + np.abs(values).max())
    assert (result[:, 0] == values[0].size).all()
    np.testing.assert_allclose(result[:, 1], values.mean((1, 2)), rtol=0, atol=scale)
    np.testing.assert_allclose(np.sqrt(result[:, 2] / result[:, 0]), values.std((1, 2)), rtol=0, atol=scale)


def assert_standardized(result, host, operator="sobel"):
    expected = np.array([reference.standardized(image) for image in sizes(host, operator)])
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-11 if host.dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_equal_loops(shape, dtype):
    host, given = images(shape, dtype)
    result = device_moments(given)
    assert_moments(result[:, 0], host.astype(np.float64), 1e-14)
    assert_moments(result[:, 1], sizes(host), 1e-14 if dtype == "float64" else 1e-7)
    np.testing.assert_array_equal(memory.to_host(given), host)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator(operator):
    host, given = images((1, 6, 9), "float32", seed=1)
    assert_moments(device_moments(given, operator)[:, 1], sizes(host, operator), 1e-7)
    assert_standardized(device_standardized(given, operator), host, operator)


def test_moments_of_tiles_are_joined(monkeypatch):
    monkeypatch.setattr(tile, "COLUMNS", 32)
    host, given = images((1, 2 * tile.ROWS + 2, 41), "uint16", seed=2)
    assert tile.tile_count(given) == 2 * 3
    result = device_moments(given)
    assert_moments(result[:, 0], host.astype(np.float64), 1e-14)
    assert_moments(result[:, 1], sizes(host), 1e-7)


def test_a_small_deviation_survives_a_large_mean():
    """A thousandth, on 10⁹: of squares of float64 about zero, nothing would be left."""
    host = 1e9 + np.random.default_rng(3).standard_normal((1, 9, 33)) * 1e-3
    count, _, squares = device_moments(memory.to_device(host))[0, 0]
    assert np.sqrt(squares / count) == pytest.approx(host.std(), rel=1e-3)


def test_no_slices():
    for shape in ((0, 5, 5), (0, 1024, 1024)):
        given = memory.xp().empty(shape, np.float32)
        assert device_moments(given).shape == (0, 2, 3)
        assert device_standardized(given).shape == shape


@pytest.fixture(params=["own_block", "small_blocks", "by_tiles"])
def way(request, monkeypatch):
    """The three ways to standardise, for slices of any size and number."""
    if request.param == "small_blocks":
        monkeypatch.setattr(statistics, "MANY", 0)
    if request.param == "by_tiles":
        monkeypatch.setattr(statistics, "OWNED", 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES)
def test_standardized_equals_loops(dtype):
    host, given = images((1, 18, 35), dtype, seed=4)
    assert_standardized(device_standardized(given), host)
    np.testing.assert_array_equal(memory.to_host(given), host)


@pytest.mark.usefixtures("way")
def test_standardized_by_several_tiles(monkeypatch):
    monkeypatch.setattr(tile, "COLUMNS", 32)
    monkeypatch.setattr(statistics, "COLUMNS", 32)
    monkeypatch.setattr(statistics, "OWNERS", 32)
    host, given = images((1, 2 * tile.ROWS + 3, 41), "uint8", seed=5)
    assert_standardized(device_standardized(given), host)


@pytest.mark.parametrize("shape", SHAPES)
def test_standardized_of_every_shape(shape):
    host, given = images(shape, "float32", seed=6)
    assert_standardized(device_standardized(given), host)


@pytest.mark.usefixtures("way")
def test_constant_slices_give_zeros_and_not_a_number_harms_no_other():
    host, _ = images((4, 6, 9), "float32", seed=7)
    host[0] = 3.3
    host[1, 2, 3] = np.nan
    host[3] = 100 + np.arange(9) % 2  # |∇Y| varies at the border alone
    result = device_standardized(memory.to_device(host))
    np.testing.assert_array_equal(result[0], 0)
    assert np.isnan(result[1]).all()
    assert_standardized(result[2:], host[2:])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("deviation", "constant"), [(0.5e-6, True), (2e-6, False)])
def test_what_counts_as_constant(deviation, constant):
    """Half of |∇Y| is 1 and half of it 1 + 2 deviations."""
    host = np.array([[[0.0, 2.0, 2.0, 4.0 + 4 * deviation]]])
    result = device_standardized(memory.to_device(host), "central")
    expected = np.zeros(4) if constant else np.array([-1.0, -1.0, 1.0, 1.0])
    np.testing.assert_allclose(result[0, 0], expected, atol=1e-8)


@pytest.mark.parametrize(("owned", "launches"), [(statistics.OWNED, 1), (0, 2)])
def test_launches_do_not_depend_on_the_batch(owned, launches, monkeypatch):
    launched = []

    def counting(kernel, *arguments, **named):
        launched.append(kernel.name)
        launch(kernel, *arguments, **named)

    launch = memory.launch
    monkeypatch.setattr(memory, "launch", counting)
    monkeypatch.setattr(statistics, "OWNED", owned)
    for count in (1, 3):
        launched.clear()
        _, given = images((count, 3, 4), "uint8")
        device_standardized(given)
        assert len(launched) == launches
        device_moments(given)
        assert len(launched) == launches + 1


def test_the_same_bits_again():
    _, given = images((1, 17, 35) if SIMULATED else (64, 266, 266), "float32", seed=8)
    first = device_moments(given)
    others = [device_moments(given) for _ in range(1 if SIMULATED else 20)]
    assert all((other == first).all() for other in others)
    standardized = device_standardized(given)
    np.testing.assert_array_equal(device_standardized(given), standardized)
