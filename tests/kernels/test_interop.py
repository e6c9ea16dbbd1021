"""Any array in, the same numbers out in arrays of the same library; NumPy decides what they are."""

import numpy as np
import pytest
import torch

from eigenfeatures.kernels import (
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

# All take a stack of responses, those of images as images of two leading axes.
FUNCTIONS = (
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)
DTYPES = (np.uint8, np.uint16, np.int16, np.float32, np.float64)
WITH_OUT = (gradient_magnitude, standardized_gradient)
RESPONSES = np.random.default_rng(0).normal(size=(2, 5, 9, 8)).astype(np.float32)


class Producer:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("an array with DLPack is read by it")

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def spread(array):
    """The array as every second element of a larger one."""
    wide = np.zeros([2 * size for size in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    turned = tuple(slice(None, None, -1) for _ in array.shape)
    return array[turned].copy()[turned]


def read_only(array):
    closed = array.copy()
    closed.flags.writeable = False
    return closed


# What is made of a contiguous array of native byte order, whose values it has.
LAYOUTS = {
    "every_second": spread,
    "negative_strides": backwards,
    "fortran": np.asfortranarray,
    "read_only": read_only,
    "big_endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "producer": lambda array: Producer(array.copy()),
    "producer_of_a_view": lambda array: Producer(spread(array)),
    "torch": lambda array: torch.from_numpy(array.copy()),
    "torch_view": lambda array: torch.from_numpy(spread(array)),
    "torch_permuted": lambda array: torch.from_numpy(array.T.copy()).permute(3, 2, 1, 0),
}


def responses(dtype):
    scaled = 100 * RESPONSES
    return np.abs(scaled).astype(dtype) if np.dtype(dtype).kind == "u" else scaled.astype(dtype)


def parts(result):
    """The arrays of a result, by name or place."""
    if isinstance(result, np.ndarray | torch.Tensor):
        return {"": result}
    return vars(result) if not isinstance(result, tuple) else dict(enumerate(result))


def assert_same(found, expected, kind):
    found, expected = parts(found), parts(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind in "iuf":
            assert isinstance(found[name], kind), name
            array = np.asarray(found[name])
            assert array.dtype == value.dtype
            np.testing.assert_array_equal(array, value, err_msg=str(name))
        else:
            assert found[name].tolist() == value.tolist()


def values(given):
    return np.asarray(given.array if isinstance(given, Producer) else given)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_numbers_from_any_array(function, layout):
    for dtype in DTYPES:
        array = responses(dtype)
        given = LAYOUTS[layout](array)
        kind = torch.Tensor if isinstance(given, torch.Tensor) else np.ndarray
        assert_same(function(given), function(array), kind)
        np.testing.assert_array_equal(values(given), array)


def test_layouts_are_what_they_say():
    """The negative control: none of them is an ordinary array by mistake."""
    made = {name: layout(RESPONSES) for name, layout in LAYOUTS.items()}
    assert not made["every_second"].flags.c_contiguous
    assert max(made["negative_strides"].strides) < 0
    assert made["fortran"].flags.f_contiguous
    assert not made["fortran"].flags.c_contiguous
    assert not made["read_only"].flags.writeable
    assert not made["big_endian"].dtype.isnative
    assert not made["torch_view"].is_contiguous()
    assert not made["torch_permuted"].is_contiguous()
    np.testing.assert_array_equal(values(made["torch_permuted"]), RESPONSES)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lists(function):
    assert_same(function(RESPONSES.tolist()), function(RESPONSES.astype(np.float64)), np.ndarray)


@pytest.mark.parametrize("convert", [np.array, torch.from_numpy])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_slices(function, convert):
    """A batch of none: results of one slice, without it."""
    for dtype in DTYPES:
        array = responses(dtype)
        none, one = parts(function(convert(array[:0]))), parts(function(array[:1]))
        for name, value in one.items():
            assert tuple(none[name].shape) == (0, *value.shape[1:])
            assert np.asarray(none[name]).dtype == value.dtype
            assert value.dtype.kind == "U" or isinstance(none[name], type(convert(array)))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "read_only"])
@pytest.mark.parametrize("function", WITH_OUT)
def test_out_is_filled_and_returned(function, layout):
    expected = function(RESPONSES)
    # A producer takes images of its own library, too.
    for images in (RESPONSES, Producer(RESPONSES)) if layout.startswith("producer") else (RESPONSES,):
        out = LAYOUTS[layout](np.full_like(RESPONSES, np.nan))
        assert function(images, out=out) is out
        np.testing.assert_array_equal(values(out), expected)


@pytest.mark.parametrize("function", WITH_OUT)
def test_out_of_tensors(function):
    images = torch.from_numpy(RESPONSES)
    for out in (
        torch.empty(images.shape),
        np.empty_like(RESPONSES),
        torch.empty(8, 9, 5, 2).permute(3, 2, 1, 0),
    ):
        assert function(images, out=out) is out
        np.testing.assert_array_equal(values(out), function(RESPONSES))
    with pytest.raises(ValueError, match="overlaps the input"):
        function(images, out=images)
    with pytest.raises(TypeError, match="out must be an array of float32, and holds float64"):
        function(images, out=torch.empty(images.shape, dtype=torch.float64))


class Scan(torch.Tensor):
    """A subclass of another package than torch, as torchvision's and MONAI's."""


@pytest.mark.parametrize("function", WITH_OUT)
def test_subclasses_of_tensors_are_tensors(function):
    images, expected = torch.from_numpy(RESPONSES).as_subclass(Scan), function(RESPONSES)
    assert type(images).__module__.partition(".")[0] != "torch"
    result, out = function(images), torch.empty(images.shape)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), expected)
    assert function(images, out=out) is out
    np.testing.assert_array_equal(out.numpy(), expected)


