"""The counter-based generator against its authors' vectors and Python's integers."""

import numpy as np
import pytest
import reference

from eigenfeatures.kernels.cpu import philox
from eigenfeatures.kernels.cpu.krylov import random_weights

# kat_vectors of Random123, philox4x32 with 10 rounds.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_vectors(counter, key, expected):
    words = np.empty(4, np.uint64)
    philox.philox(np.array(counter, np.uint64), np.array(key, np.uint64), words)
    assert words.tolist() == expected
    assert reference.philox(counter, key) == expected


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3, 2**64 - 1])
def test_weights_have_the_bits_of_the_counters(seed):
    key = [seed & 0xFFFFFFFF, seed >> 32]
    words = [word for block in range(75) for word in reference.philox([block, 5, 0, 0], key)]
    expected = [(1 if word % 2 else -1) * (0.5 + (word // 256) / 2**24) for word in words]
    np.testing.assert_array_equal(random_weights(300, seed, stream=5), expected)


def test_weights_are_spread_and_differ_by_seed_and_stream():
    weights = random_weights(10_000, 1)
    assert abs(weights.mean()) < 0.04
    counts, _ = np.histogram(abs(weights), 10, (0.5, 1.5))
    assert counts.sum() == 10_000
    assert np.all(abs(counts - 1000) < 120)
    assert abs(np.mean(weights * random_weights(10_000, 2))) < 0.04
    assert abs(np.mean(weights * random_weights(10_000, 1, stream=1))) < 0.04
