"""Memory stays within its limit whatever the length of a stack."""

import threading
import time

import numpy as np
import psutil
import pytest
from commands import spawn

LIMIT = 1500 * 10**6


@pytest.mark.slow
def test_a_sparse_stack_of_20_gb_stays_within_the_limit(finished_run, tmp_path):
    """Seen from outside, since a limit on address space breaks ONNX Runtime."""
    with (tmp_path / "huge.raw").open("wb") as file:
        file.truncate(12_500_000 * 40 * 40)
    assert (tmp_path / "huge.raw").stat().st_size >= 20 * 10**9
    options = ["--shape", "12500000,40,40", "--dtype", "uint8", "--every", "2500", "--max-memory", str(LIMIT)]
    process = spawn("infer", finished_run, tmp_path / "huge.raw", "--out", tmp_path / "out", *options)
    watched, peaks = psutil.Process(process.pid), []

    def watch():
        while process.poll() is None:
            try:
                peaks.append(watched.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, error = process.communicate(timeout=900)
    watcher.join()
    assert process.returncode == 0, error
    assert max(peaks) < LIMIT
    # Nor does it grow along the stack; what finishing loads is less than this.
    middle, last = np.array_split(np.array(peaks), 3)[1:]
    assert last.max() < middle.max() + 100 * 2**20
    with (tmp_path / "out" / "slices.csv").open() as file:
        assert sum(1 for _ in file) == 5_001
    assert "5000" in output
