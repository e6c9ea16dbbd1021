"""Which stacks, which slices, and that a change of them does not pass."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import FACTS, run_job

from eigenfeatures.eigen import tiff_stacks
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.eigen.tiff_reader import TiffReader
from eigenfeatures.eigen.volumes import open_volume
from eigenfeatures.export.batch import source as source_module
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.source import Reading, close_sources, open_sources, source_of


def opened(*paths, facts=FACTS, **reading):
    return open_sources(paths, Reading(**reading), facts)


def test_a_colon_in_a_path_separates_nothing(tmp_path):
    """Only behind an HDF5 file does it."""
    folder = tmp_path / "day 12:30"
    (folder / "a").mkdir(parents=True)
    for name in ("a/first.tif", "a/second.tif"):
        tifffile.imwrite(folder / name, random_stack((3, 8, 8)), photometric="minisblack")
    np.save(folder / "b.npy", random_stack((3, 8, 8)))
    assert [source.name for source in opened(folder)] == ["a/first", "a/second", "b"]
    assert [source.name for source in opened(folder / "b.npy")] == ["b"]
    (folder / "10:00.npy").write_bytes((folder / "b.npy").read_bytes())
    assert [source.name for source in opened(folder / "10:00.npy")] == ["10:00"]
    with h5py.File(folder / "c:d.h5", "w") as file:
        file["entry/data"] = random_stack((3, 8, 8))
    assert [source.name for source in opened(Path(f"{folder}/c:d.h5:/entry/data"))] == ["c:d-entry-data"]


def test_what_a_folder_holds_besides_stacks_is_said(tmp_path):
    folder = tmp_path / "day"
    (folder / "notes").mkdir(parents=True)
    np.save(folder / "a.npy", random_stack((3, 8, 8)))
    (folder / "b.raw").write_bytes(bytes(64))
    (source,) = opened(folder)
    assert source.notes == ("day: ignored b.raw, notes",)
    (source,) = opened(folder / "a.npy")
    assert source.notes == ()


def limited(**limits):
    return ModelFacts(**{**vars(FACTS), **limits})


@pytest.fixture
def stack(tmp_path):
    tifffile.imwrite(tmp_path / "scan.ome.tif", random_stack(), photometric="minisblack")
    return tmp_path / "scan.ome.tif"


def test_a_folder_of_samples_stands_for_every_stack_in_it(tmp_path):
    root = tmp_path / "samples"
    (root / "b" / "left").mkdir(parents=True)
    (root / "notes").mkdir()
    (root / "notes" / "read.me").write_text("no stack")
    tifffile.imwrite(root / "a.tif", random_stack((3, 8, 8)), photometric="minisblack")
    for number in range(4):
        tifffile.imwrite(root / "b" / "left" / f"s{number}.tif", random_stack((8, 8)))
    tifffile.imwrite(root / "b" / "right.tif", random_stack((5, 8, 8)), photometric="minisblack")
    np.save(root / "c.npy", random_stack((6, 8, 8)))
    zarr.create_array(root / "d.zarr", data=random_stack((7, 8, 8)))
    for name in ("e.hdf", "f.nx5"):
        with h5py.File(root / name, "w") as file:
            file["data"] = random_stack((8, 8, 8))
    sources = opened(root)
    assert {source.name: source.stack.shape[0] for source in sources} == {
        "a": 3,
        "b/left": 4,
        "b/right": 5,
        "c": 6,
        "d": 7,
        "e": 8,
        "f": 8,
    }
    close_sources(sources)


def test_names_have_no_suffix(stack, tmp_path):
    with h5py.File(tmp_path / "facility.h5", "w") as file:
        file["entry/data"] = random_stack()
    assert [source.name for source in opened(stack, tmp_path / "facility.h5:/entry/data")] == [
        "scan",
        "facility-entry-data",
    ]


@pytest.mark.parametrize("given", [".", "../scan", "below/.."])
def test_a_folder_that_is_given_as_a_way_has_its_own_name(given, tmp_path, monkeypatch):
    (tmp_path / "scan" / "below").mkdir(parents=True)
    for number in range(3):
        tifffile.imwrite(tmp_path / "scan" / f"s{number}.tif", random_stack((8, 8)))
    monkeypatch.chdir(tmp_path / "scan")
    (source,) = opened(Path(given))
    assert source.name == "scan"
    source.stack.close()


def test_slices_and_regions_are_those_asked_for(stack):
    (source,) = opened(stack, every=5, region=Region(1, 2, 30, 20))
    assert source.indices.tolist() == [0, 5, 10]
    assert source.size == (30, 20)
    np.testing.assert_array_equal(source.read(1, 2), random_stack()[5:11:5, 1:31, 2:22])


def test_another_axis(stack):
    (source,) = opened(stack, axis=2)
    np.testing.assert_array_equal(source.read(3, 2), np.moveaxis(random_stack(), 2, 0)[3:5])


def test_the_step_widens_the_voxels(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, random_stack(), imagej=True, resolution=(0.5, 0.25), metadata=metadata)
    (source,) = opened(path, every=4)
    voxel = source.voxel_size
    assert (voxel.z, voxel.y, voxel.x) == pytest.approx((12, 4, 2))


def test_a_stated_voxel_size_takes_the_place_of_the_files(stack):
    (source,) = opened(stack, every=2, voxel_size=VoxelSize(3.0, 2.0, 1.0))
    assert source.voxel_size == VoxelSize(6.0, 2.0, 1.0)


def test_the_crop_of_the_training_is_repeated(stack):
    """Unless a region is given."""
    (source,) = opened(stack, facts=limited(size=(20, 20), crop=20))
    np.testing.assert_array_equal(source.read(0, 1)[0], random_stack()[0, 10:30, 10:30])
    assert source.notes == (
        f"{stack}: slices are cropped at the centre from 40×40 to 20×20, as those of the training; "
        "--overlap takes whole slices",
    )
    (source,) = opened(stack, facts=limited(size=(20, 20), crop=20), region=Region(0, 0, 20, 20))
    np.testing.assert_array_equal(source.read(0, 1)[0], random_stack()[0, :20, :20])
    assert not source.notes
    (source,) = opened(stack, facts=limited(size=(40, 40), crop=40))
    assert not source.notes


def test_windows_that_were_asked_for_are_of_the_whole_slice(stack):
    """Not of the centre that the training cut."""
    (source,) = opened(stack, facts=limited(size=(20, 20), crop=20), overlap=0.5)
    assert source.size == (40, 40)


@pytest.mark.parametrize(
    ("facts", "reading", "reason"),
    [
        ({"size": (50, 40)}, {}, r"40×40 pixels, but the model was made for 50×40; use a model of smaller"),
        ({"dtype": np.dtype(np.uint16)}, {}, "holds uint8 slices, but the model takes uint16; convert"),
        ({}, {"region": Region(20, 0, 30, 30)}, "region 20,0,30,30 leaves its 40×40 slices"),
        ({}, {"axis": 3}, "axis 3: must be 0, 1 or 2"),
    ],
)
def test_a_stack_that_does_not_suit_is_refused(facts, reading, reason, stack):
    with pytest.raises(InputError, match=reason):
        opened(stack, facts=limited(**facts), **reading)


def test_what_is_no_stack_is_refused(stack, tmp_path):
    with pytest.raises(InputError, match="two stacks are named 'scan'"):
        opened(stack, stack)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        opened(tmp_path / "empty")
    with pytest.raises(InputError, match="absent"):
        opened(tmp_path / "absent")
    with pytest.raises(InputError, match="--every 0 is out of range"):
        Reading(every=0)


@pytest.mark.parametrize(
    ("mistaken", "reason"),
    [
        ({"every": 2.0}, "every 2.0: must be a whole number"),
        ({"region": "1,2,3,4"}, "region '1,2,3,4': must be a Region"),
        ({"voxel_size": 2.0}, "voxel_size 2.0: must be a VoxelSize"),
        ({"overlap": "half"}, "--overlap half is out of range; give 0 to 0.9"),
    ],
)
def test_a_reading_of_the_wrong_type_is_told_where_it_is_made(mistaken, reason):
    with pytest.raises(InputError, match=reason):
        Reading(**mistaken)


def test_a_changed_stack_is_noticed(stack):
    (source,) = opened(stack)
    source.read(0, 2)
    images = random_stack()
    images[7, 3, 3] ^= 1
    before = stack.stat()
    tifffile.imwrite(stack, images, photometric="minisblack")
    assert stack.stat().st_size == before.st_size, "only the time tells"
    os.utime(stack, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    with pytest.raises(InputError, match="changed while it was read"):
        source.read(2, 2)
    stack.unlink()
    with pytest.raises(InputError, match="can't be read any more"):
        source.check_unchanged()


def folder_of_slices(path, number=6):
    path.mkdir()
    for index, image in enumerate(random_stack((number, 8, 8))):
        tifffile.imwrite(path / f"s{index}.tif", image)
    os.utime(path, (10**9, 10**9))  # so that what comes at once has another time
    return path


@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"every": 2}])
def test_a_slice_that_comes_to_a_folder_while_a_block_is_read_is_noticed(options, tmp_path, monkeypatch):
    """As of a scan that is written still."""
    folder = folder_of_slices(tmp_path / "scan")
    (source,) = opened(folder, **options)
    source.read(0, 2)
    read = TiffReader.read

    def read_and_add(*arguments):
        (folder / "s6.tif").write_bytes((folder / "s5.tif").read_bytes())
        return read(*arguments)

    monkeypatch.setattr(TiffReader, "read", read_and_add)
    with pytest.raises(InputError, match=r"scan \(new: s6\.tif\) changed while it was read; wait until"):
        source.read(2, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "s60.tif").touch(), r"scan \(new: s60\.tif\) changed while it was read"),
        (
            lambda folder: [(folder / f"s1{number}.TIFF").touch() for number in range(3)],
            r"scan \(new: s10\.TIFF and 2 more\) changed while it was read",
        ),
        (lambda folder: (folder / "s0.tif").rename(folder / "s60.tif"), "s0.tif can't be read any more"),
        (lambda folder: (folder / "s0.tif").unlink(), "s0.tif can't be read any more"),
        (lambda folder: (folder / "s5.tif").write_bytes(b"II"), "scan changed while it was read"),
    ],
)
def test_a_change_that_the_time_of_the_folder_does_not_tell_is_noticed_at_the_end(change, reason, tmp_path):
    """As one within the tick of the clock in which the folder was listed."""
    folder = folder_of_slices(tmp_path / "scan", 20)
    (source,) = opened(folder)
    before = folder.stat()
    change(folder)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    source.read(2, 2)
    with pytest.raises(InputError, match=reason):
        source.check_unchanged()


def test_a_slice_that_is_gone_from_a_folder_of_many_is_noticed(tmp_path):
    folder = folder_of_slices(tmp_path / "scan", 20)
    (source,) = opened(folder)
    (folder / "s19.tif").unlink()
    with pytest.raises(InputError, match=r"scan \(gone: s19\.tif\) changed while it was read"):
        source.read(2, 2)


def test_what_is_no_slice_may_come_to_a_folder(tmp_path):
    folder = folder_of_slices(tmp_path / "scan")
    (source,) = opened(folder)
    for name in ("notes.txt", ".s7.tif", "thumb.tif.part"):
        (folder / name).touch()
        source.read(0, 2)
    (folder / "below.tif").mkdir()
    source.check_unchanged()


def test_of_a_folder_no_more_than_its_time_is_looked_at_after_a_block(tmp_path, monkeypatch):
    """It may have 100,000 files."""
    (source,) = opened(folder_of_slices(tmp_path / "scan", 20))
    monkeypatch.setattr(tiff_stacks.os, "scandir", lambda _: pytest.fail("listed"))
    monkeypatch.setattr(source_module, "_stamp", lambda _: pytest.fail("looked at every file"))
    source.read(0, 2)


def test_a_change_of_a_folder_in_a_loop_over_its_blocks_is_noticed(tmp_path):
    """Where nothing but the first look, before the first block, knows how it was."""
    folder = folder_of_slices(tmp_path / "scan", 20)
    source = source_of(open_volume(folder), Reading(), FACTS)
    tifffile.imwrite(folder / "s3.tif", np.zeros((8, 8), np.uint16))
    with pytest.raises(InputError, match="scan changed while it was read"):
        source.check_unchanged()


def test_an_impossible_voxel_size_is_said(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data"] = random_stack()
        file["data"].attrs["element_size_um"] = (2.0, 2.0, 0.0)
    said = []
    run_job(tmp_path / "scan.h5", tmp_path / "out", say=said.append)
    told = (
        "/data: states element_size_um [2. 2. 0.], which no voxel can have: lengths are in voxels, unless a "
    )
    assert [line for line in said if told in line] == [f"{tmp_path / 'scan.h5'}:{told}voxel size is stated"]


@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_a_change_of_a_file_that_an_hdf5_file_leads_to_is_noticed(kind, tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = random_stack()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        if kind == "link":
            file["data"] = h5py.ExternalLink("raw.h5", "/data")
        else:
            layout = h5py.VirtualLayout(random_stack().shape, np.uint8)
            layout[...] = h5py.VirtualSource("raw.h5", "data", layout.shape)
            file.create_virtual_dataset("data", layout)
    (source,) = opened(tmp_path / "scan.h5")
    before = source.read(0, 2)
    np.testing.assert_array_equal(before, random_stack()[:2])
    status = (tmp_path / "raw.h5").stat()
    os.utime(tmp_path / "raw.h5", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InputError, match=r"scan\.h5:/data changed while it was read"):
        source.read(2, 2)


def test_a_chunk_of_a_zarr_that_changes_after_its_block_is_noticed_at_the_end(tmp_path):
    zarr.create_array(tmp_path / "scan.zarr", data=random_stack(), chunks=(4, 40, 40))
    (source,) = opened(tmp_path / "scan.zarr")
    for first in (0, 4, 8):
        source.read(first, 4)
    chunk = tmp_path / "scan.zarr" / "c/1/0/0"
    status = chunk.stat()
    os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InputError, match=f"{chunk} changed while it was read"):
        source.check_unchanged()


def test_identity_tells_stacks_apart(stack):
    def identity(**reading):
        (source,) = opened(stack, **reading)
        return source.identity

    first = identity()
    assert identity() == first
    assert first["files"]["bytes"] == stack.stat().st_size
    for change in ({"every": 2}, {"region": Region(0, 0, 8, 8)}):
        assert identity(**change) != first
    images = random_stack()
    images[-1, -1, -1] ^= 1
    before = stack.stat()
    tifffile.imwrite(stack, images, photometric="minisblack")
    os.utime(stack, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = identity()
    assert changed["files"] == first["files"], "as after a copy that keeps times"
    assert changed["last_slice"] != first["last_slice"]


@pytest.mark.parametrize("inside", ["", ":data"])
def test_a_stack_is_the_same_by_whichever_path_it_is_given(inside, tmp_path, monkeypatch):
    for place in ("here", "there/deep"):
        (tmp_path / place).mkdir(parents=True)
        with h5py.File(tmp_path / place / "s.h5", "w") as file:
            file["data"] = random_stack((3, 8, 8))
    monkeypatch.chdir(tmp_path / "here")
    for given in ("s.h5", "./s.h5", "../here/s.h5", "../there/../here/s.h5", tmp_path / "here" / "s.h5"):
        (source,) = opened(Path(f"{given}{inside}"))
        assert source.description["path"] == str(opened(tmp_path / f"here/s.h5{inside}")[0].stack.path)


def test_a_path_up_from_a_link_is_that_of_the_file_it_leads_to(tmp_path):
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "deep")
    for place in (tmp_path, tmp_path / "there"):
        np.save(place / "s.npy", random_stack((3, 8, 8)))
    (source,) = opened(tmp_path / "link" / ".." / "s.npy")
    assert source.description["path"] == str(tmp_path / "there" / "s.npy")


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_a_claim_of_endless_slices_is_refused_by_the_file(kind, tmp_path):
    """Also a list of their numbers would fill the memory."""
    path, claimed = tmp_path / f"s.{kind}", {"shape": (2**33, 8, 8), "dtype": "u1", "chunks": (1, 8, 8)}
    if kind == "zarr":
        zarr.create_array(path, **claimed)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", **claimed)
    with pytest.raises(InputError, match=rf"s\.{kind}\S*: claims {2**33} slices and at most 16777216 are "):
        opened(path)
    (source,) = opened(path, every=2**20)
    assert len(source.indices) == 2**13
