"""Windows cover the slice, and their answers are blended as a loop over pixels does it."""

import math

import numpy as np
import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.windows import Windows, window_starts

CASES = [
    # slice, window, overlap
    ((40, 57), (16, 16), 0.5),
    ((40, 57), (16, 16), 0.0),
    ((31, 16), (16, 16), 0.75),
    ((16, 16), (16, 16), 0.5),
    ((33, 41), (15, 20), 0.3),
]


def oracle(windows, probabilities, row, column):
    """The blended probabilities at one position, window by window."""
    total, sums = 0.0, np.zeros(probabilities.shape[1])
    for region, found in zip(windows.regions, probabilities, strict=True):
        y, x = row - region.top + 0.5, column - region.left + 0.5
        if 0 < y < region.height and 0 < x < region.width:
            weight = math.sin(math.pi * y / region.height) ** 2 * math.sin(math.pi * x / region.width) ** 2
            total += weight
            sums += weight * found
    return sums / total


def answers(windows, classes=3):
    drawn = np.random.default_rng(7).random((len(windows.regions), classes))
    return drawn / drawn.sum(1, keepdims=True)


@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
def test_windows_lie_inside_and_cover_every_pixel(size, window, overlap):
    covered = np.zeros(size, int)
    for region in Windows(size, window, overlap).regions:
        assert (region.height, region.width) == window
        assert region.top + region.height <= size[0]
        assert region.left + region.width <= size[1]
        covered[region.top :, region.left :][: window[0], : window[1]] += 1
    assert covered.min() > 0


@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
def test_maps_are_those_of_the_loops(size, window, overlap):
    windows = Windows(size, window, overlap)
    probabilities = answers(windows)
    found = windows.class_map(probabilities)
    assert found.shape == (3, *windows.shape)
    for i in range(windows.shape[0]):
        for j in range(windows.shape[1]):
            row = min(i * windows.step + (windows.step - 1) / 2, size[0] - 1)
            column = min(j * windows.step + (windows.step - 1) / 2, size[1] - 1)
            expected = oracle(windows, probabilities, row, column)
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)


@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
def test_the_mean_is_that_of_all_pixels(size, window, overlap):
    windows = Windows(size, window, overlap)
    probabilities = answers(windows)
    pixels = [
        oracle(windows, probabilities, row, column) for row in range(size[0]) for column in range(size[1])
    ]
    np.testing.assert_allclose(windows.mean(probabilities), np.mean(pixels, 0), rtol=1e-6)


@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
def test_the_same_answer_everywhere_gives_a_flat_map(size, window, overlap):
    windows = Windows(size, window, overlap)
    same = np.tile([0.2, 0.7, 0.1], (len(windows.regions), 1))
    found = windows.class_map(same)
    np.testing.assert_allclose(found, np.broadcast_to(np.array([0.2, 0.7, 0.1])[:, None, None], found.shape))
    np.testing.assert_allclose(windows.mean(same), [0.2, 0.7, 0.1], rtol=1e-6)


def test_a_border_between_two_classes_is_where_it_is():
    """Windows on the left say one class and those on the right the other: the map goes over once."""
    windows = Windows((32, 128), (32, 32), 0.75)
    right = np.array([region.left + 16 > 64 for region in windows.regions])
    found = windows.class_map(np.stack([~right, right], 1))
    profile = found[1, 0]
    assert (np.diff(profile) >= -1e-6).all()
    assert profile[:4].max() == 0
    np.testing.assert_allclose(profile[-4:], 1)
    # The negative control: answers in another order give another map.
    assert not np.allclose(windows.class_map(np.stack([~right, right], 1)[::-1]), found)


@pytest.mark.parametrize(
    ("length", "side", "step", "expected"),
    [
        (16, 16, 8, [0]),
        (17, 16, 8, [0, 1]),
        (32, 16, 8, [0, 8, 16]),
        (33, 16, 8, [0, 8, 16, 17]),
        (40, 16, 16, [0, 16, 24]),
    ],
)
def test_the_last_window_is_shifted_inside(length, side, step, expected):
    assert window_starts(length, side, step) == expected


@pytest.mark.parametrize("overlap", [-0.1, 0.95, 1.0, math.nan])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(InputError, match=r"--overlap .* is out of range; give 0 to 0.9"):
        Windows((40, 40), (16, 16), overlap)


@pytest.mark.parametrize("size", [(15, 40), (40, 15)])
def test_a_slice_smaller_than_the_window_is_refused(size):
    with pytest.raises(InputError, match="pixels are smaller than the model's window of 16×16"):
        Windows(size, (16, 16))
