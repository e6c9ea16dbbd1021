"""Jobs with a model of NumPy: the same bytes each time, what a stop leaves, what a resumed job does."""

import csv
import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import FakeEngine, results_of, run_job
from folders import content

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.progress import silent
from eigenfeatures.export.batch import to_folder
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.folder import JobFolder
from eigenfeatures.export.batch.job import Work
from eigenfeatures.export.batch.source import Reading, Source
from eigenfeatures.export.talk import Talk
from eigenfeatures.export.versions import versions


@pytest.fixture
def stack(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((23, 40, 36)), photometric="minisblack")
    return tmp_path / "scan.tif"


@pytest.fixture
def unbroken(stack, tmp_path):
    run_job(stack, tmp_path / "unbroken", batch=2)
    return content(tmp_path / "unbroken")


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_the_same_job_gives_the_same_bytes(form, stack, tmp_path):
    for name in ("a", "b"):
        run_job(stack, tmp_path / name, format=form, batch=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def failing(where, at, error):
    """Make a stage fail at the block that begins at slice `at`."""
    original = {"read": Source.read, "write": to_folder._Job._write, "infer": FakeEngine.__call__}[where]

    def replaced(self, *arguments):
        (subject, *_) = arguments
        first = subject.part.first if isinstance(subject, Work) else subject
        if where == "infer":
            first = at if len(self.batches) == 6 else -1
        if first == at:
            raise error
        return original(self, *arguments)

    owner = {"read": Source, "write": to_folder._Job, "infer": FakeEngine}[where]
    name = {"read": "read", "write": "_write", "infer": "__call__"}[where]
    return owner, name, replaced


@pytest.mark.parametrize("where", ["read", "infer", "write"])
@pytest.mark.parametrize("error", [InputError("bad slice"), KeyboardInterrupt()])
def test_after_an_error_in_any_stage_the_job_goes_on_to_the_same_bytes(
    where, error, stack, unbroken, tmp_path, monkeypatch
):
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(*failing(where, 8, error))
        with pytest.raises((InputError, InterruptedError), match=r"bad slice|continues with --resume"):
            run_job(stack, tmp_path / "out", batch=2)
    journal = (tmp_path / "out" / "journal.txt").read_text().splitlines()
    assert 1 <= len(journal) < 6
    assert not (tmp_path / "out" / "slices.csv").exists()
    run_job(stack, tmp_path / "out", batch=2, resume=True)
    found = content(tmp_path / "out")
    # Chunks follow the block, which is smaller here.
    assert found["slices.csv"] == unbroken["slices.csv"]
    maps = zarr.open_array(tmp_path / "out/eigenfeatures/scan.ome.zarr/0")[0]
    np.testing.assert_array_equal(maps, results_of(random_stack((23, 40, 36)))["eigenfeatures"][:, 0])


@pytest.fixture
def crash(monkeypatch):
    """What a crash of the machine may leave of a folder: files that are not yet on the disk are empty."""
    settled, fsync = {}, os.fsync

    def recorded(descriptor):
        fsync(descriptor)
        file = os.fstat(descriptor)
        settled[file.st_ino] = file.st_size, file.st_mtime_ns

    def crash(folder):
        for file in folder.rglob("*"):
            found = file.stat()
            if file.is_file() and settled.get(found.st_ino) != (found.st_size, found.st_mtime_ns):
                file.write_bytes(b"")

    monkeypatch.setattr(os, "fsync", recorded)
    return crash


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_a_crash_of_the_machine_loses_no_block_that_is_done(form, stack, tmp_path, crash, monkeypatch):
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(*failing("write", 12, InputError("crash")))
        with pytest.raises(InputError, match="crash"):
            run_job(stack, tmp_path / "out", batch=2, format=form)
    crash(tmp_path / "out")
    said = []
    run_job(stack, tmp_path / "out", batch=2, format=form, resume=True, say=said.append)
    assert "3 of 6 blocks are done already" in said
    run_job(stack, tmp_path / "unbroken", batch=2, format=form)
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_a_crash_after_the_end_loses_nothing(form, stack, tmp_path, crash):
    run_job(stack, tmp_path / "out", batch=2, format=form)
    before = content(tmp_path / "out")
    crash(tmp_path / "out")
    assert content(tmp_path / "out") == before


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("gone", "lose"),
    [
        ("eigenfeatures", shutil.rmtree),
        ("eigenfeatures/scan.ome.zarr/0/c/0/1", shutil.rmtree),
        ("eigenfeatures/scan.ome.zarr/0/c/0/1/0/0", Path.unlink),
        ("eigenfeatures/scan.ome.zarr/0/c/0/1/0/0", empty),
    ],
)
def test_blocks_whose_maps_are_gone_are_done_again(gone, lose, stack, tmp_path, monkeypatch):
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(*failing("write", 12, InputError("full")))
        with pytest.raises(InputError, match="full"):
            run_job(stack, tmp_path / "out", batch=2)
    done = len((tmp_path / "out" / "journal.txt").read_text().splitlines())
    assert done >= 2
    lose(tmp_path / "out" / gone)
    said = []
    run_job(stack, tmp_path / "out", batch=2, resume=True, say=said.append)
    again = done if gone == "eigenfeatures" else 1
    assert any(line.startswith(f"{again} blocks were done, but their maps are gone") for line in said)
    maps = zarr.open_array(tmp_path / "out/eigenfeatures/scan.ome.zarr/0")[0]
    np.testing.assert_array_equal(maps, results_of(random_stack((23, 40, 36)))["eigenfeatures"][:, 0])


