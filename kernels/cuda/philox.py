"""Random signs on the device, with the bits of `eigenfeatures.kernels.cpu.philox`."""

from typing import Any

import numpy as np

from eigenfeatures.kernels.cpu.philox import BITS, LOW, MULTIPLIERS, ROUNDS, WEYL
from eigenfeatures.kernels.cuda.compile import device_function

# Signs that the words of one counter hold.
SIGNS = 4 * BITS

_SHIFT = np.uint64(BITS)
_EVEN, _ODD = MULTIPLIERS
_WEYL_EVEN, _WEYL_ODD = WEYL
_ONE = np.uint64(1)


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
def random_sign(k0: Any, k1: Any, stream: Any, index: Any) -> float:
    """Return element `index` of the ±1 that the CPU's `random_signs` draws for a key and a stream.

    Each thread makes the words it needs for itself: they are few, and nothing is shared.
    """
    block, place = index // SIGNS, index % SIGNS
    zero = np.uint64(0)
    word0, word1, word2, word3 = philox(np.uint64(block), np.uint64(stream), zero, zero, k0, k1)
    word = word0
    if place >= BITS:
        word = word1
    if place >= 2 * BITS:
        word = word2
    if place >= 3 * BITS:
        word = word3
    bit = (word >> np.uint64(place % BITS)) & _ONE
    return 1.0 if bit == _ONE else -1.0
