"""What only real hardware shows: the order of work on streams, many threads, and what the cache keeps."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import numpy as np
import pytest

import eigenfeatures.kernels.cuda
from eigenfeatures.kernels import (
    StreamingSVD,
    gradient_magnitude,
    gram,
    standardized_gradient,
    strongest_channel,
    truncated_svd,
)
from eigenfeatures.kernels.cuda.compile import REGISTRY

for module in pkgutil.iter_modules(eigenfeatures.kernels.cuda.__path__):
    importlib.import_module(f"eigenfeatures.kernels.cuda.{module.name}")

pytestmark = pytest.mark.cuda

IMAGES = (np.random.default_rng(0).random((8, 200, 200)) * 255).astype(np.uint8)
# With a leading singular value apart from the others.
RESPONSES = np.random.default_rng(1).random((3, 16, 60, 55)).astype(np.float32)

WORK = [
    (gradient_magnitude, IMAGES),
    (standardized_gradient, IMAGES),
    (strongest_channel, RESPONSES),
    (gram, RESPONSES),
    (truncated_svd, RESPONSES),
]


def torch_with_cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("a torch without CUDA")
    return torch


def written_late(host, stream, convert=lambda array: array):
    """Zeros of the device that get the values of `host` late on a stream, after some tens of milliseconds.

    They are converted to another library before, since handing them out makes its stream wait.
    """
    import cupy

    values, late = cupy.asarray(host), cupy.zeros(host.shape, host.dtype)
    slow, given = cupy.ones((4096, 4096), np.float32), convert(late)
    slow @ slow  # cuBLAS begins
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(20):
            slow = slow @ slow * 0
        late[...] = values + slow[0, 0].astype(host.dtype)
    return given


def on_host(array):
    """An array of CuPy, torch or NumPy, whose work is done, on the host."""
    if isinstance(array, np.ndarray):
        return array
    return array.cpu().numpy() if hasattr(array, "cpu") else array.get()


def numbers(result):
    """What a result holds, on the host, but for how it was found and what is found on the way."""
    if hasattr(result, "dtype"):
        return {"": on_host(result)}
    left_out = ("method", "passes", "gap")
    return {name: on_host(value) for name, value in vars(result).items() if name not in left_out}


def assert_near(result, expected):
    found, expected = numbers(result), numbers(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = np.nan_to_num(abs(value)).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-5 * max(scale, 1), err_msg=name)


@pytest.mark.parametrize("given", ["current", "argument"])
@pytest.mark.parametrize("library", ["cupy", "torch"])
@pytest.mark.parametrize(("function", "host"), WORK)
def test_work_goes_to_the_callers_stream(function, host, library, given):
    """What is worked on is written late on the stream; computed elsewhere, the result would be of zeros."""
    import cupy

    function(cupy.asarray(host))  # to compile takes longer than the late work does
    stream = cupy.cuda.Stream(non_blocking=True)
    if library == "torch":
        torch = torch_with_cuda()
        late, own = written_late(host, stream, torch.from_dlpack), torch.cuda.ExternalStream(stream.ptr)
        current = torch.cuda.stream(own)
    else:
        late, own, current = written_late(host, stream), stream, stream
    if given == "argument":
        result = function(late, stream=own)
    else:
        with current:
            result = function(late)
    stream.synchronize()
    assert_near(result, function(host))


def test_computed_elsewhere_it_would_be_of_zeros():
    """The negative control: another stream doesn't wait."""
    import cupy

    stream, other = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    gradient_magnitude(cupy.asarray(IMAGES), stream=other)  # has the kernel and memory at hand
    late = written_late(IMAGES, stream)
    result = gradient_magnitude(late, stream=other)
    other.synchronize()
    assert not on_host(result).any()
    stream.synchronize()


@pytest.mark.parametrize("layout", ["contiguous", "every second"])
@pytest.mark.parametrize("function", [gradient_magnitude, standardized_gradient])
def test_out_is_filled_on_the_callers_stream(function, layout):
    """What isn't contiguous is copied into, and that has its place on the stream, too."""
    import cupy

    function(cupy.asarray(IMAGES))
    stream = cupy.cuda.Stream(non_blocking=True)
    wide = cupy.full((8, 200, 400), -1, np.float32)
    out = wide[..., ::2] if layout == "every second" else cupy.full(IMAGES.shape, -1, np.float32)
    late = written_late(IMAGES, stream)
    assert function(late, out=out, stream=stream) is out
    stream.synchronize()
    assert_near(out, function(IMAGES))
    assert (on_host(wide[..., 1::2]) == -1).all()


