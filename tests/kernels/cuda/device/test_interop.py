"""Arrays of a GPU, of any library and layout: the same numbers out, in arrays of that library on that device.

In the simulator arrays of NumPy and torch on the host stand for those of a GPU, as `call` is told.
`test_hardware.py` has what only a GPU shows: streams, and many threads.
"""

import numpy as np
import pytest
import torch

from eigenfeatures.kernels import (
    call,
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import SIMULATED

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
WITH_OUT = (gradient_magnitude, standardized_gradient)

# One that kernels take as it is, and one that is widened first: each more would be compiled on hardware.
DTYPES = ("float32", "int16")

# Responses with a leading singular value apart from the others, as images a few of odd sizes.
SHAPE = (1, 2, 5, 4) if SIMULATED else (2, 5, 19, 18)
RESPONSES = np.random.default_rng(0).random(SHAPE) * 100 + 20


class OnDevice(np.ndarray):
    """NumPy's, in the simulator, where it stands for CuPy's."""


class Producer:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.fixture(autouse=True)
def _standing_for_a_gpu(monkeypatch):
    """Only NumPy's own arrays count as on the host in the simulator."""
    if SIMULATED:
        monkeypatch.setattr(call, "_gpu_of", lambda array, _: None if type(array) is np.ndarray else 0)


def on_device(host):
    array = memory.to_device(host)
    return array.view(OnDevice) if SIMULATED else array


def tensor(host):
    if SIMULATED:
        return torch.from_numpy(host.copy())
    if not torch.cuda.is_available():
        pytest.skip("a torch without CUDA")
    return torch.from_numpy(host.copy()).cuda()


EVERY_SECOND = (slice(None, None, 2),) * len(SHAPE)
BACKWARDS = (slice(None, None, -1),) * len(SHAPE)


def spread(convert, host):
    """The array as every second element of a larger one, along every axis."""
    wide = np.full([2 * size for size in host.shape], 77, host.dtype)
    wide[EVERY_SECOND] = host
    return convert(wide)[EVERY_SECOND]


# What is made of an array of the host, whose values it has.
LAYOUTS = {
    "contiguous": on_device,
    "every_second": lambda host: spread(on_device, host),
    "negative_strides": lambda host: on_device(host[BACKWARDS].copy())[BACKWARDS],
    "fortran": lambda host: on_device(host.T.copy()).T,
    "producer": lambda host: Producer(on_device(host)),
    "producer_of_a_view": lambda host: Producer(spread(on_device, host)),
    "torch": tensor,
    "torch_view": lambda host: spread(tensor, host),
    "torch_permuted": lambda host: tensor(host.T.copy()).permute(3, 2, 1, 0),
}
OF_OUT = [name for name in LAYOUTS if not name.startswith("producer")]


def to_host(array):
    if isinstance(array, Producer):
        array = array.array
    if isinstance(array, torch.Tensor):
        return array.cpu().numpy()
    return np.asarray(memory.to_host(array))


def parts(result):
    """The arrays of numbers of a result, by name or place; how it was found isn't one."""
    if hasattr(result, "dtype"):
        return {"": result}
    named = dict(enumerate(result)) if isinstance(result, tuple) else vars(result)
    return {name: value for name, value in named.items() if name != "method"}


def assert_same(result, expected, given, exact):
    """Compare two results, and where `result` lies: in the library and on the device of what was given."""
    found, expected = parts(result), parts(expected)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if isinstance(given, torch.Tensor):
            assert isinstance(value, torch.Tensor), name
            assert value.device == given.device
        else:
            assert isinstance(value, memory.xp().ndarray), name
        array, other = to_host(value), to_host(expected[name])
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        if exact:
            np.testing.assert_array_equal(array, other, err_msg=str(name))
        elif name not in ("passes", "gap"):  # which depend on how the others were found
            scale = np.nan_to_num(abs(other)).max(initial=1) if other.dtype.kind == "f" else 0
            np.testing.assert_allclose(array, other, rtol=0, atol=2e-5 * scale, err_msg=str(name))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_numbers_from_any_array(function, dtype):
    """The same bits from every layout, but where cuBLAS may choose; and those of the CPU but for rounding."""
    host = RESPONSES.astype(dtype)
    exact = SIMULATED or function not in (gram, truncated_svd)
    first = None
    for name, layout in LAYOUTS.items():
        given = layout(host)
        result = function(given)
        first = result if first is None else first
        assert_same(result, first, given, exact)
        np.testing.assert_array_equal(to_host(given), host, err_msg=name)
    assert_same(first, function(host), on_device(host), exact=False)


def test_layouts_are_what_they_say():
    """The negative control: none is an ordinary array by mistake, and the simulator's count as a GPU's."""
    host = RESPONSES.astype(np.float32)
    made = {name: layout(host) for name, layout in LAYOUTS.items()}
    assert made["contiguous"].flags.c_contiguous
    assert not made["every_second"].flags.c_contiguous
    assert max(made["negative_strides"].strides) < 0
    assert made["fortran"].flags.f_contiguous
    assert not made["fortran"].flags.c_contiguous
    assert not made["torch_view"].is_contiguous()
    assert not made["torch_permuted"].is_contiguous()
    for name, given in made.items():
        np.testing.assert_array_equal(to_host(given), host, err_msg=name)
        with pytest.raises(TypeError, match='on a GPU and backend="cpu" was asked for'):
            gradient_magnitude(given, backend="cpu")


@pytest.mark.parametrize("convert", [on_device, tensor], ids=["cupy", "torch"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_slices(function, convert):
    """A batch of none: results of one slice, without it."""
    host = RESPONSES.astype(np.float32)
    given = convert(host[:0])
    none, one = parts(function(given)), parts(function(host[:1]))
    assert none.keys() == one.keys()
    for name, value in one.items():
        assert tuple(none[name].shape) == (0, *value.shape[1:])
        assert to_host(none[name]).dtype == value.dtype
        assert isinstance(none[name], torch.Tensor) is isinstance(given, torch.Tensor)


@pytest.mark.parametrize("layout", OF_OUT)
@pytest.mark.parametrize("function", WITH_OUT)
def test_out_is_filled_and_returned(function, layout):
    host = RESPONSES.astype(np.float32)
    given = LAYOUTS["torch" if layout.startswith("torch") else "contiguous"](host)
    out = LAYOUTS[layout](np.full(SHAPE, np.nan, np.float32))
    assert function(given, out=out) is out
    np.testing.assert_array_equal(to_host(out), to_host(function(given)))
    np.testing.assert_array_equal(to_host(given), host)


@pytest.mark.parametrize("convert", [on_device, tensor], ids=["cupy", "torch"])
@pytest.mark.parametrize("function", WITH_OUT)
def test_only_what_an_out_covers_is_written(function, convert):
    wide = convert(np.full([2 * size for size in SHAPE], -99, np.float32))
    out = wide[EVERY_SECOND]
    assert function(convert(RESPONSES.astype(np.float32)), out=out) is out
    covered = np.zeros(wide.shape, bool)
    covered[EVERY_SECOND] = True
    assert (to_host(wide)[~covered] == -99).all()
    assert (to_host(wide)[covered] != -99).all()


@pytest.mark.parametrize("function", WITH_OUT)
def test_what_cannot_be_out_is_refused(function):
    host = RESPONSES.astype(np.float32)
    for convert in (on_device, tensor):
        images = convert(host)
        with pytest.raises(ValueError, match="out overlaps the input"):
            function(images, out=images)
        # As torch hands them out, the two begin at different addresses.
        with pytest.raises(ValueError, match="out overlaps the input"):
            function(images[..., :-1, :], out=images[..., 1:, :])
        with pytest.raises(TypeError, match="out must be an array of float32, and holds float64"):
            function(images, out=convert(host.astype(np.float64)))
        with pytest.raises(ValueError, match="out has shape"):
            function(images, out=convert(host[..., 1:]))
        with pytest.raises(TypeError, match=r"images on GPU 0, out on the host\); bring them to one"):
            function(images, out=np.empty_like(host))
        np.testing.assert_array_equal(to_host(images), host)
    with pytest.raises(TypeError, match="are mixed; give those of one library"):
        function(tensor(host), out=Producer(on_device(host)))
    with pytest.raises(ValueError, match="elements of out share memory"):
        function(tensor(host), out=tensor(host[..., :1].copy()).expand(SHAPE))


@pytest.mark.parametrize("convert", [on_device, tensor], ids=["cupy", "torch"])
def test_start_on_the_device_and_as_a_list(convert):
    given = convert(RESPONSES.astype(np.float32))
    begun = truncated_svd(given, start=convert(np.ones(SHAPE[1])))
    assert_same(begun, truncated_svd(given, start=[1] * SHAPE[1]), given, exact=SIMULATED)


def test_results_of_tensors_share_no_memory_with_them():
    given = tensor(RESPONSES.astype(np.float32))
    before = to_host(given).copy()
    svd = truncated_svd(given, SHAPE[1])
    svd.u.zero_()
    svd.v.zero_()
    np.testing.assert_array_equal(to_host(given), before)


def test_a_tensor_that_is_yet_to_be_negated():
    values = RESPONSES.astype(np.float32)
    negated = torch.complex(tensor(values), tensor(values)).conj().imag
    assert negated.is_neg()
    np.testing.assert_array_equal(
        to_host(slice_statistics(negated).mean), to_host(slice_statistics(tensor(-values)).mean)
    )