@pytest.mark.parametrize("function", WITH_OUT)
def test_out_of_another_byte_order(function):
    out = np.empty(RESPONSES.shape, ">f4")
    assert function(RESPONSES, out=out) is out
    np.testing.assert_array_equal(out, function(RESPONSES))


def test_what_cannot_be_out_is_named():
    with pytest.raises(TypeError, match="out must be an array of float32, and is a list"):
        gradient_magnitude(RESPONSES, out=[])
    with pytest.raises(TypeError, match="out must be an array of float32, and is a MaskedArray"):
        gradient_magnitude(RESPONSES, out=np.ma.masked_array(np.empty_like(RESPONSES)))
    with pytest.raises(ValueError, match="out is read-only"):
        gradient_magnitude(RESPONSES, out=Producer(read_only(RESPONSES)))


def test_an_out_that_lies_between_the_input_or_on_its_buffer():
    buffer = np.random.default_rng(0).random((8, 6, 5)).astype(np.float32)
    expected = gradient_magnitude(buffer[0::2])
    gradient_magnitude(buffer[0::2], out=buffer[1::2])
    np.testing.assert_array_equal(buffer[1::2], expected)
    for overlapping in (memoryview(buffer), buffer[::-1], buffer[:, ::-1]):
        with pytest.raises(ValueError, match="overlaps the input"):
            gradient_magnitude(overlapping, out=buffer)


def test_only_what_an_out_covers_is_written():
    wide = np.full((4, 10, 18, 16), -1, np.float32)
    gradient_magnitude(RESPONSES, out=wide[::2, ::2, ::2, ::2])
    covered = np.zeros(wide.shape, bool)
    covered[::2, ::2, ::2, ::2] = True
    assert (wide[~covered] == -1).all()
    assert (wide[covered] >= 0).all()


def test_start_of_another_library_and_keywords():
    found = truncated_svd(responses=torch.from_numpy(RESPONSES), start=torch.ones(5))
    assert_same(found, truncated_svd(RESPONSES, start=np.ones(5)), torch.Tensor)
    assert_same(
        truncated_svd(RESPONSES, start=[1] * 5), truncated_svd(RESPONSES, start=np.ones(5)), np.ndarray
    )


def test_results_of_tensors_share_no_memory_with_them():
    tensor = torch.from_numpy(responses(np.float32))
    svd = truncated_svd(tensor)
    before = svd.u.clone()
    tensor.zero_()
    assert torch.equal(svd.u, before)


@pytest.mark.parametrize("function", [slice_statistics, strongest_channel])
def test_one_slice_gives_arrays_without_axes(function):
    array = np.random.default_rng(0).random((3, 5, 6) if function is strongest_channel else (5, 6))
    result, expected = function(torch.from_numpy(array)), function(array)
    for name in expected._fields if hasattr(expected, "_fields") else vars(expected):
        found, value = getattr(result, name), getattr(expected, name)
        assert (type(found), type(value)) == (torch.Tensor, np.ndarray)
        assert found.shape == value.shape == ()
        assert found.item() == value


def test_a_tensor_that_is_yet_to_be_negated():
    values = torch.rand(2, 5, 6)
    negated = torch.complex(values, values).conj().imag
    assert negated.is_neg()
    assert torch.equal(slice_statistics(negated).mean, slice_statistics(-values).mean)
    with pytest.raises(TypeError, match="out is a negated view"):
        gradient_magnitude(values, out=negated)


def test_a_matrix_is_filled_and_what_shares_memory_with_itself_is_refused():
    image = np.random.default_rng(0).random((5, 6), np.float32)
    matrix = np.empty((5, 6), np.float32).view(np.matrix)
    assert gradient_magnitude(image, out=matrix) is matrix
    np.testing.assert_array_equal(matrix, gradient_magnitude(image))
    with pytest.raises(ValueError, match="elements of out share memory"):
        gradient_magnitude(torch.from_numpy(image), out=torch.empty(1, 6).expand(5, 6))
    windows = np.lib.stride_tricks.as_strided(np.empty(20, np.float32), (5, 6), (8, 4))
    with pytest.raises(ValueError, match="elements of out share memory"):
        gradient_magnitude(image, out=windows)


def test_what_computes_its_array_is_asked_once():
    class Lazy:
        asked = 0

        def __array__(self, dtype=None, copy=None):
            self.asked += 1
            return np.ones((5, 6), np.float32)

    lazy = Lazy()
    gradient_magnitude(lazy, out=np.empty((5, 6), np.float32))
    assert lazy.asked == 1
