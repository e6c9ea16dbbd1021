"""Jobs with a model of NumPy: what is written, what a stop leaves, what a resumed job does."""

import csv
import errno
import json
import os
import shutil
import signal

import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import FakeEngine, results_of, run_job

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.progress import silent
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.export.batch import folder, to_folder
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.folder import JobFolder
from eigenfeatures.export.batch.job import Work
from eigenfeatures.export.batch.source import Reading, Source
from eigenfeatures.export.talk import Talk
from eigenfeatures.export.versions import versions


def content(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "infer.json"
    }


@pytest.fixture
def stack(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((23, 40, 36)), photometric="minisblack")
    return tmp_path / "scan.tif"


@pytest.fixture
def unbroken(stack, tmp_path):
    run_job(stack, tmp_path / "unbroken", batch=2)
    return content(tmp_path / "unbroken")


@pytest.mark.parametrize("form", ["zarr", "tiff"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_results_are_those_of_the_model(form, every, stack, tmp_path):
    facts = run_job(stack, tmp_path / "out", format=form, batch=4, reading=Reading(every=every))
    slices = random_stack((23, 40, 36))[::every]
    expected = results_of(slices)
    with (tmp_path / "out" / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["slice"]) for row in rows] == list(range(0, 23, every))
    assert [row["predicted"] for row in rows] == [
        ("dark", "bright")[k] for k in expected["probabilities"].argmax(1)
    ]
    np.testing.assert_allclose([float(row["mean"]) for row in rows], slices.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        [float(row["sigma1"]) for row in rows], expected["singular_values"][:, 0], rtol=1e-6
    )
    if form == "zarr":
        maps = np.moveaxis(zarr.open_array(tmp_path / "out/eigenfeatures/scan.ome.zarr/0")[:], 1, 0)
    else:
        with tifffile.TiffFile(tmp_path / "out/eigenfeatures/scan.ome.tif") as tiff:
            assert tiff.is_bigtiff
            assert tiff.is_ome
            maps = tiff.asarray()[:, None]
    np.testing.assert_array_equal(maps, expected["eigenfeatures"])
    assert facts["slices"] == len(slices)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "eigenfeatures",
        "infer.json",
        "slices.csv",
    ]


def test_several_stacks_share_a_table(tmp_path):
    (tmp_path / "samples").mkdir()
    for name, grey in (("dark", 20), ("bright", 220)):
        images = np.full((9, 16, 16), grey, np.uint8)
        tifffile.imwrite(tmp_path / "samples" / f"{name}.tif", images, photometric="minisblack")
    facts = run_job(tmp_path / "samples", tmp_path / "out", batch=2)
    assert facts["accuracy"] == 1
    assert facts["predicted"] == {"bright": 9, "dark": 9}
    assert facts["flagged_slices"] == 18, "constant ones"
    rows = (tmp_path / "out" / "slices.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["bright"] * 9 + ["dark"] * 9


def test_the_volume_of_a_voxel_size_keeps_it(tmp_path):
    path = tmp_path / "s.tif"
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    tifffile.imwrite(path, random_stack(), imagej=True, resolution=(0.5, 0.25), metadata=metadata)
    run_job(path, tmp_path / "zarr", reading=Reading(every=2))
    group = zarr.open_group(tmp_path / "zarr" / "eigenfeatures" / "s.ome.zarr", mode="r")
    transformations = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # relu2 of the small network has one pixel for 2×2.
    assert transformations[0]["scale"] == pytest.approx([1, 6, 8, 4])
    assert transformations[1]["translation"] == pytest.approx([0, 0, 2, 1])
    run_job(path, tmp_path / "tiff", reading=Reading(every=2), format="tiff")
    with tifffile.TiffFile(tmp_path / "tiff" / "eigenfeatures" / "s.ome.tif") as tiff:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == pytest.approx([6, 8, 4])
    assert pixels["PhysicalSizeXUnit"] == "µm"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ({}, [0, 100, 201, 305.25]),
        ({"every": 4}, [0, 100, 201, 305.25]),
        ({"axis": 1}, [0, 200, 101.5, 305.25]),
        ({"voxel_size": VoxelSize(3.0, 2.0, 1.5)}, [0, 0, 1, 5.25]),
    ],
)
def test_maps_lie_where_the_scan_lies(reading, expected, tmp_path):
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    placed = [
        {"type": "scale", "scale": [3, 2, 1.5]},
        {"type": "translation", "translation": [100, 200, 300]},
    ]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": placed}]}
    group = zarr.create_group(tmp_path / "s.zarr", attributes={"ome": {"multiscales": [image]}})
    group.create_array("0", data=random_stack())
    run_job(tmp_path / "s.zarr", tmp_path / "out", reading=Reading(region=Region(0, 3, 8, 8), **reading))
    group = zarr.open_group(tmp_path / "out" / "eigenfeatures" / "s.ome.zarr", mode="r")
    transformations = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # relu2 of the small network begins half a pixel within.
    assert transformations[1]["translation"] == pytest.approx(expected)


