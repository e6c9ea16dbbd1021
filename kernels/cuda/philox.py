"""Random numbers on the device, with the bits of `eigenfeatures.kernels.cpu.philox`."""

from typing import Any

import numpy as np

from eigenfeatures.kernels.cpu.philox import BITS, DROPPED, LOW, MULTIPLIERS, ONE, ROUNDS, UNIT, WEYL
from eigenfeatures.kernels.cuda.compile import device_function

_SHIFT = np.uint64(BITS)
_EVEN, _ODD = MULTIPLIERS
_WEYL_EVEN, _WEYL_ODD = WEYL


@device_function
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Return the 32-bit words of a counter (c0 to c3) under a key (k0, k1); all are uint64."""
    for _ in range(ROUNDS):
        even = _EVEN * c0
        odd = _ODD * c2
        c0, c1, c2, c3 = (odd >> _SHIFT) ^ c1 ^ k0, odd & LOW, (even >> _SHIFT) ^ c3 ^ k1, even & LOW
        k0 = (k0 + _WEYL_EVEN) & LOW
        k1 = (k1 + _WEYL_ODD) & LOW
    return c0, c1, c2, c3


@device_function
def random_weight(k0: Any, k1: Any, stream: Any, index: Any) -> float:
    """Return element `index` of what the CPU's `random_weights` draws for a key and a stream.

    Each thread makes the words it needs for itself: they are few, and nothing is shared.
    """
    block, place = index // 4, index % 4
    zero = np.uint64(0)
    word0, word1, word2, word3 = philox(np.uint64(block), np.uint64(stream), zero, zero, k0, k1)
    word = word0
    if place == 1:
        word = word1
    if place == 2:
        word = word2
    if place == 3:
        word = word3
    size = 0.5 + np.float64(word >> DROPPED) * UNIT
    return size if word & ONE == ONE else -size