@pytest.mark.parametrize(
    ("form", "gone"),
    [
        ("zarr", "eigenfeatures"),
        ("zarr", "eigenfeatures/scan.ome.zarr"),
        ("zarr", "eigenfeatures/scan.ome.zarr/zarr.json"),
        ("zarr", "eigenfeatures/scan.ome.zarr/0"),
        ("tiff", "eigenfeatures/scan.ome.tif"),
    ],
)
def test_a_finished_job_without_one_of_its_volumes_is_none(form, gone, stack, tmp_path):
    """Made anew it would be empty, beside a table that says that all is done."""
    out, stacks = tmp_path / "out", tmp_path / "stacks"
    stacks.mkdir()
    stack.rename(stacks / "scan.tif")
    np.save(stacks / "other.npy", random_stack((3, 40, 36)))
    run_job(stacks, out, batch=2, format=form)
    (out / gone).rename(tmp_path / "gone")
    left = content(out)
    with pytest.raises(InputError, match=r"\.ome\.(zarr|tif)\S* of a finished job is gone"):
        run_job(stacks, out, batch=2, format=form, resume=True)
    assert content(out) == left
    (tmp_path / "gone").rename(out / gone)
    assert run_job(stacks, out, batch=2, format=form, resume=True)["slices"] == 26


def cut(number):
    return lambda file: file.write_bytes(file.read_bytes()[:-number])


def without_a_row(file):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5] + lines[6:]))


@pytest.mark.parametrize(
    ("form", "name", "damage"),
    [
        ("zarr", "eigenfeatures/scan.ome.zarr/0/c/0/0/0/0", Path.unlink),
        ("zarr", "eigenfeatures/scan.ome.zarr/0/c/0/0/0/0", empty),
        ("zarr", "eigenfeatures/scan.ome.zarr/1/c/0/0/0/0", empty),
        ("zarr", "eigenfeatures/scan.ome.zarr/1/zarr.json", Path.unlink),
        ("tiff", "eigenfeatures/scan.ome.tif", empty),
        ("tiff", "eigenfeatures/scan.ome.tif", cut(1)),
        ("tiff", "eigenfeatures/scan.ome.tif", cut(5000)),
        ("zarr", "slices.csv", empty),
        ("zarr", "slices.csv", cut(1)),
        ("zarr", "slices.csv", cut(30)),
        ("zarr", "slices.csv", without_a_row),
        ("zarr", "slices.csv", lambda file: file.write_bytes(b"\xff\0" * 50 + b"\n")),
    ],
)
def test_a_finished_job_that_lost_data_is_refused_by_the_file(form, name, damage, tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((5, 264, 20)), photometric="minisblack")
    out = tmp_path / "out"
    run_job(tmp_path / "scan.tif", out, batch=2, format=form)
    damage(out / name)
    left = content(out)
    with pytest.raises(InputError, match=f"^{out / name} of a finished job is (gone|damaged); "):
        run_job(tmp_path / "scan.tif", out, batch=2, format=form, resume=True)
    assert content(out) == left


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_maps_without_a_number_are_there_too(form, stack, tmp_path, monkeypatch):
    """Chunks that hold fill values only are stored all the same, as those that are not there are lost."""
    call = FakeEngine.__call__

    def overflowing(self, slices):
        results = call(self, slices)
        results["eigenfeatures"][:] = np.nan
        return results

    monkeypatch.setattr(FakeEngine, "__call__", overflowing)
    for resume in (False, True):
        facts = run_job(stack, tmp_path / "out", batch=2, format=form, resume=resume)
        assert facts["slices"] == 23


