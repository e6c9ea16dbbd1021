"""Threads, forks and imports, each in a process of its own."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from eigenfeatures.kernels.cpu import compile

HASHES = """
import hashlib
import numba
import numpy as np
from eigenfeatures.kernels import *

rng = np.random.default_rng(0)
images = rng.random((3, 180, 130)).astype(np.float32)
responses = np.maximum(rng.random((2, 20, 60, 60)) - rng.random((60, 60)), 0).astype(np.float32)

def streamed(maps):
    stream = StreamingSVD(2, center=maps.dtype == np.uint8)
    stream.add(maps)
    svd = stream.finish()
    return svd.s, svd.v, stream.left(maps), stream.residual

def digest():
    results = []
    for scale, dtype in ((1, np.float32), (200, np.uint8)):
        given, maps = (scale * images).astype(dtype), (scale * responses).astype(dtype)
        results += [*gradient(given), gradient_magnitude(given), standardized_gradient(given)]
        results += [*slice_statistics(given), stretch_contrast(given), gram(maps), *streamed(maps)]
        results += vars(strongest_channel(maps)).values()
        for options in ({"max_passes": 20}, {"gap": True}, {"rank": 3, "center": True}):
            results += vars(truncated_svd(maps, **options)).values()
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results)).hexdigest()
"""

SAME_BITS = (
    HASHES
    + """
hashes = set()
for threads in (1, 2):
    numba.set_num_threads(threads)
    hashes.add(digest())
assert len(hashes) == 1, hashes
"""
)

FORK = (
    HASHES
    + """
import os
expected = digest()
child = os.fork()
if child == 0:
    os._exit(0 if digest() == expected else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert digest() == expected
"""
)

MANY_THREADS = (
    HASHES
    + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    hashes = set(pool.map(lambda _: digest(), range(16)))
assert len(hashes) == 1, hashes
"""
)

# That a layer was asked for doesn't prove that it ran.
USED = """
import os
assert numba.threading_layer() == os.environ["LAYER"], numba.threading_layer()
"""

IMPORT = """
import sys
import numba
before = set(sys.modules)
import eigenfeatures.kernels
new = set(sys.modules) - before
added = {name.partition(".")[0] for name in new}
assert added <= {"eigenfeatures", "numpy", "numba", *sys.stdlib_module_names}, added
heavy = {"torch", "onnx", "onnxruntime", "cupy", "numba_cuda", "cuda"} & set(sys.modules)
assert not heavy, heavy
# What is for work on a GPU and what compiles ahead waits until it is asked for.
waiting = ("numba.cuda", "eigenfeatures.kernels.cuda", "eigenfeatures.kernels.warm")
late = {name for name in new if name.startswith(waiting)}
assert not late, late
"""

NO_CACHE = """
import warnings
from numba.core import caching

def refuse(locator):
    raise OSError("read-only file system")

caching._CacheLocator.ensure_cache_path = refuse
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from eigenfeatures.kernels import gram, slice_statistics
    assert gram([[[1, 2, 3]], [[0, 1, -1]]]).tolist() == [[14, -1], [-1, 2]]
    slice_statistics([[1, 2], [3, 4]])
(warning,) = caught
assert "no folder for compiled kernels can be written" in str(warning.message), warning
assert "\\n" not in str(warning.message)

from eigenfeatures.kernels.__main__ import main
assert main(["warm"]) == 1
"""

# Contrast has no kernel of Numba's, and threads of Python's.
NO_THREADS = """
import os
import threading
import numba
import numpy as np
from eigenfeatures.kernels import stretch_contrast

images = np.random.default_rng(0).random((8, 80, 80))
expected = stretch_contrast(images)

def refuse(thread):
    raise AssertionError("a thread was started")

threading.Thread.start = refuse
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(stretch_contrast(images), expected) else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
stretch_contrast(images[0])  # no pool for one image
numba.set_num_threads(1)
assert np.array_equal(stretch_contrast(images), expected)
"""


# Modules of Numba that hold the threading layers.
LAYERS = {"workqueue": "workqueue", "omp": "omppool", "tbb": "tbbpool"}

AVAILABLE = f"""
import contextlib
import importlib

for layer, module in {LAYERS}.items():
    with contextlib.suppress(ImportError):
        importlib.import_module(f"numba.np.ufunc.{{module}}")
        print(layer)
"""

# `pip install tbb` puts the library into a folder where Linux looks for none.
LIBRARIES = os.pathsep.join(filter(None, [f"{sys.prefix}/lib", os.environ.get("LD_LIBRARY_PATH")]))


@cache
def available() -> list[str]:
    """Return the threading layers that Numba has where it finds the libraries that pip installs."""
    return run(AVAILABLE, LD_LIBRARY_PATH=LIBRARIES).split()


