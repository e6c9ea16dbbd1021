"""Blocks fit the memory, cover every slice once, and are whole batches."""

from dataclasses import replace

import numpy as np
import own_process
import pytest
import tifffile
import zarr
from fake_engine import FACTS, FakeEngine

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch import job
from eigenfeatures.export.batch.job import choose_plan, probe
from eigenfeatures.export.batch.plan import (
    MOST_BATCHES,
    BlockPlan,
    Demand,
    format_bytes,
    parse_bytes,
    plan_blocks,
)
from eigenfeatures.export.batch.source import Reading, close_sources, open_sources

MIB = 2**20
DEMAND = Demand(raw=MIB, results=2 * MIB, working=100 * MIB, resident=300 * MIB, reading=0)


@pytest.mark.parametrize("limit", [600, 800, 1000, 1500, 10_000])
@pytest.mark.parametrize("batch", [1, 4, 6, 32])
def test_the_block_is_the_largest_that_fits(limit, batch):
    plan = plan_blocks(DEMAND, limit * MIB, batch)
    assert DEMAND.peak(plan.batch, plan.block) <= limit * MIB
    batches, rest = divmod(plan.block, plan.batch)
    assert rest == 0
    assert 1 <= batches <= MOST_BATCHES
    larger = DEMAND.peak(plan.batch, plan.block + plan.batch) <= limit * MIB
    assert not larger or batches == MOST_BATCHES
    assert plan.batch == batch or DEMAND.peak(2 * plan.batch, 2 * plan.batch) > limit * MIB


def test_the_plan_is_the_same_every_time():
    assert plan_blocks(DEMAND, 900 * MIB, 4) == plan_blocks(DEMAND, 900 * MIB, 4)


def test_too_little_memory_is_refused_with_what_would_do():
    with pytest.raises(
        InputError,
        match=r"400 MiB is too little for even one slice at once: 541 MiB.*smaller --roi",
    ):
        plan_blocks(DEMAND, 400 * MIB, 8)
    with pytest.raises(InputError, match=r"400 MiB \(by default half of what is free\) is too little"):
        plan_blocks(DEMAND, 400 * MIB, 8, by_default=True)
    assert plan_blocks(DEMAND, DEMAND.peak(1, 1), 8) == BlockPlan(1, 1)


@pytest.mark.parametrize("share", [1, 4])
def test_by_default_a_process_takes_half_of_what_is_free_and_its_share_of_it(share, monkeypatch):
    """Beside what it holds already."""
    demand = replace(DEMAND, results=8 * MIB, working=20 * MIB)
    monkeypatch.setattr(job, "free_memory", lambda: 1480 * MIB)
    limit = demand.resident + 740 * MIB // share
    plan = choose_plan(FakeEngine(), demand, None, None, share)
    assert plan == plan_blocks(demand, limit, 4) == {1: BlockPlan(4, 12), 4: BlockPlan(1, 1)}[share]
    assert demand.peak(plan.batch, plan.block) <= limit < demand.peak(plan.batch, plan.block + plan.batch)
    monkeypatch.setattr(job, "free_memory", lambda: 300 * MIB)
    with pytest.raises(InputError, match=r"\(by default half of what is free\) is too little"):
        choose_plan(FakeEngine(), demand, None, None, share)


def test_a_batch_that_was_asked_for_is_not_halved():
    with pytest.raises(InputError, match=r"8 slices at once.*smaller --batch-size"):
        plan_blocks(DEMAND, 800 * MIB, 8, fixed=True)
    assert plan_blocks(DEMAND, 800 * MIB, 8).batch == 2


