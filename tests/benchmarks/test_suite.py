"""The suite as a person runs it."""

import subprocess
import sys
from pathlib import Path

import ledger
from commands import ENVIRONMENT
from peers import OPERATIONS, cuda

ROOT = Path(__file__).parents[2]
CPU = [operation for operation in OPERATIONS if operation.device == "cpu"]
CUDA = [operation for operation in OPERATIONS if operation.device == "cuda"]


def benchmarks(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_suite_runs_at_its_smallest_and_records_nothing():
    before = ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None
    done = benchmarks("--smallest", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    for operation in CPU:
        assert f"{operation.name}: " in done.stdout
    reason = cuda.missing()
    assert reason is None or f"SKIPPED [{len(CUDA)}]" in done.stdout
    assert reason is None or reason.partition(":")[0] in done.stdout
    assert (ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None) == before


def test_a_quick_run_leaves_out_what_takes_long():
    done = benchmarks("--quick", "-k", "start-up", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED [1] benchmarks/test_cpu.py" in done.stdout
    assert "only in a full run" in done.stdout


def test_a_record_is_refused_where_blas_was_told_to_be_another(tmp_path):
    path = tmp_path / "ledger.csv"
    done = benchmarks("--quick", "-k", "stretch", "--ledger", str(path), OPENBLAS_CORETYPE="Haswell")
    assert done.returncode == 4
    assert "OPENBLAS_CORETYPE" in done.stderr
    assert not path.exists()
