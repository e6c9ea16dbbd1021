"""Which stacks, which slices, and that a change of them does not pass."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import FACTS

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.source import Reading, close_sources, open_sources


def opened(*paths, facts=FACTS, **reading):
    return open_sources(paths, Reading(**reading), facts)


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
    (source,) = opened(stack, facts=limited(size=(20, 20), crop=20), region=Region(0, 0, 20, 20))
    np.testing.assert_array_equal(source.read(0, 1)[0], random_stack()[0, :20, :20])


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
