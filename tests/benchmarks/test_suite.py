"""The suite as a person runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import ledger
import pytest
from commands import ENVIRONMENT
from peers import OPERATIONS, cuda

ROOT = Path(__file__).parents[2]
CPU = [operation for operation in OPERATIONS if operation.device == "cpu"]
CUDA = [operation for operation in OPERATIONS if operation.device == "cuda"]


# Plugins of other packages, which take seconds to import.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:zarr")


def benchmarks(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", *WITHOUT, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def smallest_run(tmp_path_factory):
    """A run of all but batch inference, which test_peers measures: its files take longest to make.

    Where its times were saved comes with it, and the ledger as it was before.
    """
    storage = tmp_path_factory.mktemp("saved")
    before = ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None
    options = ("-k", "not infer", "-rs", f"--benchmark-storage={storage}", "--benchmark-autosave")
    return benchmarks("--smallest", *options), storage, before


def test_the_suite_runs_at_its_smallest_and_records_nothing(smallest_run):
    done, _, before = smallest_run
    assert done.returncode == 0, done.stdout + done.stderr
    on_cpu, on_cuda = ([each for each in table if "infer" not in each.name] for table in (CPU, CUDA))
    assert len(on_cpu) >= len(CPU) - 4
    for operation in on_cpu:
        assert f"{operation.name}: " in done.stdout
    reason = cuda.missing()
    assert reason is None or f"SKIPPED [{len(on_cuda)}]" in done.stdout
    assert reason is None or reason.partition(":")[0] in done.stdout
    assert (ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None) == before


def test_a_quick_run_is_recorded_on_request_and_fails_where_it_is_slower(smallest_run, tmp_path):
    _, storage, _ = smallest_run
    (saved,) = storage.rglob("*.json")
    run = json.loads(saved.read_text(encoding="utf-8"))
    for case in run["benchmarks"]:
        # As if everything had been a hundred times as fast.
        case["stats"] |= {
            name: case["stats"][name] / 100 for name in ("min", "max", "mean", "median", "q1", "q3")
        }
    saved.write_text(json.dumps(run), encoding="utf-8")
    path = tmp_path / "ledger.csv"
    compare = (f"--benchmark-storage={storage}", "--benchmark-compare", "--benchmark-compare-fail=median:25%")
    done = benchmarks("--quick", "-k", "stretch or start-up", "-rs", "--ledger", str(path), *compare)
    assert done.returncode not in (0, 4), done.stdout + done.stderr
    assert "Performance has regressed" in done.stdout + done.stderr
    # What takes long is left out.
    assert "SKIPPED [1] benchmarks/test_cpu.py" in done.stdout
    assert "only in a full run" in done.stdout

    (operation,) = (each for each in CPU if "stretch" in each.name)
    rows = ledger.read(path)
    assert [(row.operation, row.label) for row in rows] == [
        (operation.name, library.label) for library in operation.libraries
    ]
    table = done.stdout[done.stdout.index(f"{operation.name}: ") :]
    assert "ours is faster" in table
    assert "copy (roof)" in table
    for row in rows:
        assert (row.effort, row.rounds, row.remark) == ("quick", 3, "")
        assert 0 < row.minimum <= row.q25 <= row.median <= row.q75
        assert 0 < row.ratio_q25 <= row.ratio <= row.ratio_q75
        (line,) = (line for line in table.splitlines() if line.startswith(row.label))
        assert ("(slower)" in line) is (row.role == "peer" and row.ratio < 1)
        # Only the roof is Numba's.
        assert (row.compile >= 0) is row.version.startswith("numba ") is (row.role == "roof")
    assert re.search(r"the suite took \d+ s, of which first calls compiled for \d+\.\d s", done.stdout)


def test_a_record_is_refused_where_blas_was_told_to_be_another(tmp_path):
    path = tmp_path / "ledger.csv"
    done = benchmarks("--quick", "-k", "stretch", "--ledger", str(path), OPENBLAS_CORETYPE="Haswell")
    assert done.returncode == 4
    assert "OPENBLAS_CORETYPE" in done.stderr
    assert not path.exists()
