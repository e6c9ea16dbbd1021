"""Every kernel compiles for three architectures with no GPU at hand, as it is meant to.

That is: without spilling registers, and in float64 only where that is meant.
"""

import importlib
import inspect
import pkgutil
import re
import struct
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cuda.bindings import nvjitlink
from numba import cuda
from numba.cuda import dispatcher, types
from numba.cuda.np.numpy_support import as_dtype

import eigenfeatures.kernels.cuda
from eigenfeatures.kernels.cuda import gradient, passes, statistics
from eigenfeatures.kernels.cuda.compile import REGISTRY, Kernel, device_function
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


# The instructions of float64 in kernels on narrower pixels, as seen for sm_80 and sm_90, and for sm_100. In
# `fill_own_slice` those of sm_80 and sm_90 have sums of Y that nothing needs; the assembler drops them.
FLOAT64 = {
    "channels.survey": {"uint8": (84, 124), "uint16": (84, 124), "float32": (84, 68)},
    "passes.left_products": {"float32": (310, 291)},
    "passes.multiply_float32": {"float32": (40, 39)},
    "passes.scaled": {"float32": (16, 16)},
    "passes.vector_sums": {"float32": (74, 124)},
    "statistics.fill_from_moments": {"uint8": (10, 10), "uint16": (10, 10), "float32": (10, 10)},
    "statistics.fill_moments": {"uint8": (208, 193), "uint16": (208, 193), "float32": (208, 201)},
    "statistics.fill_own_slice": {"uint8": (96, 53), "uint16": (96, 53), "float32": (117, 53)},
    "survey.sum_squares": {"float32": (219, 220)},
}

# And there the roots of float32, one for each pixel of loops as they are unrolled, which may be less where
# there is more float64.
ROOTS = {
    "statistics.fill_from_moments": {"uint8": (15, 15), "uint16": (15, 15), "float32": (15, 15)},
    "statistics.fill_moments": {"uint8": (16, 13), "uint16": (16, 13), "float32": (16, 15)},
    "statistics.fill_own_slice": {"uint8": (29, 3), "uint16": (29, 3), "float32": (43, 4)},
}

# Room for another release of the compiler.
MARGIN = 1.05


def float64_of(ptx):
    """The instructions of float64, conversions to it and from it among them."""
    return re.findall(r"^\s+(?:@!?%\w+ )?([a-z][\w.]*\.f64\b\S*)", ptx, re.MULTILINE)


def seen_in(table, name, signature, architecture):
    return table[name][str(as_dtype(arrays_of(signature)[0]))][architecture == ARCHITECTURES[2]]


def assert_little_float64(kernel, name, signature, architecture):
    """At most what was seen, in all and for each root."""
    ptx = ptx_of(kernel, signature, architecture)
    found, seen = len(float64_of(ptx)), seen_in(FLOAT64, name, signature, architecture)
    assert found <= MARGIN * seen, f"{kernel.name}{signature} has {found} instructions of float64, not {seen}"
    if name in ROOTS:
        roots, before = ptx.count("sqrt.approx.f32"), seen_in(ROOTS, name, signature, architecture)
        assert found * before <= MARGIN * seen * roots, (
            f"{kernel.name}{signature} has {found} instructions of float64 for {roots} roots, "
            f"not {seen} for {before}"
        )


def narrow_signatures(name):
    """Those whose responses or pixels, the first array, aren't float64."""
    return [each for each in KERNELS[name].signatures if arrays_of(each)[0] != types.float64]


def test_every_excuse_for_float64_has_a_limit():
    excused = {name for name in KERNELS if KERNELS[name].float64 and narrow_signatures(name)}
    assert excused == set(FLOAT64)
    for name, limits in FLOAT64.items():
        assert {str(as_dtype(arrays_of(each)[0])) for each in narrow_signatures(name)} == set(limits)


