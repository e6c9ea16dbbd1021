"""Random numbers of a device against those of the CPU and Python's integers."""

import numpy as np
import pytest
import reference
from cuda_launch import launch
from numba import cuda

from eigenfeatures.kernels.cpu.krylov import random_weights
from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.philox import philox, random_weight


def draw_weights(k0, k1, stream, out):
    for i in range(cuda.threadIdx.x, out.size, cuda.blockDim.x):
        out[i] = random_weight(k0, k1, stream, i)


def draw_words(counter, key, out):
    words = philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])
    for i in range(4):
        out[i] = words[i]


@pytest.mark.parametrize(
    ("counter", "key"),
    [
        ([0] * 4, [0] * 2),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]),
    ],
)
def test_words(counter, key):
    out = memory.to_device(np.zeros(4, np.uint64))
    given = [memory.to_device(np.array(words, np.uint64)) for words in (counter, key)]
    launch(draw_words, 1, 1, *given, out)
    assert memory.to_host(out).tolist() == reference.philox(counter, key)


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 5), (2**40 + 3, 1), (2**64 - 1, 24)])
def test_weights_have_the_bits_of_the_cpu(seed, stream):
    out = memory.to_device(np.zeros(300))
    key = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    launch(draw_weights, 1, 32, *key, stream, out)
    np.testing.assert_array_equal(memory.to_host(out), random_weights(300, seed, stream))
