"""Random numbers from a counter, so that every backend draws the same bits.

Philox 4×32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
as 1, 2, 3", SC 2011.
"""

from typing import Any

import numpy as np

from eigenfeatures.kernels.cpu.compile import helper

ROUNDS = 10
BITS = 32
LOW = np.uint64(0xFFFFFFFF)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
# The lowest bit of a word is a sign, the highest 24 are a size.
ONE, DROPPED, UNIT = np.uint64(1), np.uint64(8), 2.0**-24
WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))  # golden ratio, √3 − 1


@helper
def philox(counter: Any, key: Any, out: Any) -> None:
    """Fill `out` (4) with the 32-bit words of a counter (4) under a key (2); all arrays uint64."""
    shift = np.uint64(BITS)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        even = MULTIPLIERS[0] * c0
        odd = MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (odd >> shift) ^ c1 ^ k0, odd & LOW, (even >> shift) ^ c3 ^ k1, even & LOW
        k0 = (k0 + WEYL[0]) & LOW
        k1 = (k1 + WEYL[1]) & LOW
    out[0], out[1], out[2], out[3] = c0, c1, c2, c3


@helper
def random_weights(key: Any, stream: int, out: Any) -> None:
    """Fill `out` with ±[0.5, 1.5) from the words of counters (0, stream, 0, 0), (1, stream, 0, 0) and so on.

    Signs alone are orthogonal to e_i ± e_j for half of all pairs of channels, and so would hide singular
    vectors of maps that are equal or opposite.
    """
    counter = np.zeros(4, np.uint64)
    counter[1] = stream
    words = np.empty(4, np.uint64)
    for i in range(out.size):
        if i % 4 == 0:
            counter[0] = i // 4
            philox(counter, key, words)
        word = words[i % 4]
        size = 0.5 + np.float64(word >> DROPPED) * UNIT
        out[i] = size if word & ONE == ONE else -size