@pytest.mark.parametrize("library", ["cupy", "torch"])
@pytest.mark.parametrize(("function", "host"), WORK)
def test_a_thread_that_has_asked_nothing_of_the_gpu(function, host, library):
    """Its first request is a launch: the array is another thread's, the kernel loaded, and memory at hand."""
    import cupy

    given = cupy.asarray(host)
    if library == "torch":
        given = torch_with_cuda().from_dlpack(given)
    for _ in range(2):
        expected = numbers(function(given))
    with ThreadPoolExecutor(1) as pool:
        found = numbers(pool.submit(function, given).result())
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(on_host(given), host)


def test_many_threads_at_once():
    """On streams of their own and on one together, with kernels that no thread has loaded."""
    import cupy

    threads = 8
    hosts = [[np.roll(host, k, axis=-1) for _, host in WORK] for k in range(threads)]
    expected = [[function(host) for (function, _), host in zip(WORK, each, strict=True)] for each in hosts]
    given = [[cupy.asarray(host) for host in each] for each in hosts]
    cupy.cuda.Device().synchronize()
    for kernel in REGISTRY:
        kernel.loaded.clear()
    together = Barrier(threads)

    def work(k):
        together.wait(60)
        with cupy.cuda.Stream(non_blocking=True) if k % 2 else nullcontext():
            for _ in range(5):
                results = [function(array) for (function, _), array in zip(WORK, given[k], strict=True)]
            return [numbers(result) for result in results]

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, range(threads)))
    for k in range(threads):
        for result, other in zip(found[k], expected[k], strict=True):
            for name, value in numbers(other).items():
                scale = max(np.nan_to_num(abs(value)).max(), 1)
                np.testing.assert_allclose(result[name], value, rtol=0, atol=2e-5 * scale, err_msg=name)
        for array, host in zip(given[k], hosts[k], strict=True):
            np.testing.assert_array_equal(on_host(array), host)


def test_what_was_compiled_ahead_is_not_compiled_again():
    """Every kernel for every type is loaded by a second process, and none is compiled."""

    def warm():
        done = subprocess.run(
            [sys.executable, "-m", "eigenfeatures.kernels", "warm", "--cuda"],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=570,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    warm()
    *lines, total = warm()
    assert total.startswith("0 compiled for uint8, uint16, float32, float64 in ")
    assert len(lines) == 8
    loaded = [int(count) for count in re.findall(r"(\d+) from the cache", "\n".join(lines))]
    assert sum(loaded) == sum(len(kernel.signatures) for kernel in REGISTRY)


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_streaming_svd_of_parts_on_the_callers_stream(library):
    """The parts are written late on a stream, and what is made of them stays on the device."""
    import cupy

    module = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("a torch without CUDA")
    host = np.random.default_rng(0).random((3, 16, 120, 110)).astype(np.float32)
    values, parts = cupy.asarray(host), cupy.zeros(host.shape, np.float32)
    slow = cupy.ones((4096, 4096), np.float32)
    cupy.cuda.Device().synchronize()
    late = cupy.cuda.Stream(non_blocking=True)
    with late, module.cuda.stream(module.cuda.ExternalStream(late.ptr)) if library == "torch" else late:
        for _ in range(20):
            slow = slow @ slow * 0
        parts[...] = values + slow[0, 0]
        given = parts if library == "cupy" else module.from_dlpack(parts)
        stream = StreamingSVD(2)
        for part in given:
            stream.add(part)
        pieces = [stream.left(part) for part in given]
    late.synchronize()
    assert all(type(piece) is type(given) for piece in pieces)
    expected = StreamingSVD(2)
    expected.add(host)
    np.testing.assert_allclose(stream.finish().s, expected.finish().s, rtol=1e-12)
    found = np.stack([cupy.asnumpy(cupy.from_dlpack(piece)) for piece in pieces])
    np.testing.assert_allclose(found, expected.left(host), atol=1e-6)
    assert stream.residual <= 1e-5
