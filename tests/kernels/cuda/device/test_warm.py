"""Compiling ahead launches every kernel, with every type of arrays that it is registered for."""

import importlib
import pkgutil

import numpy as np
import pytest

import eigenfeatures.kernels.cuda
from eigenfeatures.kernels import call, warm
from eigenfeatures.kernels.cuda import memory, statistics
from eigenfeatures.kernels.cuda.compile import REGISTRY, SIMULATED

for module in pkgutil.iter_modules(eigenfeatures.kernels.cuda.__path__):
    importlib.import_module(f"eigenfeatures.kernels.cuda.{module.name}")


class OnDevice(np.ndarray):
    """NumPy's, in the simulator, where it stands for CuPy's."""


@pytest.fixture
def launched(monkeypatch):
    """The kernels that were launched, each with its signature."""
    prepared, found = memory.prepared, set()

    def noted(kernel, *arguments, **options):
        arrays = tuple(value.dtype for value in arguments if isinstance(value, memory.xp().ndarray))
        found.add((kernel.name, kernel.signature_of(arrays)))
        return prepared(kernel, *arguments, **options)

    monkeypatch.setattr(memory, "prepared", noted)
    return found


@pytest.fixture
def _small(monkeypatch):
    """Inputs that the simulator is quick with; there only what was brought to a GPU counts as lying there."""
    if not SIMULATED:
        return
    monkeypatch.setattr(warm, "_SIDE", 3)
    monkeypatch.setattr(warm, "_CHANNELS", 3)
    monkeypatch.setattr(warm, "_MAP_SIDE", 3)
    monkeypatch.setattr(warm, "SMALL", 2)
    monkeypatch.setattr(warm, "SLICE", 4 * 9)
    monkeypatch.setattr(statistics, "OWNED", 9)
    monkeypatch.setattr(warm, "_counts", lambda _: (0, 0))  # of compilations, of which it has none
    to_device = memory.to_device
    monkeypatch.setattr(memory, "to_device", lambda array: to_device(array).view(OnDevice))
    monkeypatch.setattr(call, "_gpu_of", lambda array, _: 0 if isinstance(array, OnDevice) else None)


def registered():
    return {(kernel.name, signature) for kernel in REGISTRY for signature in kernel.signatures}


@pytest.mark.usefixtures("_small")
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_every_kernel_is_compiled_ahead(launched):
    compiled = list(warm.warm(backend="cuda"))
    assert [item.name for item in compiled] == list(warm._FUNCTIONS)
    assert registered() - launched == set()


@pytest.mark.usefixtures("_small")
def test_what_is_not_launched_is_seen(launched):
    """The negative control: of one type alone those of the others are missing."""
    list(warm.warm(["uint8"], backend="cuda"))
    missing = {name for name, _ in registered() - launched}
    assert {"gradient.fill_gradient", "passes.scaled", "passes.multiply_float64"} <= missing


def test_a_slice_is_larger_than_what_a_block_standardises():
    """So that `warm` compiles the kernels for large slices, too."""
    assert warm.SLICE // np.dtype(np.float32).itemsize + 1 > statistics.OWNED
    assert warm._SIDE**2 <= statistics.OWNED
