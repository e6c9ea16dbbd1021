"""How the kernels for the GPU are tested.

`device/` holds what runs on a device: real hardware (marked `cuda`, skipped where there is none), or
Numba's simulator, which `test_simulated.py` starts in a process of its own for each file there, since
the simulator is chosen before Numba is imported. There, tests are small and none may be skipped.
`test_compiled.py` compiles every registered kernel with no device. It finds the kernels by
importing all of `eigenfeatures.kernels.cuda`, and needs no CuPy: get that from `memory.xp()`.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEVICE = Path(__file__).parent / "device"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"

if SIMULATED:
    _spec = importlib.util.spec_from_file_location("simulator", Path(__file__).with_name("simulator.py"))
    _simulator = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_simulator)
    _simulator.install()


def why_no_device() -> str:
    """Why there is no device to test on, or nothing where there is one."""
    if SIMULATED:
        return ""
    try:
        import cupy
    except ImportError as error:
        return f"no CuPy: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no GPU: {error}"
    return "" if count else "no GPU"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_device = [item for item in items if DEVICE in item.path.parents or item.get_closest_marker("cuda")]
    here = [item for item in on_device if Path(__file__).parent in item.path.parents]
    reason = why_no_device() if here else ""
    for item in here:
        if not SIMULATED:
            item.add_marker(pytest.mark.cuda)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=SIMULATED)
def _launched_kernels(record_testsuite_property: Callable[[str, object], None]) -> Iterator[None]:
    """Tell in the report which kernels ran in the simulator, each with the types of its arrays."""
    from eigenfeatures.kernels.cuda import memory

    prepared, ran = memory.prepared, set()

    def noted(kernel: Any, blocks: Any, threads: Any, *arguments: Any, shared: int = 0) -> Any:
        queue = prepared(kernel, blocks, threads, *arguments, shared=shared)
        dtypes = [str(value.dtype) for value in arguments if isinstance(value, memory.xp().ndarray)]

        def run() -> None:
            queue()
            ran.add(" ".join([kernel.name, *dtypes]))

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "prepared", noted)
        yield
    record_testsuite_property("launched", json.dumps(sorted(ran)))


@pytest.fixture
def registered_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are launched with the types of arguments that they are registered, and so compiled, for."""
    from numba.cuda.typing.typeof import typeof

    from eigenfeatures.kernels.cuda import memory

    prepared = memory.prepared

    def checked(kernel: Any, blocks: Any, threads: int, *arguments: Any, shared: int = 0) -> Any:
        given = tuple(typeof(argument) for argument in arguments)
        assert given in [signature.args for signature in kernel.signatures], f"{kernel.name}{given}"
        assert threads <= kernel.threads
        return prepared(kernel, blocks, threads, *arguments, shared=shared)

    monkeypatch.setattr(memory, "prepared", checked)
