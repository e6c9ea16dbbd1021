"""What counts as compilation, and that a full run compiles anew."""

import importlib.util
import os
import types
from pathlib import Path

import numba
import numpy as np
import pytest
from compiling import watching
from empty_caches import name_empty_caches

CONFTEST = Path(__file__).parents[2] / "benchmarks" / "conftest.py"

SOURCE = """
import numba

@numba.njit(cache=True)
def helper(x):
    return x + 1

@numba.njit(cache=True)
def kernel(x):
    return helper(x) * 2
"""


def loaded(path, name="compiled_for_a_test"):
    """A module of a file, anew each time."""
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_numba_compiles_is_counted_and_what_it_loads_is_not(tmp_path):
    path = tmp_path / "compiled_for_a_test.py"
    path.write_text(SOURCE, encoding="utf-8")
    module = loaded(path)
    with watching() as compiling:
        assert module.kernel(1.0) == 4.0
    first = compiling.seconds
    assert first > 0
    again = loaded(path)
    with watching() as compiling:
        module.kernel(2.0)
        again.kernel(1.0)
        np.ones((50, 50)) @ np.ones((50, 50))
    assert again.kernel.stats.cache_hits
    assert compiling.seconds == 0
    # What compiles elsewhere meanwhile isn't heard any more.
    module.kernel(1)
    assert compiling.seconds == 0


def test_what_is_compiled_for_a_gpu_is_counted_on_request():
    pytest.importorskip("numba_cuda")
    from numba import cuda

    def kernel(x):
        x[0] = 1

    signature = numba.void(numba.float32[::1])
    with watching("cuda") as compiling:
        cuda.compile(kernel, signature, cc=(9, 0))
    assert compiling.seconds > 0


def test_caches_that_the_environment_names_are_kept():
    environment = {"TORCHINDUCTOR_CACHE_DIR": "there"}
    folder = name_empty_caches(environment)
    assert list(folder.iterdir()) == []
    assert environment == {"TORCHINDUCTOR_CACHE_DIR": "there", "NUMBA_CACHE_DIR": str(folder / "numba")}
    folder.rmdir()
    environment = {"NUMBA_CACHE_DIR": "here"}
    assert name_empty_caches(environment) is None
    assert environment == {"NUMBA_CACHE_DIR": "here"}


@pytest.mark.parametrize("option", ["", "quick", "smallest", "collectonly"])
def test_only_a_full_run_compiles_anew(monkeypatch, option):
    for name in ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is put back in the end
        monkeypatch.delenv(name)
    options = dict.fromkeys(("quick", "smallest", "collectonly"), False) | {"ledger": None}
    cleanups = []
    config = types.SimpleNamespace(
        option=types.SimpleNamespace(**options | ({option: True} if option else {})),
        stash={},
        add_cleanup=cleanups.append,
    )
    loaded(CONFTEST, "conftest_of_the_benchmarks").pytest_configure(config)
    if option:
        assert "NUMBA_CACHE_DIR" not in os.environ
        assert not cleanups
    else:
        folder = Path(os.environ["NUMBA_CACHE_DIR"]).parent
        assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == folder
        assert folder.is_dir()
        for cleanup in cleanups:
            cleanup()
        assert not folder.exists()