@pytest.mark.parametrize("name", FLOAT64)
def test_excused_kernels_have_little_float64(name, architecture):
    for signature in narrow_signatures(name):
        assert_little_float64(KERNELS[name], name, signature, architecture)


# What computes with responses of float32 in float32 alone: there float64 is loaded, added and converted, once
# for many of them, or not at all.
@pytest.mark.parametrize(("name", "array"), [("passes.multiply_float32", 0), ("conclusion.arrange", -1)])
def test_products_are_of_float32(name, array, architecture):
    kernel = KERNELS[name]
    (signature,) = (each for each in kernel.signatures if arrays_of(each)[array] == types.float32)
    assert_no_products_of_float64(kernel, signature, architecture)


def assert_no_products_of_float64(kernel, signature, architecture):
    ptx = ptx_of(kernel, signature, architecture)
    products = [each for each in float64_of(ptx) if re.match(r"(fma|mul|div|sqrt)\b", each)]
    assert not products, f"{kernel.name}{signature} has {set(products)}"
    assert re.search(r"\b(fma|mul)\.\w*\.?f32\b", ptx)


def rewritten(function, before="(", after="(", **names):
    """A function of the package with a piece of its source changed, as by an oversight, or another helper."""
    source = inspect.getsource(function)
    assert before == after or source.count(before) == 1
    changed = dict(vars(inspect.getmodule(function))) | names
    # Without what registers or compiles it.
    exec(source[source.index("def ") :].replace(before, after), changed)  # noqa: S102
    return changed[function.__name__]


# Helpers with ``2 * f`` in their inner loops, which is float64.
PROMOTED = {
    "add_column": (statistics.add_column, "length * length", "2 * length * length"),
    "write_magnitude": (gradient.write_magnitude, "gx * gx", "2 * gx * gx"),
}


@pytest.mark.parametrize(
    ("name", "helper"),
    [
        ("statistics.fill_own_slice", "add_column"),
        ("statistics.fill_own_slice", "write_magnitude"),
        ("statistics.fill_moments", "add_column"),
        ("statistics.fill_from_moments", "write_magnitude"),
    ],
)
def test_a_promoted_inner_loop_is_seen(name, helper, architecture):
    """The negative control."""
    kernel, signature = KERNELS[name], narrow_signatures(name)[-1]
    compiled, before, after = PROMOTED[helper]
    changed = device_function(rewritten(compiled.py_func, before, after))
    function = rewritten(kernel.function, **{helper: changed})
    promoted = Kernel(function, (signature,), kernel.threads, kernel.resident, kernel.float64)
    with pytest.raises(AssertionError, match=r"has \d+ instructions of float64"):
        assert_little_float64(promoted, name, signature, architecture)


def test_a_promoted_product_is_seen(architecture):
    """The negative control."""
    kernel = KERNELS["passes.multiply_float32"]
    function = rewritten(passes._multiply, "+= held[c] * product", "+= held[c] * (1.0 * product)")
    promoted = Kernel(function, kernel.signatures, kernel.threads, kernel.resident, kernel.float64)
    with pytest.raises(AssertionError, match=r"has \{.*\.f64"):
        assert_no_products_of_float64(promoted, kernel.signatures[0], architecture)


# CuPy's ways to give the source of a kernel, which NVRTC compiles when it is first launched.
RAW = re.compile(
    r"\b(RawKernel|RawModule|ElementwiseKernel|ReductionKernel|rawkernel|compile_with_cache|fuse)\b"
)


def test_no_kernel_is_compiled_by_nvrtc():
    """All are Numba's, and compiled above; one of CuPy's would have to be compiled by a test, too."""
    folder = Path(next(iter(eigenfeatures.kernels.cuda.__path__))).parent
    sources = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    assert {"memory.py", "passes.py", "gram.py"} <= {path.name for path in sources}
    assert [path.name for path, source in sources.items() if RAW.search(source)] == []
    assert RAW.search('kernel = xp.RawKernel(source, "name")')


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