def test_filled_slices_are_counted_over_all_that_a_job_did(tmp_path):
    """Each is flagged, whichever process read it."""
    zarr.create_array(tmp_path / "s.zarr", data=random_stack((12, 16, 16)) | 1, chunks=(2, 8, 16))
    for chunk in ("0/0/0", "3/1/0"):
        (tmp_path / "s.zarr" / "c" / chunk).unlink()
    options = {"batch": 1, "reading": Reading(missing="fill")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
        with patch.context() as failure:
            failure.setattr(*failing("write", 4, InputError("full")))
            with pytest.raises(InputError, match="full"):
                run_job(tmp_path / "s.zarr", tmp_path / "out", **options)
        facts = run_job(tmp_path / "s.zarr", tmp_path / "out", resume=True, **options)
    assert (facts["filled_slices"], facts["flagged_slices"]) == (4, 4)
    with (tmp_path / "out" / "slices.csv").open(newline="") as file:
        assert [row["slice"] for row in csv.DictReader(file) if row["flag"] == "filled"] == list("0167")


def test_a_finished_job_is_left_alone(stack, unbroken, tmp_path):
    changed = {file: file.stat().st_mtime_ns for file in (tmp_path / "unbroken").rglob("*")}
    facts = run_job(stack, tmp_path / "unbroken", batch=2, resume=True)
    assert facts["slices"] == 23
    assert "slices_per_second" not in facts, "nothing was computed"
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "unbroken").rglob("*")} == changed
    assert content(tmp_path / "unbroken") == unbroken


def test_what_is_left_after_the_table_is_removed_by_resuming(stack, unbroken, tmp_path, monkeypatch):
    """A kill may come between the table and the removal of the blocks."""
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "finish", lambda _: None)
        run_job(stack, tmp_path / "out", batch=2)
    assert (tmp_path / "out" / "journal.txt").is_file()
    run_job(stack, tmp_path / "out", batch=2, resume=True)
    assert content(tmp_path / "out") == unbroken


def test_a_job_that_goes_on_keeps_to_the_memory_that_there_is_now(stack, tmp_path, monkeypatch):
    """Its blocks are as large as they were planned for another limit."""
    with monkeypatch.context() as patch:
        patch.setattr(*failing("write", 0, InputError("full")))
        with pytest.raises(InputError, match="full"):
            run_job(stack, tmp_path / "out", batch=2)
    record = json.loads((tmp_path / "out" / "infer.json").read_text())
    record["plan"]["block"] = 2 * 10**8
    (tmp_path / "out" / "infer.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"100GB is too little for .*out, .*blocks of 200000000 slices"):
        run_job(stack, tmp_path / "out", batch=2, max_memory="100GB", resume=True)
    assert run_job(stack, tmp_path / "out", batch=2, resume=True)["slices"] == 23
    assert run_job(stack, tmp_path / "out", batch=2, max_memory="100GB", resume=True)["slices"] == 23


def test_other_versions_than_those_that_began_are_told(stack, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("fake_engine.QUIET", Talk(silent, said.append))
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(*failing("write", 4, InputError("full")))
        patch.setattr(to_folder, "versions", lambda: {**versions(), "numpy": "1.0"})
        with pytest.raises(InputError, match="full"):
            run_job(stack, tmp_path / "out", batch=2)
    run_job(stack, tmp_path / "out", batch=2, resume=True)
    assert sum("they were made with numpy 1.0, and now it is" in line for line in said) == 1


@pytest.mark.parametrize(
    ("owner", "name", "file"),
    [(to_folder, "write_blocks", "slices.csv"), (Clock, "write_trace", "trace.json")],
)
def test_a_disk_that_is_full_at_the_end_is_one_line(owner, name, file, stack, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(InputError, match=rf"{file}: no space is left; free some and go on with --resume"):
        run_job(stack, tmp_path / "out", profile=True)


def test_ctrl_c_stops_cleanly(stack, tmp_path, monkeypatch):
    """The signal reaches the main thread while it waits for a block."""
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
    call = FakeEngine.__call__

    def call_and_interrupt(self, slices):
        if len(self.batches) == 8:
            signal.raise_signal(signal.SIGINT)
        return call(self, slices)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "__call__", call_and_interrupt)
        with pytest.raises(InterruptedError, match="'infer' continues with --resume"):
            run_job(stack, tmp_path / "out", batch=1, seconds=0.02)
    assert not (tmp_path / "out" / "slices.csv").exists()
    assert run_job(stack, tmp_path / "out", batch=1, resume=True)["slices"] == 23
