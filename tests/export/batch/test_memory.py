"""Memory stays within its limit, seen from outside, since a limit on address space breaks ONNX Runtime."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from commands import call, spawn

from eigenfeatures.export.batch.plan import MOST_BATCHES

LIMIT = 1500 * 10**6
MIB = 2**20

# Whose 16 maps of float32 take 53 MiB a slice.
SIDE, SLICES = 928, 8


def resident(process):
    return psutil.Process(process).memory_info().rss


def peak(process):
    """The most that it ever held, by the kernel's own count."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def watched(process, look):
    """Look at a process until it ends; return what was seen and what the process wrote."""
    found = []

    def watch():
        while process.poll() is None:
            try:
                found.append(look(process.pid))
            except (psutil.NoSuchProcess, OSError, TypeError):  # it has just ended
                return
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, error = process.communicate(timeout=900)
    watcher.join()
    assert process.returncode == 0, error
    return found, output, error


@pytest.mark.slow
def test_a_sparse_stack_of_20_gb_stays_within_the_limit(finished_run, tmp_path):
    with (tmp_path / "huge.raw").open("wb") as file:
        file.truncate(12_500_000 * 40 * 40)
    assert (tmp_path / "huge.raw").stat().st_size >= 20 * 10**9
    options = ["--shape", "12500000,40,40", "--dtype", "uint8", "--every", "2500", "--max-memory", str(LIMIT)]
    process = spawn("infer", finished_run, tmp_path / "huge.raw", "--out", tmp_path / "out", *options)
    peaks, output, _ = watched(process, resident)
    assert max(peaks) < LIMIT
    # Nor does it grow along the stack; what finishing loads is less than this.
    middle, last = np.array_split(np.array(peaks), 3)[1:]
    assert last.max() < middle.max() + 100 * MIB
    with (tmp_path / "out" / "slices.csv").open() as file:
        assert sum(1 for _ in file) == 5_001
    assert "5000" in output


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc, which tells the peak of a process"
)
def test_where_the_plan_binds_the_peak_stays_within_the_limit(finished_run, tmp_path):
    """Blocks of few large maps, so that nothing hides behind what is reserved for small things."""
    answer = call("export", finished_run, "--outputs", "relu1", "--any-size", "--out", tmp_path / "m.onnx")
    assert answer.code == 0, answer.error
    stripes = (np.arange(SIDE) // 7 % 2 * 200).astype(np.uint8)  # whose maps compress quickly
    np.save(tmp_path / "s.npy", np.broadcast_to(stripes, (SLICES, SIDE, SIDE)))
    job = ["infer", tmp_path / "m.onnx", tmp_path / "s.npy", "--outputs", "relu1", "--max-memory"]
    refused = spawn(*job, 500 * MIB, "--out", tmp_path / "none")
    _, error = refused.communicate(timeout=300)
    assert refused.returncode == 2
    needed = re.search(r"even one slice at once: (\d+) MiB in all", error)
    assert needed, error
    maps = 16 * SIDE * SIDE * 4
    least = MIB * int(needed[1]) + 8 * MIB
    for limit, out in ((least, tmp_path / "least"), (least + 4 * maps, tmp_path / "more")):
        process = spawn(*job, limit, "--out", out)
        peaks, _, error = watched(process, peak)
        block, batch = map(int, re.search(r"blocks of (\d+) slices, (\d+) at once", error).groups())
        assert block < MOST_BATCHES * batch, "the limit decides, not the largest block"
        # In the least only what is reserved for all else is left, and the block itself is a large part.
        assert limit / 2 < peaks[-1] <= limit
        assert zarr.open_array(out / "relu1/s.ome.zarr/0").shape == (16, SLICES, SIDE, SIDE)
