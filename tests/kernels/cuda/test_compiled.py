"""Every kernel compiles for three architectures with no GPU at hand, as it is meant to.

That is: without spilling registers, and in float64 only where that is meant.
"""

import importlib
import pkgutil
import re
import struct
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from cuda.bindings import nvjitlink
from numba import cuda
from numba.cuda import dispatcher, types
from numba.cuda.np.numpy_support import as_dtype

import eigenfeatures.kernels.cuda
from eigenfeatures.kernels.cuda.compile import REGISTRY, Kernel
from eigenfeatures.kernels.cuda.memory import entry_of
from eigenfeatures.kernels.cuda.parameters import Parameters

for module in pkgutil.iter_modules(eigenfeatures.kernels.cuda.__path__):
    importlib.import_module(f"eigenfeatures.kernels.cuda.{module.name}")

KERNELS = {kernel.name: kernel for kernel in REGISTRY}

# A100, H100 and B200.
ARCHITECTURES = ((8, 0), (9, 0), (10, 0))


@pytest.fixture(params=ARCHITECTURES, ids=lambda architecture: "sm_{}{}".format(*architecture))
def architecture(request, monkeypatch):
    """An architecture, in place of the one that Numba would ask a driver for."""
    device = SimpleNamespace(compute_capability=request.param)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    return request.param


@cache
def ptx_of(kernel, signature, architecture):
    ptx, _ = cuda.compile(
        kernel.function, signature, cc=architecture, device=False, abi="numba", launch_bounds=kernel.bounds
    )
    return ptx


def assembled(ptx, architecture):
    """Registers a thread, bytes of spills and of other local memory, as the assembler says."""
    linker = nvjitlink.create(2, ["-arch=sm_{}{}".format(*architecture), "-verbose"])
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, ptx.encode(), len(ptx.encode()), "kernel")
        nvjitlink.complete(linker)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    finally:
        nvjitlink.destroy(linker)
    said = log.decode()
    spills = re.findall(r"(\d+) bytes spill", said)
    assert len(spills) == 2, said
    registers = re.search(r"used (\d+) registers.* (\d+) stack", said)
    assert registers is not None, said
    return int(registers[1]), sum(map(int, spills)), int(registers[2])


def arrays_of(signature):
    """The types of elements of the arrays among a kernel's arguments."""
    return [argument.dtype for argument in signature.args if isinstance(argument, types.Array)]


def assert_as_meant(kernel, signature, architecture):
    ptx = ptx_of(kernel, signature, architecture)
    registers, spilled, local = assembled(ptx, architecture)
    assert spilled == 0, f"{kernel.name}{signature} spills {spilled} bytes"
    assert local == 0, f"{kernel.name}{signature} keeps {local} bytes out of registers"
    assert registers * kernel.threads <= 65536
    if types.float64 not in arrays_of(signature) and not kernel.float64:
        assert ".f64" not in ptx, f"{kernel.name}{signature} computes in float64"


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_kernel(name, architecture):
    kernel = KERNELS[name]
    assert kernel.signatures
    for signature in kernel.signatures:
        assert_as_meant(kernel, signature, architecture)


def test_the_kernels_are_found():
    assert {
        "gradient.fill_gradient",
        "gradient.fill_magnitude",
        "statistics.fill_moments",
        "statistics.fill_own_slice",
        "statistics.fill_from_moments",
        "channels.survey",
        "channels.choose",
    } <= set(KERNELS)


@pytest.mark.parametrize("name", sorted(name for name in KERNELS if KERNELS[name].float64))
def test_float64_is_not_excused_in_vain(name, monkeypatch):
    monkeypatch.setattr(
        dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=ARCHITECTURES[1])
    )
    kernel = KERNELS[name]
    assert ".f64" in ptx_of(kernel, kernel.signatures[0], ARCHITECTURES[1])


@pytest.mark.parametrize(
    "name", sorted(name for name in KERNELS if name.startswith(("gradient.", "statistics.")))
)
def test_tiles_are_copied_16_bytes_at_a_time_and_awaited(name, architecture):
    kernel = KERNELS[name]
    assert len(kernel.signatures) >= 3
    for signature in kernel.signatures:
        ptx = ptx_of(kernel, signature, architecture)
        copy = r"cp\.async\.cg\.shared\.global \[.*\], \[.*\], 16;"
        copies = [match.end() for match in re.finditer(copy, ptx)]
        awaited = ptx.index("cp.async.wait_all;")
        assert copies
        assert max(copies) < awaited < ptx.index("bar.sync", awaited)


@pytest.mark.parametrize("name", ["gradient.fill_magnitude", "statistics.fill_own_slice"])
def test_roots_have_no_branch(name, architecture):
    for signature in KERNELS[name].signatures:
        ptx = ptx_of(KERNELS[name], signature, architecture)
        kind = "rn.f64" if types.float64 in arrays_of(signature) else "approx.f32"
        assert f"sqrt.{kind}" in ptx
        assert "sqrt.rn.f32" not in ptx


class Device(np.ndarray):
    """An array of the host that tells its address as CuPy's do."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def argument_of(kind):
    """An argument of a type of Numba's, as kernels are launched with it."""
    if isinstance(kind, types.Array):
        return np.empty((1,) * kind.ndim, as_dtype(kind.dtype)).view(Device)
    if isinstance(kind, types.BaseTuple):
        return tuple(argument_of(part) for part in kind)
    return as_dtype(kind).type(1)


# PTX's types of parameters in the letters of `struct`.
CODES = {"u8": "?", "b8": "?", "u32": "i", "b32": "i", "u64": "q", "b64": "q", "f32": "f", "f64": "d"}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_launch_passes_the_parameters_that_are_compiled(name, architecture):
    kernel = KERNELS[name]
    for signature in kernel.signatures:
        ptx = ptx_of(kernel, signature, architecture)
        compiled = [CODES[kind] for kind in re.findall(r"\.param \.(\w+) ", ptx[: ptx.index("{")])]
        parameters = Parameters(signature)
        # To PTX signed and unsigned are the same.
        assert parameters.format.replace("Q", "q") == "@" + "".join(compiled)
        packed = parameters.packed(tuple(argument_of(kind) for kind in signature.args), Device)
        assert len(packed) == struct.calcsize(parameters.format)
        assert entry_of(ptx) in ptx


def promoting(values, out):
    out[0] = 3 * values[0] + values[1]


def spilling(values, out):
    """Has more values under way than the registers that its blocks leave."""
    kept = cuda.local.array(64, types.float32)
    for k in range(64):
        kept[k] = values[cuda.threadIdx.x + 1024 * k]
    cuda.syncthreads()
    for k in range(64):
        out[cuda.threadIdx.x + 1024 * k] = kept[k]


def indexing(values, out):
    """Picks from a local array by a number that is known as it runs."""
    kept = cuda.local.array(16, types.float32)
    for k in range(16):
        kept[k] = values[k]
    for k in range(16):
        out[k] = kept[int(values[16 + k])]


SIGNATURE = types.void(types.float32[::1], types.float32[::1])


@pytest.mark.parametrize(
    ("function", "complaint"),
    [(promoting, "in float64"), (indexing, "out of registers"), (spilling, "spills")],
)
def test_what_is_not_meant_is_seen(function, complaint, architecture):
    kernel = Kernel(function, (SIGNATURE,), 1024, 2, "")
    with pytest.raises(AssertionError, match=complaint):
        assert_as_meant(kernel, SIGNATURE, architecture)
