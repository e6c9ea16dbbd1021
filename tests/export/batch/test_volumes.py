"""Volumes hold every map at its place, in OME-Zarr with coarser levels and in OME-TIFF."""

from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from fake_engine import FACTS

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.eigen.volumes import open_volume
from eigenfeatures.export.batch.facts import CLASS_MAPS, ModelFacts
from eigenfeatures.export.batch.grid import Grid, grid_of
from eigenfeatures.export.batch.zarr_volume import ZarrVolume, halved

GRID = Grid((3.0, 4.0, 2.0), (0.0, 1.0, 0.5), True)


def maps(shape=(10, 2, 9, 7)):
    """Maps as an engine gives them, ``(slices, C, h, w)``."""
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def written(path, data, block, order=None, grid=GRID):
    volume = ZarrVolume(path, (data.shape[1], len(data), *data.shape[2:]), block, grid)
    starts = list(range(0, len(data), block))
    for start in order or starts:
        volume.write(start, data[start : start + block])
    volume.finish()
    return zarr.open_group(path, mode="r")


@pytest.mark.parametrize("block", [1, 3, 4, 10, 16])
def test_every_map_is_at_its_place(block, tmp_path):
    data = maps()
    group = written(tmp_path / "v.ome.zarr", data, block)
    np.testing.assert_array_equal(group["0"][:], np.moveaxis(data, 1, 0))


