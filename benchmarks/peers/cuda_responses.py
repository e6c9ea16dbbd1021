"""Responses of many slices on a GPU."""

from typing import Any, NamedTuple

import numpy as np

from peers import cuda
from peers.responses import Responses, real_responses

SIZES = {"smallest": (5, 16, 13), "quick": (64, 128, 133), "full": (1064, 128, 133)}

# Slices that are different; the others are these again with fresh noise.
_DISTINCT = 8
_NOISE = 0.01


class OnDevice(NamedTuple):
    """Maps ``(N, C, side, side)`` on the GPU, those that they were made of, and seconds of their transfer."""

    maps: Any
    responses: Responses
    transfer: float


def responses_on_device(size: tuple[int, ...]) -> OnDevice:
    """Return maps of a size; of slices that differ the transfer is timed, and scaled to all."""
    import cupy

    count, channels, side = size
    distinct = min(count, _DISTINCT)
    responses = real_responses("cement", distinct, channels, side)
    base, seconds = cuda.to_device(responses.maps)
    draw = cupy.random.default_rng(0)
    deviation = float(responses.maps.std())
    maps = cupy.empty((count, *base.shape[1:]), np.float32)
    for i in range(count):
        noise = draw.standard_normal(base.shape[1:], dtype=np.float32)
        cupy.maximum(base[i % distinct] + np.float32(_NOISE * deviation) * noise, 0, out=maps[i])
    return OnDevice(maps, responses, seconds * count / distinct)
