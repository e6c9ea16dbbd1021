"""What the kernels take for an array."""

import numpy as np
import pytest

from eigenfeatures.kernels import StreamingSVD, gradient_magnitude, truncated_svd
from eigenfeatures.kernels.arrays import loop_input


@pytest.mark.parametrize("dtype", [bool, complex, object, "datetime64[s]", "U3", np.longdouble])
def test_other_elements_are_refused(dtype):
    with pytest.raises(TypeError, match=r"images holds .*; give integers or floats"):
        gradient_magnitude(np.zeros((3, 3), dtype))


def test_what_numpy_cannot_read_is_refused():
    with pytest.raises(TypeError, match="images can't be read"):
        gradient_magnitude([[1, 2], [3]])


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="images is a masked array; fill what it masks first"):
        gradient_magnitude(np.ma.masked_array(np.zeros((3, 3)), np.eye(3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda maps: truncated_svd(maps, 2.0), "rank 2.0 is not a whole number; give 1 to 2"),
        (lambda maps: truncated_svd(maps, seed=1.0), "seed 1.0 is not a whole number; give 0 to"),
        (
            lambda maps: truncated_svd(maps, max_passes=2.5),
            "max_passes 2.5 is not a whole number; give 0 or more",
        ),
        (lambda _: StreamingSVD(1.5), "rank 1.5 is not a whole number; give 1 to C"),
    ],
)
def test_numbers_that_are_not_whole_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call(np.ones((2, 3, 3), np.float32))


def test_whole_numbers_of_numpy():
    assert truncated_svd(np.ones((2, 3, 3)), np.int8(2), seed=np.uint64(2**63)).s.shape == (2,)


def test_too_few_axes_or_no_pixels_are_refused():
    with pytest.raises(ValueError, match="1 axes and needs at least 2"):
        gradient_magnitude(np.zeros(3))
    with pytest.raises(ValueError, match="no pixels"):
        gradient_magnitude(np.zeros((2, 0, 3)))


@pytest.mark.parametrize(
    ("given", "widened"),
    [
        ("int8", "float32"),
        ("int16", "float32"),
        ("uint32", "float64"),
        ("int64", "float64"),
        ("float16", "float32"),
        (">u2", "uint16"),
    ],
)
def test_dtypes_widen_without_loss(given, widened):
    array = np.array([[0, 1], [7, 120]], given)
    result = loop_input(array, "images", trailing=2)
    assert result.dtype == widened
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


def test_a_view_that_cannot_be_written():
    array = np.zeros((2, 3), np.float32)
    result = loop_input(array, "images", trailing=2)
    assert np.shares_memory(result, array)
    assert not result.flags.writeable
    assert array.flags.writeable


def test_lists_are_arrays():
    np.testing.assert_array_equal(gradient_magnitude([[1, 2], [1, 2]], "forward"), [[1, 0], [1, 0]])
