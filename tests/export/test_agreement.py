"""In which units an exported file is compared, and when a vector is left out."""

import numpy as np
import pytest
import spectra

from eigenfeatures.export.agreement import TOLERANCE, ExportCheck, _by_kernels, _difference


def compared(name, ours, theirs, decided=None, **expected):
    found = {"alpha_index": np.array([1]), name: np.asarray(ours)}
    return _difference(name, found, {name: np.asarray(theirs), **expected}, decided)


def test_small_numbers_are_compared_as_they_are_and_large_ones_relatively():
    assert compared("probabilities", [[0.1, 0.9]], [[0.2, 0.8]]) == pytest.approx(0.1)
    assert compared("logits", [[10.0, 1000.0]], [[11.0, 1000.0]]) == pytest.approx(1e-3)
    assert compared("relu2", [[0.01]], [[0.02]]) == pytest.approx(0.01)
    assert compared("singular_values", [[100.0, 4.0]], [[100.0, 5.0]]) == pytest.approx(0.01)
    assert compared("singular_values", [[0.0]], [[0.0]]) == 0


def test_ratios_of_singular_values_near_zero_are_compared_by_their_squares():
    assert compared("gap", [0.0], [4.5e-4]) == pytest.approx(100 * 4.5e-4**2)
    assert compared("gap", [0.0], [1.1e-3]) > TOLERANCE
    assert compared("gap", [0.0102], [0.01]) == pytest.approx(2e-4)
    assert compared("singular_values", [[10.0, 0.0]], [[10.0, 4.5e-3]]) == pytest.approx(100 * 4.5e-4**2)
    assert compared("singular_values", [[10.1, 0.0]], [[10.0, 0.0]]) == pytest.approx(0.01)
    assert compared("singular_values", [[-7.0, -3.5]], [[1.0, 0.5]]) > 1
    assert compared("gap", [-0.6], [0.5]) > 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_infinitely_far(value):
    assert compared("gap", [0.5, value], [0.5, 0.5]) == np.inf


def test_one_of_two_equally_strong_channels_is_right_and_a_weaker_one_is_not():
    mean = {"channel_mean": np.array([[1.0, 2.0, 9.0]])}
    for strengths, difference in (([4.0, 4.0, 0.0], 0), ([4.0, 3.0, 0.0], 0.25)):
        largest = {"alpha_maximum": np.array([4.0]), "channel_maximum": np.array([strengths])}
        assert compared("alpha_index", [1], [0], **largest) == pytest.approx(difference)
    assert compared("alpha_mean", [2.0], [1.0], **mean) == 0
    assert compared("alpha_mean", [1.0], [1.0], **mean) == pytest.approx(0.5)


def test_vectors_are_compared_with_their_signs_and_only_where_they_are_decided():
    u = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0].T.reshape(1, 2, 2, 3)
    turned = u * np.array([1, -1])[:, None, None]
    both, first = np.array([[True, True]]), np.array([[True, False]])
    assert compared("eigenfeatures", u, u, both) == 0
    assert compared("eigenfeatures", -u, u, both) == pytest.approx(2)
    assert compared("eigenfeatures", turned, u, both) == pytest.approx(0.2), "a tenth, after the first"
    assert compared("eigenfeatures", turned, u, first) == 0
    assert compared("residual", [0.5], [0.0], both) == pytest.approx(0.5)
    assert compared("residual", [0.5], [0.0], first) == 0


def test_vectors_of_near_or_small_singular_values_are_left_to_rounding():
    order = np.arange(spectra.CHANNELS)
    spectrum = {
        (True, True, True): 0.7**order,
        (True, False, False): np.r_[1, 0.5, 0.49, 0.1 * 0.7 ** order[3:]],
        (True, True, False): np.r_[1, 0.5, 0.04 * 0.7 ** order[2:]],
        (True, False, True): np.r_[1, 0.97, 0.5, 0.3 * 0.7 ** order[3:]],
        (False, False, True): np.r_[1, 0.995, 0.5, 0.3 * 0.7 ** order[3:]],
    }
    maps = np.stack([spectra.with_spectrum(values, "float32") for values in spectrum.values()])
    found, decided = _by_kernels(maps, 3)
    assert [tuple(row) for row in decided.tolist()] == list(spectrum)
    np.testing.assert_allclose(found["gap"], [0.7, 0.5, 0.5, 0.97, 0.995], rtol=1e-4)
    # A slice of zeros has vectors of zeros, and those are compared.
    assert _by_kernels(np.zeros_like(maps[:1]), 3)[1].all()


def test_the_largest_difference_is_that_of_all_arrays():
    assert ExportCheck(1, {"gap": 1e-6, "logits": 2e-5}, 0).largest == 2e-5
