"""Sums over warps and blocks, and loads of 16 bytes, each in a kernel of its own."""

import numpy as np
import pytest
from cuda_launch import launch
from numba import cuda

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import (
    MOST_WARPS,
    SIMULATED,
    WARP,
    block_sum,
    thread_index,
    warp_sum,
)
from eigenfeatures.kernels.cuda.tile import ALIGNMENT
from eigenfeatures.kernels.cuda.vector import WIDTH, await_copies, copy_to_shared


def sum_warps(values, out):
    thread = thread_index()
    out[thread] = warp_sum(values[thread])


def sum_block(values, out):
    partials = cuda.shared.array(MOST_WARPS, values.dtype)
    thread = thread_index()
    first = block_sum(values[thread], partials)
    out[thread] = first + block_sum(values[thread], partials)


def copy(values, out):
    shared = cuda.shared.array(256, values.dtype, ALIGNMENT)
    items = WIDTH // shared.itemsize
    place = items * cuda.threadIdx.x
    copy_to_shared(shared, place, values, place)
    await_copies()
    cuda.syncthreads()
    for k in range(items):
        out[place + k] = shared[place + k]


def run(function, values, out, threads):
    given, filled = memory.to_device(values), memory.to_device(out)
    launch(function, 1, threads, given, filled)
    return memory.to_host(filled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [(32, 1), (64, 3)])
def test_sums(dtype, threads):
    count = threads[0] * threads[1]
    values = np.random.default_rng(0).random(count).astype(dtype)
    of_warps = run(sum_warps, values, np.zeros_like(values), threads)
    expected = values.reshape(-1, WARP).sum(1, dtype=np.float64).repeat(WARP)
    np.testing.assert_allclose(of_warps, expected, rtol=8 * np.finfo(dtype).eps)
    of_block = run(sum_block, values, np.zeros_like(values), threads)
    np.testing.assert_allclose(of_block, 2 * values.sum(dtype=np.float64), rtol=16 * np.finfo(dtype).eps)
    assert len(set(of_block)) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_sixteen_bytes(dtype):
    values = (np.random.default_rng(1).random(128) * 200).astype(dtype)
    threads = 4
    out = run(copy, values, np.zeros_like(values), threads)
    moved = threads * WIDTH // values.itemsize
    np.testing.assert_array_equal(out[:moved], values[:moved])
    assert not out[moved:].any()


@pytest.mark.skipif(not SIMULATED, reason="hardware ends the process's context at such an address")
@pytest.mark.parametrize(("start", "length", "error"), [(1, 64, ValueError), (0, 14, IndexError)])
def test_the_simulator_refuses_what_hardware_cannot_load(start, length, error):
    values = np.zeros(start + length, np.float32)[start:]
    filled = np.zeros(64, np.float32)
    with pytest.raises(error):
        launch(copy, 1, 4, values, filled)
