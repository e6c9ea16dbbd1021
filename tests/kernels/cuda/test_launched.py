"""Kernels are launched with the types of arguments that they are registered, and so compiled, for."""

import numpy as np
import pytest
from numba.cuda.core.sigutils import normalize_signature
from numba.cuda.typing.typeof import typeof

from eigenfeatures.kernels import MASKS
from eigenfeatures.kernels.cuda import channels, gradient, memory, statistics


@pytest.fixture
def launched(monkeypatch):
    """The names of kernels that are launched, with NumPy's arrays, once their arguments were checked."""
    names = []

    def check(kernel, _blocks, threads, *arguments, shared=0):
        given = tuple(typeof(argument) for argument in arguments)
        compiled = [normalize_signature(signature)[0] for signature in kernel.signatures]
        assert given in compiled, f"{kernel.name} is launched with {given}"
        assert np.prod(threads) <= kernel.threads
        assert shared <= 48 * 1024
        names.append(kernel.name)

    monkeypatch.setattr(memory, "SIMULATED", True)
    monkeypatch.setattr(memory, "launch", check)
    return names


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 266, 266), (300, 150, 150), (2, 700, 2048)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_slices(shape, dtype, launched):
    images = np.empty(shape, dtype)
    working = np.float64 if dtype == "float64" else np.float32
    filled = np.empty(shape, working)
    gradient.gradient(images, MASKS["forward"], filled, filled)
    gradient.magnitude(images, MASKS["sobel"], 0.0, 1.0, filled)
    statistics.moments(images, MASKS["sobel"], np.empty((shape[0], 2, 3)))
    assert launched == ["gradient.fill_gradient", "gradient.fill_magnitude", "statistics.fill_moments"]
    launched.clear()
    statistics.standardized(images, MASKS["sobel"], filled)
    by_tiles = dtype == "float64" or shape[1] == 700
    assert launched == (
        ["statistics.fill_moments", "statistics.fill_from_moments"]
        if by_tiles
        else ["statistics.fill_own_slice"]
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_channels(dtype, launched):
    index, values = np.empty(2, np.int64), np.empty((3, 2))
    channels.strongest(np.empty((2, 3, 4), dtype), index, *values)
    assert launched == ["channels.survey", "channels.choose"]


def test_a_slice_of_too_many_pixels(launched):
    images = np.broadcast_to(np.uint8(0), (1, 2**16, 2**15))
    with pytest.raises(ValueError, match="65536 × 32768 has more pixels"):
        statistics.moments(images, MASKS["sobel"], np.empty((1, 2, 3)))
    assert launched == []