def test_no_two_blocks_share_a_chunk(tmp_path):
    """So that a killed block harms no other, and machines may write at once."""
    data = maps((64, 1, 512, 512))
    volume = ZarrVolume(tmp_path / "v.ome.zarr", (1, 64, 512, 512), 24, GRID)
    volume.write(24, data[24:48])
    depth = zarr.open_array(tmp_path / "v.ome.zarr" / "0", mode="r").chunks[1]
    assert 24 % depth == 0
    found = {
        int(path.parent.parent.name) for path in (tmp_path / "v.ome.zarr/0/c/0").rglob("*") if path.is_file()
    }
    assert found == set(range(24 // depth, 48 // depth))
    np.testing.assert_array_equal(
        np.isnan(zarr.open_array(tmp_path / "v.ome.zarr" / "0")[0, :, 0, 0]),
        [not 24 <= k < 48 for k in range(64)],
    )


def test_blocks_in_another_order_and_twice_give_the_same_bytes(tmp_path):
    data = maps((12, 1, 200, 150))
    written(tmp_path / "a.ome.zarr", data, 4)
    written(tmp_path / "b.ome.zarr", data, 4, order=[8, 0, 8, 4])
    written(tmp_path / "b.ome.zarr", data, 4, order=[4])  # as when finishing was killed
    files = {
        p.relative_to(tmp_path / "a.ome.zarr") for p in (tmp_path / "a.ome.zarr").rglob("*") if p.is_file()
    }
    assert files == {
        p.relative_to(tmp_path / "b.ome.zarr") for p in (tmp_path / "b.ome.zarr").rglob("*") if p.is_file()
    }
    for file in files:
        theirs = (tmp_path / "b.ome.zarr" / file).read_bytes().replace(b'"b"', b'"a"')
        assert (tmp_path / "a.ome.zarr" / file).read_bytes() == theirs, file


def test_a_block_is_there_when_every_chunk_of_it_is(tmp_path):
    """Of every channel and level, and all over a plane."""
    path, data = tmp_path / "v.ome.zarr", maps((4, 3, 300, 1100))
    written(path, data, 2)
    files = {file for file in path.glob("*/c/**/*") if file.is_file()}
    volume = ZarrVolume(path, (3, 4, 300, 1100), 2, GRID)
    assert len(files) >= 3 * 2 * (2 + 4)
    for file in files:
        content = file.read_bytes()
        file.unlink()
        assert not all(volume.has(k, 2) for k in (0, 2)), file
        file.write_bytes(content)
    assert volume.has(0, 2)
    assert volume.has(2, 2)


@pytest.mark.parametrize("text", ["", '{"zarr_fo', "{}"])
def test_damaged_metadata_of_an_array_are_refused_and_made_anew_once_removed(text, tmp_path):
    path, data = tmp_path / "v.ome.zarr", maps((4, 1, 9, 7))
    written(path, data, 2)
    metadata = path / "0" / "zarr.json"
    before = metadata.read_bytes()
    metadata.write_text(text)
    with pytest.raises(InputError, match=f"^{metadata} is damaged; remove it, and --resume makes it anew$"):
        ZarrVolume(path, (1, 4, 9, 7), 2, GRID)
    metadata.unlink()
    assert ZarrVolume(path, (1, 4, 9, 7), 2, GRID).has(0, 4)
    assert metadata.read_bytes() == before


def test_levels_are_means_of_two_by_two(tmp_path):
    data = maps((3, 1, 300, 260))
    group = written(tmp_path / "v.ome.zarr", data, 2)
    assert sorted(group.array_keys()) == ["0", "1", "2"]
    expected = data[:, 0].astype(np.float64)
    for level in ("1", "2"):
        _, height, width = expected.shape
        expected = expected.reshape(3, height // 2, 2, width // 2, 2).mean((2, 4))
        np.testing.assert_allclose(group[level][0], expected, atol=1e-6)


def test_a_block_has_its_part_of_every_level(tmp_path):
    """So that no single process goes over all of a volume once more."""
    data = maps((8, 1, 300, 260))
    volume = ZarrVolume(tmp_path / "v.ome.zarr", (1, 8, 300, 260), 4, GRID)
    volume.write(4, data[4:])
    expected = data[4:, 0]
    for level in ("0", "1", "2"):
        found = zarr.open_array(tmp_path / "v.ome.zarr" / level, mode="r")[0]
        assert np.isnan(found[:4]).all()
        np.testing.assert_array_equal(found[4:], expected)
        expected = halved(expected)


def test_blocks_without_a_number_are_stored_also_in_a_volume_that_is_opened_again(tmp_path):
    """A missing chunk is one that was lost."""
    for first in (0, 2):
        volume = ZarrVolume(tmp_path / "v.ome.zarr", (1, 4, 9, 7), 2, GRID)
        assert not volume.has(first, 2)
        volume.write(first, np.full((2, 1, 9, 7), np.nan, np.float32))
        assert volume.has(first, 2)


def test_an_odd_edge_counts_twice():
    image = np.arange(15, dtype=np.float32).reshape(3, 5)
    expected = [[3, 5, 6.5], [10.5, 12.5, 14]]
    np.testing.assert_array_equal(halved(image), expected)


def test_zeros_are_stored_and_what_was_not_written_is_not_zero(tmp_path):
    group = written(tmp_path / "v.ome.zarr", np.zeros((4, 1, 8, 8), np.float32), 2, order=[2])
    assert np.isnan(group["0"][0, :2]).all()
    assert (group["0"][0, 2:] == 0).all()


def test_the_metadata_say_where_the_pixels_lie(tmp_path):
    group = written(tmp_path / "name.ome.zarr", maps((2, 1, 300, 260)), 2)
    (image,) = group.attrs["ome"]["multiscales"]
    assert (group.attrs["ome"]["version"], image["name"]) == ("0.5", "name")
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert {axis.get("unit") for axis in image["axes"][1:]} == {"micrometer"}
    for number, dataset in enumerate(image["datasets"]):
        scale, translation = (part[part["type"]] for part in dataset["coordinateTransformations"])
        factor = 2**number
        assert scale == [1, 3, 4 * factor, 2 * factor]
        # The centre of the first pixel of the level, which is the mean of the centres of those below it.
        assert translation == [0, 0, 1 + 4 * (factor - 1) / 2, 0.5 + 2 * (factor - 1) / 2]
    plain = written(tmp_path / "plain.ome.zarr", maps(), 2, grid=Grid((1, 1, 1), (0, 0, 0), False))
    assert all("unit" not in axis for axis in plain.attrs["ome"]["multiscales"][0]["axes"])


def test_our_own_reader_reads_it_with_its_voxels(tmp_path):
    data = maps((10, 1, 9, 7))
    written(tmp_path / "v.ome.zarr", data, 4)
    with open_volume(tmp_path / "v.ome.zarr") as stack:
        np.testing.assert_array_equal(stack.read(range(10)), data[:, 0])
        assert (stack.voxel_size.z, stack.voxel_size.y, stack.voxel_size.x) == (3, 4, 2)


def test_a_grid_of_pooled_maps():
    """A 2×2 mean of pixels at 10, 11, … has its first centre at 10.5."""
    grid = Grid((1.0, 1.0, 1.0), (0.0, 10.0, 20.0), False).coarser(2)
    assert grid == Grid((1, 2, 2), (0, 10.5, 20.5), False)
    assert grid.coarser(2).origin == (0, 11.5, 21.5)
    assert grid.coarser(1) == grid


@pytest.mark.parametrize(
    ("preset", "layer", "resolution", "expected"),
    [
        ("small", "relu2", "pooled", (2, 0.5)),
        ("small", "relu2", "dense", (1, 0.5)),
        ("paper", "relu5", "dense", (1, 7.5)),
        ("alexnet", "relu2", "pooled", (8, 7)),
        ("alexnet", "relu1", "pooled", (4, 3)),
    ],
)
def test_maps_lie_at_the_centres_of_their_receptive_fields(preset, layer, resolution, expected):
    """As in a run's figures, see `test_placement.py`; class maps lie at the centres of their squares."""
    named = {"preset": preset, "layer": layer, "resolution": resolution}
    facts = ModelFacts(**{**vars(FACTS), **named, "map_step": 20})
    assert (facts.stride("eigenfeatures"), facts.offset("eigenfeatures")) == expected
    assert (facts.stride(layer), facts.offset(layer)) == expected
    assert (facts.stride(CLASS_MAPS), facts.offset(CLASS_MAPS)) == (20, 9.5)


def test_a_grid_begins_at_the_offset_within_the_region():
    source = SimpleNamespace(
        region=Region(10, 20, 64, 64), voxel_size=VoxelSize(3.0, 0.5, 2.0), origin=(1.0, 2.0, 3.0)
    )
    assert grid_of(source, 8, 7.0) == Grid((3, 4, 16), (1, 10.5, 57), True)
    # Without a voxel size in voxels, also where slices are left out.
    source = SimpleNamespace(region=None, voxel_size=None, step=4, origin=(0.0, 0.0, 0.0))
    assert grid_of(source, 1, 0.5) == Grid((4, 1, 1), (0, 0.5, 0.5), False)
