"""Memory of the kernels: calls keep none of it, and statistics of slices make no image."""

from pathlib import Path

import own_process
import pytest

CALLS = 200

# Tells of each line of code by how many bytes the process grows in so many calls, and by how many objects.
GROWTH = """
import contextlib
import ctypes
import gc
import sys

import numba
import numpy as np
import psutil
import torch
from eigenfeatures.kernels import *

def held():
    gc.collect()
    sys._clear_type_cache()  # it refers to up to 4,096 names by which C code has asked for attributes
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    memory = psutil.Process().memory_info()
    # Without pages of files, which come and go.
    return memory.rss - getattr(memory, "shared", 0), sys.getallocatedblocks()

def streamed():
    stream = StreamingSVD(2)
    stream.add(maps)
    return stream.left(maps), stream.residual

maps = np.random.default_rng(0).random((4, 160, 160), np.float32)
grey, out, kept = (200 * maps).astype(np.uint8), np.empty_like(maps), []
tensor, filled = torch.from_numpy(maps), torch.empty(maps.shape)
calls, *codes = sys.argv[1:]
threads = numba.get_num_threads()
gc.freeze()  # what was imported is not gone through each time
for code in codes:
    call = eval(f"lambda: {code}")
    for k in range(-20, int(calls)):
        if k == 0:  # pools are full
            before = held()
        # To wake other threads takes longer than the call.
        numba.set_num_threads(1 if k % 4 else threads)
        call()
    print(*(after - before for after, before in zip(held(), before)))
"""

# What one left vector takes.
U = 4 * 160 * 160

CALLED = [
    "gradient(maps)",
    "gradient_magnitude(grey)",
    "gradient_magnitude(maps, out=out)",
    "gradient_magnitude(tensor, out=filled)",
    "standardized_gradient(grey, out=out)",
    "standardized_gradient(tensor)",
    "slice_statistics(maps)",
    "strongest_channel(maps)",
    "stretch_contrast(grey)",
    "gram(tensor)",
    "truncated_svd(maps)",
    "truncated_svd(tensor, gap=True)",
    "truncated_svd(maps, 4, center=True)",
    "streamed()",
]
KEPT = ["kept.append(truncated_svd(maps).u)", "kept.append(slice_statistics(maps))"]


@pytest.fixture(scope="module")
def growth():
    """By how many bytes and objects each line of code lets a process grow."""
    codes = [*CALLED, *KEPT]
    numbers = own_process.printed(GROWTH, CALLS, *codes)
    return dict(zip(codes, zip(numbers[::2], numbers[1::2], strict=True), strict=True))


@pytest.mark.parametrize("code", CALLED)
def test_calls_keep_nothing(growth, code):
    """Nor do those that all threads share, each fourth."""
    memory, objects = growth[code]
    assert memory < CALLS * U / 8
    assert objects < CALLS / 8


def test_what_is_kept_is_seen(growth):
    """The negative control: one left vector of each call, and a few numbers."""
    assert growth[KEPT[0]][0] > CALLS * U * 0.9
    for code in KEPT:
        assert growth[code][1] >= CALLS


PEAKS = """
import sys
from pathlib import Path

import numpy as np
from eigenfeatures.kernels import gradient_magnitude, slice_statistics

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024

image = np.random.default_rng(0).integers(0, 256, (4000, 4000), np.uint8).astype(sys.argv[1], copy=False)
for function in (slice_statistics, gradient_magnitude):
    function(image[:512, :512])  # libraries and code
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before = status("VmRSS")
    function(image)
    print((status("VmHWM") - before) / (4 * image.size))
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc, which Linux has"
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_statistics_make_no_image(dtype):
    """In units of one image of float32; |∇Y| that is written is the negative control."""
    statistics, magnitude = own_process.printed(PEAKS, dtype)
    assert statistics < 1 / 8
    assert magnitude > 0.9
