"""Threads, forks and imports, each in a process of its own."""

import os
import subprocess
import sys

import pytest

HASHES = """
import hashlib
import numba
import numpy as np
from eigenfeatures.kernels import slice_statistics, standardized_gradient, truncated_svd

rng = np.random.default_rng(0)
images = rng.random((3, 150, 70)).astype(np.float32)
responses = np.maximum(rng.random((2, 20, 40, 50)) - rng.random((40, 50)), 0).astype(np.float32)

def digest():
    results = [standardized_gradient(images), *slice_statistics(images)]
    for rank in (1, 3):
        svd = truncated_svd(responses, rank)
        results += [svd.u, svd.s, svd.v, svd.residual, svd.energy]
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

TWO_THREADS = (
    HASHES
    + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    hashes = set(pool.map(lambda _: digest(), range(8)))
assert len(hashes) == 1, hashes
"""
)

IMPORT = """
import sys
import time
import numba
before = set(sys.modules)
start = time.perf_counter()
import eigenfeatures.kernels
seconds = time.perf_counter() - start
added = {name.partition(".")[0] for name in set(sys.modules) - before}
assert added <= {"eigenfeatures", "numpy", "numba", *sys.stdlib_module_names}, added
heavy = {"torch", "onnx", "onnxruntime", "cupy", "numba_cuda", "cuda"} & set(sys.modules)
assert not heavy, heavy
assert seconds < 0.5, seconds
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
@pytest.mark.parametrize("script", [SAME_BITS, FORK, TWO_THREADS], ids=["same_bits", "fork", "two_threads"])
def test_threads(script, layer):
    run(script, NUMBA_NUM_THREADS="2", NUMBA_THREADING_LAYER=layer)


def test_import_is_light():
    run(IMPORT)


def run(script: str, **environment: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
