"""What can't be read or be computed where it was asked for is refused in one line; no library is imported."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from eigenfeatures import kernels
from eigenfeatures.kernels import gradient_magnitude, truncated_svd

NAMES = (
    "gradient",
    "gradient_magnitude",
    "gram",
    "slice_statistics",
    "standardized_gradient",
    "stretch_contrast",
    "strongest_channel",
    "truncated_svd",
)
FUNCTIONS = [getattr(kernels, name) for name in NAMES]
RESPONSES = np.random.default_rng(0).normal(size=(2, 5, 9, 8)).astype(np.float32)


class Placed:
    """What tells where its numbers lie, and must not be read."""

    def __init__(self, device=1, index=0):
        self.place = (device, index)

    def __dlpack__(self, **options):
        raise AssertionError("it was read")

    def __dlpack_device__(self):
        return self.place


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arrays_of_a_gpu_are_not_read_on_the_host(function):
    """None of this needs a GPU: it is told before anything is read."""
    on_gpu = Placed(device=2)
    with pytest.raises(TypeError, match='on a GPU and backend="cpu" was asked for'):
        function(on_gpu, backend="cpu")
    with pytest.raises(TypeError, match="neither on the host nor on a CUDA GPU"):
        function(Placed(device=10))
    with pytest.raises(ValueError, match="stream is for work on a GPU"):
        function(RESPONSES, stream=1)
    with pytest.raises(ValueError, match="no backend 'gpu'"):
        function(RESPONSES, backend="gpu")


def test_mixed_devices_and_libraries_are_refused():
    out = np.empty((4, 4), np.float32)
    on_gpu, on_other = (Placed(device=2, index=index) for index in (0, 1))
    with pytest.raises(TypeError, match=r"images on GPU 0, out on the host\); bring them to one"):
        gradient_magnitude(on_gpu, out=out)
    with pytest.raises(TypeError, match=r"images on GPU 0, out on GPU 1"):
        gradient_magnitude(on_gpu, out=on_other)
    with pytest.raises(TypeError, match=r"responses on the host, start on GPU 0"):
        truncated_svd(RESPONSES, start=on_gpu)
    with pytest.raises(TypeError, match="are mixed; give those of one library"):
        gradient_magnitude(torch.ones(4, 4), out=Placed())


def test_arrays_that_are_not_handed_out_are_refused():
    with pytest.raises(TypeError, match="images, of torch, can't be read by DLPack"):
        gradient_magnitude(torch.ones(4, 4, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_that_numpy_has_not_are_named(dtype):
    with pytest.raises(TypeError, match=rf"^images holds {dtype}; convert it .* in torch by \.float\(\)$"):
        gradient_magnitude(torch.ones(4, 4).to(dtype))


def fake():
    with FakeTensorMode():
        return torch.ones(4, 4)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("made", [fake, lambda: torch.ones(4, 4, device="meta")], ids=["fake", "meta"])
def test_tensors_without_numbers_are_refused(made):
    """NumPy takes a fake one, and gives it whatever the memory held."""
    told = "a FakeTensor of torch, holds no numbers|of torch, doesn't tell where its numbers lie .*[mM]eta"
    with pytest.raises(TypeError, match=f"^images, ({told})"):
        gradient_magnitude(made())
    with pytest.raises(TypeError, match=f"^out, ({told})"):
        gradient_magnitude(torch.ones(4, 4), out=made())


@pytest.mark.parametrize(
    "transform",
    [
        lambda: torch.vmap(gradient_magnitude)(torch.ones(2, 4, 4)),
        lambda: torch.func.functionalize(gradient_magnitude)(torch.ones(4, 4)),
        lambda: torch.func.jvp(gradient_magnitude, (torch.ones(4, 4),), (torch.ones(4, 4),)),
    ],
    ids=["vmap", "functionalize", "jvp"],
)
def test_tensors_of_a_transform_are_refused(transform):
    with pytest.raises(TypeError, match=r"^images, (a Tensor )?of torch, (doesn't|can't|holds no) .*$"):
        transform()


def raises(error):
    def method(*_arguments, **_options):
        raise error

    return method


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"__array__": raises(KeyError("k"))}, "images can't be read as an array: KeyError 'k'"),
        ({"__array__": raises(ZeroDivisionError())}, "images can't be read as an array: ZeroDivisionError"),
        ({"__array__": raises(ValueError("a\n b"))}, "images can't be read as an array: a b"),
        (
            {"__dlpack__": raises(KeyError("k")), "__dlpack_device__": lambda _: (1, 0)},
            "images, of test_refusals, can't be read by DLPack: KeyError 'k'",
        ),
        (
            {"__dlpack__": raises(KeyError("k"))},
            "images, .*no attribute '__dlpack_device__'.*; give an array",
        ),
        (
            {"__dlpack__": raises(KeyError("k")), "__dlpack_device__": lambda _: None},
            "images, .*doesn't tell where its numbers lie .*; give an array that holds some",
        ),
        (
            {"__dlpack__": raises(KeyError("k")), "__dlpack_device__": raises(KeyError("k"))},
            r"images, .*doesn't tell where its numbers lie \(KeyError 'k'\); give an array that holds some",
        ),
    ],
)
def test_objects_that_fail_to_give_an_array_are_named(methods, message):
    with pytest.raises(TypeError, match=f"^{message}") as refused:
        gradient_magnitude(type("Broken", (), {"__module__": "test_refusals"} | methods)())
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize("error", [MemoryError, FileNotFoundError])
@pytest.mark.parametrize("method", ["__array__", "__dlpack__"])
def test_what_no_other_argument_mends_is_raised_as_it_is(method, error):
    methods = {method: raises(error("gone")), "__dlpack_device__": lambda _: (1, 0)}
    with pytest.raises(error, match="gone"):
        gradient_magnitude(type("Broken", (), methods)())


IMPORTS_NOTHING = """
import sys
import numpy as np
from eigenfeatures import kernels