@pytest.mark.parametrize("lengths", [[1], [8], [9], [3, 16, 1, 8]])
def test_blocks_cover_every_slice_once_and_no_two_stacks(lengths):
    parts = list(BlockPlan(4, 8).parts(lengths))
    assert [part.number for part in parts] == list(range(len(parts)))
    for stack, length in enumerate(lengths):
        covered = [part.first + k for part in parts if part.stack == stack for k in range(part.length)]
        assert covered == list(range(length))
    assert max(part.length for part in parts) <= 8


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4 GiB", 4 * 2**30),
        ("512m", 512 * 2**20),
        ("1.5kB", 1500),
        ("2000000", 2_000_000),
        ("64B", 64),
        ("1TiB", 2**40),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "4 XB", "-4GB", "0", "0GB", "4GB more", "inf"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="is no size; give one such as 4GB"):
        parse_bytes(text)


@pytest.mark.parametrize("unit", ["", "TB"])
def test_a_size_beyond_all_floats_is_refused(unit):
    with pytest.raises(InputError, match="is no size; give one such as 4GB"):
        parse_bytes("9" * 300 + unit if unit else "9" * 400)


def test_sizes_are_written():
    assert [format_bytes(size) for size in (3, 300 * MIB, 3 * 2**30)] == ["3 bytes", "300 MiB", "3.0 GiB"]


WORKING_SET = """
import numpy as np
from eigenfeatures.export.batch.plan import working_set

working_set(lambda: None)  # the first one loads what it needs
print(working_set(lambda: np.ones(64 * 2**20, np.uint8).sum()), working_set(lambda: None))
"""


def test_the_working_set_is_what_work_takes_at_its_peak():
    """The array is gone when the work is done, and counts all the same."""
    array, nothing = own_process.printed(WORKING_SET)
    assert 50 * MIB < array < 160 * MIB
    assert nothing < 10 * MIB


def test_of_the_host_a_gpu_takes_its_batches_on_their_way(tmp_path):
    """Not what its libraries took when they were loaded."""

    class OnGpu(FakeEngine):
        name = "fake-cuda"

    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 512, 512), np.uint8), photometric="minisblack")
    sources = open_sources([tmp_path / "a.tif"], Reading(), FACTS)
    found = probe(OnGpu(), sources).demand
    close_sources(sources)
    assert found.working == 2 * found.raw + 3 * found.results


@pytest.mark.parametrize(("limit", "given"), [(None, [1, 2]), (10**12, [1, 2]), (10**6, [1, 1])])
def test_two_slices_are_tried_only_where_the_limit_has_room_for_them(limit, given, tmp_path):
    """So that finding out what would exceed the limit doesn't."""
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 64, 64), np.uint8), photometric="minisblack")
    sources = open_sources([tmp_path / "a.tif"], Reading(), FACTS)
    engine = FakeEngine()
    found = probe(engine, sources, limit).demand
    close_sources(sources)
    assert engine.batches == given
    assert (found.alone is None) == (given == [1, 2])


def test_one_slice_alone_may_take_less_than_its_part_of_a_batch():
    demand = replace(DEMAND, alone=30 * MIB)
    assert DEMAND.peak(1, 4) - demand.peak(1, 4) == 70 * MIB
    assert DEMAND.peak(2, 4) == demand.peak(2, 4)
    assert plan_blocks(demand, demand.peak(1, 2), 8) == BlockPlan(1, 2)


READING = """
import sys
from pathlib import Path
from fake_engine import FACTS, FakeEngine
from eigenfeatures.export.batch.job import probe
from eigenfeatures.export.batch.source import Reading, open_sources

demand = probe(FakeEngine(), open_sources([Path(sys.argv[1])], Reading(), FACTS)).demand
print(demand.reading, demand.peak(1, 1) - demand.resident)
"""


def test_chunks_that_are_decoded_count(tmp_path):
    """Of whichever stack of a job has the largest; a block may lie in two layers of them."""
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 512, 512), np.uint8), photometric="minisblack")
    volume = np.ones((64, 1024, 1024), np.uint8)
    zarr.create_array(tmp_path / "b.zarr", data=volume, chunks=volume.shape)
    pages, _ = own_process.printed(READING, tmp_path / "a.tif")
    chunks, needed = own_process.printed(READING, tmp_path)
    assert pages < 20 * MIB
    assert 1.5 * 64 * MIB < chunks < 6 * 64 * MIB
    assert needed > chunks
