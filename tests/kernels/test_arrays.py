"""What the kernels take for an array."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from eigenfeatures.kernels import (
    StreamingSVD,
    gradient,
    gradient_magnitude,
    standardized_gradient,
    stretch_contrast,
    truncated_svd,
)
from eigenfeatures.kernels.arrays import loop_input, writeable


@pytest.mark.parametrize("dtype", [bool, complex, object, "datetime64[s]", "U3", np.longdouble])
def test_other_elements_are_refused(dtype):
    with pytest.raises(TypeError, match=r"images holds .*; give integers or floats"):
        gradient_magnitude(np.zeros((3, 3), dtype))


def test_what_numpy_cannot_read_is_refused():
    with pytest.raises(TypeError, match="images can't be read"):
        gradient_magnitude([[1, 2], [3]])


MASKED = np.ma.masked_array(np.zeros((3, 3)), np.eye(3))


class Computed:
    """What makes its array on being asked for it, as a variable of netCDF does."""

    def __array__(self, dtype=None, copy=None):
        return MASKED


@pytest.mark.parametrize(
    "images",
    [
        MASKED,
        [MASKED, np.zeros((3, 3))],
        ([np.zeros((3, 3))], [MASKED]),
        [list(MASKED)],
        Computed(),
        pytest.param([[1, np.ma.masked]], marks=pytest.mark.filterwarnings("ignore:.*masked element to nan")),
    ],
)
def test_masked_elements_are_refused(images):
    with pytest.raises(TypeError, match="images has masked elements; fill them first, by the method filled"):
        gradient_magnitude(images)


@pytest.mark.parametrize("mask", [np.ma.nomask, np.zeros((3, 3), bool)])
def test_masked_arrays_that_mask_nothing_are_arrays(mask):
    image = np.random.default_rng(0).random((3, 3))
    masked = np.ma.masked_array(image, mask)
    for given, expected in ((masked, image), ([masked, image], [image, image])):
        magnitude = gradient_magnitude(given)
        assert type(magnitude) is np.ndarray
        np.testing.assert_array_equal(magnitude, gradient_magnitude(expected))


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


NOT_NUMBERS = [None, "0.1", b"1", np.array([0.1, 0.2]), [0.1], 0.1j, {}]
NOT_BOOLS = [None, "no", 1, 0.0, np.array([1, 2]), np.array([True])]


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("tol", lambda value: truncated_svd(np.ones((2, 3, 3)), tol=value)),
        ("saturate", lambda value: stretch_contrast(np.ones((3, 3)), value)),
        ("mean", lambda value: standardized_gradient(np.ones((3, 3)), mean=value, deviation=1)),
        ("deviation", lambda value: standardized_gradient(np.ones((3, 3)), mean=1, deviation=value)),
    ],
)
def test_what_is_no_real_number_is_named(name, call, value):
    if value is None and name in ("mean", "deviation"):
        pytest.skip("None is a choice there")
    with pytest.raises(TypeError, match=rf"^{name} must be a real number, and is .*$"):
        call(value)
    with pytest.raises(ValueError, match=f"^{name} is beyond float64; give a number nearer to 0$"):
        call(10**400)


@pytest.mark.parametrize("value", NOT_BOOLS, ids=repr)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("center", lambda value: truncated_svd(np.ones((2, 3, 3)), center=value)),
        ("gap", lambda value: truncated_svd(np.ones((2, 3, 3)), gap=value)),
        ("center", lambda value: StreamingSVD(1, center=value)),
    ],
)
def test_what_is_neither_true_nor_false_is_named(name, call, value):
    with pytest.raises(TypeError, match=rf"^{name} must be True or False, and is .*$"):
        call(value)


def test_numbers_of_other_types():
    maps = np.random.default_rng(0).random((2, 3, 3))
    expected = truncated_svd(maps, tol=0.25, center=True, gap=True)
    for tol in (np.float32(0.25), np.array(0.25), Fraction(1, 4), torch.tensor(0.25)):
        found = truncated_svd(maps, tol=tol, center=np.True_, gap=np.True_)
        np.testing.assert_array_equal(found.u, expected.u)
        assert found.gap == expected.gap


def test_a_value_is_shown_in_one_line():
    with pytest.raises(TypeError, match=r"^rank \[\[.{57}… is not a whole number; give 1 to 2$"):
        truncated_svd(np.ones((2, 3, 3)), np.eye(9).tolist())
    with pytest.raises(ValueError, match=r"^no backend array\(\[\[1, 2\], \[3, 4\]\]\); choose from"):
        gradient(np.ones((3, 3)), backend=np.array([[1, 2], [3, 4]]))


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


def test_views_of_one_tensor_of_a_gpu_overlap():
    """As they come by DLPack, each with memory of its own; of what holds only addresses nothing is read."""
    cupy = pytest.importorskip("cupy")

    def view(address, shape, strides=None):
        memory = cupy.cuda.UnownedMemory(address, 2**20, None, 0)
        return cupy.ndarray(shape, np.float32, cupy.cuda.MemoryPointer(memory, 0), strides)

    images = view(2**20, (4, 10))
    for out, overlaps in (
        (view(2**20, (4, 10)), True),
        (view(2**20 + 40, (4, 10)), True),
        (view(2**20 + 196, (5, 10), (-40, 4)), True),
        (view(2**20 + 160, (4, 10)), False),
        (view(2**21, (4, 10)), False),
        (view(2**20 + 4, (4, 10), (80, 8)), True),
    ):
        if overlaps:
            with pytest.raises(ValueError, match="out overlaps the input"):
                writeable(out, out.shape, np.float32, [images], cupy)
        else:
            assert writeable(out, out.shape, np.float32, [images], cupy) is out
    even, odd = (view(2**20 + first, (4, 10), (80, 8)) for first in (0, 4))
    assert writeable(odd, odd.shape, np.float32, [even], cupy) is odd
    assert writeable(odd[:0], (0, 10), np.float32, [odd[:0]], cupy).size == 0