others = {"torch", "cupy", "jax", "dask", "numba_cuda", "eigenfeatures.kernels.cuda"}
assert not others & set(sys.modules), others & set(sys.modules)
responses = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
for name in NAMES:
    getattr(kernels, name)(responses)
kernels.gradient_magnitude(responses, out=np.empty_like(responses))
assert not others & set(sys.modules), others & set(sys.modules)
"""

# What the machine has is hidden, so that these refuse wherever they run.
NO_GPU = """
import sys
sys.modules.update(dict.fromkeys(HIDDEN))
import numpy as np
from eigenfeatures import kernels

responses = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
for name in NAMES:
    try:
        getattr(kernels, name)(responses, backend="cuda")
    except OSError as error:
        assert MESSAGE in str(error), error
        assert "\\n" not in str(error), error
    else:
        raise SystemExit(f"{name} answered")
    getattr(kernels, name)(responses)  # nothing stays behind
"""


def run(script, **names):
    given = "\n".join(f"{name} = {value!r}" for name, value in {"NAMES": NAMES, **names}.items())
    result = subprocess.run(
        [sys.executable, "-c", f"{given}\n{script}"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_no_library_is_imported_to_recognise_arrays():
    run(IMPORTS_NOTHING)


@pytest.mark.parametrize("hidden", ["cupy", "numba.cuda"])
def test_cuda_without_its_packages(hidden):
    run(NO_GPU, HIDDEN=[hidden], MESSAGE="work on a GPU needs more packages")


def test_cuda_without_a_device():
    pytest.importorskip("cupy")
    run(NO_GPU, HIDDEN=[], MESSAGE="no CUDA device to compute on")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_none_is_no_array(function):
    with pytest.raises(TypeError, match=r"(images|responses) is None; give an array"):
        function(None)