def test_what_is_to_know_of_a_stack_is_said(tmp_path):
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [3, 2, 1]}]}
    attributes = {"ome": {"multiscales": [{"axes": axes, "datasets": [level]}]}}
    zarr.create_group(tmp_path / "s.zarr", attributes=attributes).create_array("0", data=random_stack())
    said = []
    run_job(tmp_path / "s.zarr", tmp_path / "out", say=said.append)
    assert sum("its scale has no known unit of length" in line for line in said) == 1


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


@pytest.mark.parametrize("gone", ["eigenfeatures", "eigenfeatures/scan.ome.zarr/0/c/0/1"])
def test_blocks_whose_maps_are_gone_are_done_again(gone, stack, tmp_path, monkeypatch):
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(*failing("write", 12, InputError("full")))
        with pytest.raises(InputError, match="full"):
            run_job(stack, tmp_path / "out", batch=2)
    done = len((tmp_path / "out" / "journal.txt").read_text().splitlines())
    assert done >= 2
    shutil.rmtree(tmp_path / "out" / gone)
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
    with pytest.raises(InputError, match=r"\.ome\.(zarr|tif) of a finished job is gone"):
        run_job(stacks, out, batch=2, format=form, resume=True)
    assert content(out) == left
    (tmp_path / "gone").rename(out / gone)
    assert run_job(stacks, out, batch=2, format=form, resume=True)["slices"] == 26


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


def test_slices_that_hold_nan_end_a_job_or_are_filled_and_flagged(tmp_path):
    stack = random_stack((12, 16, 16)).astype(np.float32)
    stack[5, 2, 3] = np.nan
    zeroed = np.nan_to_num(stack)
    np.save(tmp_path / "s.npy", stack)
    with pytest.raises(InputError, match=r"slice 5 .* holds NaN .* \(--missing fill\)"):
        run_job(tmp_path / "s.npy", tmp_path / "refused")
    facts = run_job(tmp_path / "s.npy", tmp_path / "filled", reading=Reading(missing="fill"))
    np.save(tmp_path / "s.npy", zeroed)
    run_job(tmp_path / "s.npy", tmp_path / "zeroed")
    rows = [list(csv.DictReader((tmp_path / out / "slices.csv").open())) for out in ("filled", "zeroed")]
    assert facts["filled_slices"] == 1
    assert rows[0].pop(5) == {**rows[1].pop(5), "flag": "filled"}
    assert rows[0] == rows[1]


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


def test_a_stack_that_changes_meanwhile_is_refused(tmp_path):
    """Also one of many files, at the end at the latest."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for number, image in enumerate(random_stack((12, 16, 16))):
        tifffile.imwrite(folder / f"s{number:02d}.tif", image)
    read = Source.read

    def read_and_change(self, first, count):
        if first == 8:
            tifffile.imwrite(folder / "s00.tif", random_stack((16, 16)))
        return read(self, first, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "read", read_and_change)
        patch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
        with pytest.raises(InputError, match="scan changed while it was read"):
            run_job(folder, tmp_path / "out", batch=4)
    assert not (tmp_path / "out" / "slices.csv").exists()


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


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_can_t_be_made_is_refused_before_anything_is_opened(resume, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(folder.Path, "touch", refuse)
    with pytest.raises(InputError, match=f"^{tmp_path} can't be written; choose another folder for --out$"):
        run_job(tmp_path / "no stack at all", tmp_path / "deep" / "out", resume=resume)


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
