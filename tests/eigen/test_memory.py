"""The memory that training is said to need is what it needs, and too much is refused with what would fit."""

from pathlib import Path

import own_process
import pytest
import torch

from eigenfeatures.eigen import free_memory, memory
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.memory import check_training_memory, training_memory
from eigenfeatures.eigen.network import build_network

# Grows by what a training step holds, apart from the libraries themselves.
_MEASURE = """
import torch
from eigenfeatures.eigen.network import build_network
network = build_network("reduced", 4, (96, 96)).to(memory_format=torch.channels_last)
images = torch.randn(2, 1, 96, 96)
def step(images):
    torch.nn.functional.cross_entropy(network(images), torch.zeros(len(images), dtype=torch.long)).backward()
def peak():
    # Not getrusage, whose peak is that of the parent where it was larger before exec.
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
step(images[:1])  # libraries and code
before = peak()
step(torch.randn(24, 1, 96, 96))
print(peak() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from /proc, which Linux has"
)
def test_estimate_is_near_the_measured_peak():
    (measured,) = own_process.printed(_MEASURE)
    estimate = training_memory(build_network("reduced", 4, (96, 96)), 24)
    assert 0.9 < estimate / measured < 1.8


def test_what_does_not_fit_is_refused_with_the_batch_that_would():
    network = build_network("paper", 4, (266, 266))
    needed = training_memory(network, 64)
    assert check_training_memory(network, 64, needed) == needed
    with pytest.raises(InputError, match="use --batch-size 31") as refused:
        check_training_memory(network, 64, training_memory(network, 31) + 1)
    assert "'paper' on 266×266 pixels with batch size 64 needs about" in str(refused.value)
    with pytest.raises(InputError, match="use a smaller --size or another --preset"):
        check_training_memory(network, 64, 1000)


@pytest.fixture
def control_groups(tmp_path, monkeypatch):
    """Give a function that puts this process into a group of files; they belong to a group around it."""

    def enter(membership, folder, files):
        (tmp_path / "membership").write_text(membership)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)

    monkeypatch.setattr(free_memory, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "_MEMBERSHIP", tmp_path / "membership")
    return enter


def test_limits_of_control_groups_count(control_groups):
    """A job in a container or under Slurm has less than the machine."""
    control_groups("0::/slurm/job1\n", "slurm", {"memory.max": "4096\n", "memory.current": "1000\n"})
    assert memory.available_memory(torch.device("cpu")) == 3096
    control_groups("0::/slurm/job1\n", "slurm", {"memory.max": "max\n"})
    assert memory.available_memory(torch.device("cpu")) > 2**20


STATISTICS = "anon 600\ninactive_file {inactive}\nactive_file 100\nfile_mapped 50\n"


def test_pages_of_files_that_were_read_are_free(control_groups):
    """After a large scan was read a group is full of them."""
    files = {
        "memory.max": "4096\n",
        "memory.current": "4096\n",
        "memory.stat": STATISTICS.format(inactive=300),
    }
    control_groups("0::/\n", ".", files)
    assert free_memory.free_memory() == 400


def test_limits_of_the_first_version_count(control_groups):
    """Its memory controller has a hierarchy of its own, whose statistics say what is below too as totals."""
    membership = "5:devices:/\n4:cpu,memory:/docker/a\n0::/\n"
    statistics = STATISTICS.format(inactive=7) + "total_inactive_file 300\ntotal_active_file 100\n"
    files = {"memory.limit_in_bytes": "4096\n", "memory.usage_in_bytes": "3000\n", "memory.stat": statistics}
    control_groups(membership, "memory/docker", files)
    assert free_memory.free_memory() == 1496
    control_groups("5:devices:/\n0::/\n", "memory/docker", {})
    assert free_memory.free_memory() > 2**20