@pytest.mark.parametrize("layer", ["default", *LAYERS])
@pytest.mark.parametrize("script", [SAME_BITS, FORK, MANY_THREADS], ids=["same_bits", "fork", "many_threads"])
def test_threads(script, layer):
    if layer == "default":
        run(script, NUMBA_THREADING_LAYER=layer)
        return
    if layer not in available():
        pytest.skip(f"Numba has no threading layer {layer} here")
    run(f"{script}\n{USED}", LAYER=layer, NUMBA_THREADING_LAYER=layer, LD_LIBRARY_PATH=LIBRARIES)


def test_small_arrays_have_the_serial_build(monkeypatch):
    """With all threads too: to wake others may take many times as long as the loop."""
    monkeypatch.setattr(compile, "SMALL", 1 << 15)
    kernel, ran = compile.Kernel(lambda *_: None), []
    kernel._serial = lambda *_: ran.append("serial")
    kernel._parallel = lambda *_: ran.append("parallel")
    monkeypatch.setattr(compile, "thread_count", lambda: 2)
    for size in (1, 1 << 15, (1 << 15) + 1):
        kernel(np.zeros(3), np.zeros(size, np.uint8))
    monkeypatch.setattr(compile, "thread_count", lambda: 1)
    kernel(np.zeros(1 << 20), 2.0)
    assert ran == ["serial", "serial", "parallel", "serial"]


def test_a_helper_is_compiled_the_same_whoever_calls_it_first(monkeypatch):
    """Numba's fast-math goes from a caller to what it calls, unless that says what it wants."""
    monkeypatch.setattr(compile, "cached", lambda jit, function, **options: jit(**options)(function))

    @compile.helper
    def of_both(a, b):
        return a * a + b * b

    @compile.reduction
    def total(values):
        result = values[0]
        for value in values:
            result += of_both(value, value)
        return result

    total(np.ones(3, np.float32))
    (code,) = of_both.inspect_llvm().values()
    assert "fmul float" in code
    assert "contract" not in code
    (code,) = total.inspect_llvm().values()
    assert "contract" in code, "the negative control"


def test_import_is_light():
    run(IMPORT)


def test_without_a_folder_for_the_cache():
    """As in a container whose file system is read-only."""
    run(NO_CACHE)


def test_a_forked_child_and_a_single_thread_start_none():
    run(NO_THREADS)


PARALLEL_LOOP = """
import multiprocessing, numba, numpy as np

@numba.njit(parallel=True)
def total(values):
    found = 0.0
    for k in numba.prange(values.size):
        found += values[k]
    return found
"""

FORKED_FIRST_IMPORT = (
    PARALLEL_LOOP
    + """
def work(queue):
    from eigenfeatures.kernels import gradient_magnitude
    queue.put(gradient_magnitude(np.ones((3, 150, 150), np.uint8)).sum())

assert total(np.ones(99)) == 99
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
child = context.Process(target=work, args=(queue,))
child.start()
child.join()
assert child.exitcode == 0, child.exitcode
assert queue.get() == 0
"""
)


def test_a_forked_child_may_be_the_first_to_import_the_kernels():
    """OpenMP ends a child that enters a parallel loop, where its parent has run one of Numba's."""
    run(FORKED_FIRST_IMPORT, NUMBA_THREADING_LAYER="omp")


SPAWNED = """
import multiprocessing, sys
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(eval, ["__import__('spawned').threads()"]))
"""

IN_SPAWNED = (
    PARALLEL_LOOP
    + """
def threads():
    assert total(np.ones(99)) == 99
    from eigenfeatures.kernels.cpu.compile import thread_count
    return thread_count()
"""
)


def test_a_spawned_child_keeps_its_threads_whatever_ran_before_the_import(tmp_path):
    (tmp_path / "spawned.py").write_text(IN_SPAWNED)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run(SPAWNED, PYTHONPATH=path).strip() == "2"


INTERPRETED = """
import numpy as np
from eigenfeatures.kernels import truncated_svd
maps = np.random.default_rng(0).random((2, 4, 5, 6))
svd = truncated_svd(maps, gap=True)
values = np.linalg.svd(maps.reshape(2, 4, 30), compute_uv=False)
np.testing.assert_allclose(svd.s[:, 0], values[:, 0])
np.testing.assert_allclose(svd.gap, values[:, 1] / values[:, 0])
"""


def test_without_compilation_the_answer_is_the_same():
    """As developers of other packages let Numba run Python, for a debugger or for coverage."""
    run(INTERPRETED, NUMBA_DISABLE_JIT="1")


def run(script: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
