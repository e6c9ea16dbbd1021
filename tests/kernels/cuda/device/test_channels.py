"""The strongest channel on a device against loops."""

import numpy as np
import pytest
import reference

from eigenfeatures.kernels.cuda import channels, memory
from eigenfeatures.kernels.cuda.compile import SIMULATED

# Fewer pixels than channels, and more than a block's threads take at once.
SHAPES = [(1, 1, 1), (2, 3, 1), (1, 2, 700)]
if not SIMULATED:
    SHAPES += [(3, 2, 5000), (2, 700, 3), (5, 128, 17689), (1064, 4, 100)]


def strongest(maps):
    count = len(maps)
    index, values = memory.to_device(np.full(count, 7)), memory.xp().full((3, count), 7.0)
    channels.strongest(memory.to_device(maps), index, *values)
    return memory.to_host(index), *memory.to_host(values)


def assert_equals_loops(maps):
    result = np.array(strongest(maps)).T
    expected = [reference.strongest_channel(image[:, np.newaxis]) for image in maps[:20]]
    np.testing.assert_allclose(result[:20], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_loops(shape):
    # Few distinct values, so that ties are common.
    maps = np.random.default_rng(0).integers(-3, 4, shape)
    assert_equals_loops(maps.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_every_dtype(dtype):
    assert_equals_loops((np.random.default_rng(1).random((1, 3, 50)) * 200).astype(dtype))


def test_first_of_equal_channels_and_nothing_positive():
    maps = np.full((2, 5, 9), -2.0, np.float32)
    maps[0, 2, 8] = maps[0, 4, 0] = 5
    maps[1, 3] = -1
    index, largest, mean, positive_mean = strongest(maps)
    np.testing.assert_array_equal(index, [2, 3])
    np.testing.assert_array_equal(largest, [5, -1])
    np.testing.assert_allclose(mean, [(5 - 16) / 9, -1])
    np.testing.assert_array_equal(positive_mean, [5, 0])


@pytest.mark.parametrize("pixel", [0, 270, 399])
def test_not_a_number_is_the_largest(pixel):
    maps = np.random.default_rng(2).random((2, 3, 400)).astype(np.float32)
    clean = np.array(strongest(maps))
    maps[1, 1, pixel] = maps[1, 2, 5] = np.nan
    result = np.array(strongest(maps))
    assert result[0, 1] == 1
    assert np.isnan(result[1:, 1]).all()
    np.testing.assert_array_equal(result[:, 0], clean[:, 0])


@pytest.mark.parametrize("largest", [0, 66, 3 * channels.THREADS])
def test_more_channels_than_threads(largest):
    told = np.zeros((1, 3 * channels.THREADS + 1, 4))
    told[0, :, channels.SUM] = np.arange(told.shape[1])
    told[0, [largest, -1], channels.MAXIMUM] = 2
    index, values = memory.to_device(np.full(1, 7)), memory.xp().full((3, 1), 7.0)
    memory.launch(channels.choose, 1, channels.THREADS, memory.to_device(told), 10, index, *values)
    assert memory.to_host(index)[0] == largest
    np.testing.assert_array_equal(memory.to_host(values)[:, 0], [2, largest / 10, 0])


def test_infinite_activations():
    maps = np.ones((2, 2, 4), np.float32)
    maps[0, 1, 2], maps[1, 0, :2] = np.inf, (np.inf, -np.inf)
    index, largest, mean, _ = strongest(maps)
    np.testing.assert_array_equal(index, [1, 0])
    np.testing.assert_array_equal(largest, np.inf)
    assert mean[0] == np.inf
    assert np.isnan(mean[1])


def test_no_slices():
    assert [array.shape for array in strongest(np.empty((0, 3, 4), np.float32))] == 4 * [(0,)]
