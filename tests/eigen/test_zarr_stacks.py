"""Missing chunks, and Zarrs that are damaged or hostile."""

import json
import shutil
import sys
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from random_volumes import random_images
from zarr_files import SHAPE, write_zarr

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.volumes import open_volume

# Missing and damaged chunks


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize(
    ("axis", "holes"),
    [(0, [4, 5, 6, 7]), (1, [0, 1, 2, 3, 4, 5]), (2, [5, 6, 7, 8, 9])],
)
def test_a_missing_chunk_is_refused_or_filled(tmp_path: Path, form: int, axis: int, holes: list[int]) -> None:
    volume = random_images(np.uint8, SHAPE)
    path = write_zarr(tmp_path / "v.zarr", volume, zarr_format=form, fill_value=7)
    (path / ("1.0.1" if form == 2 else "c/1/0/1")).unlink()
    filled = volume.copy()
    filled[4:8, 0:6, 5:10] = 7
    expected = np.moveaxis(filled, axis, 0)
    everything = range(len(expected))
    with open_volume(path, axis=axis) as stack:
        along = f" along axis {axis}" if axis else ""
        with pytest.raises(InputError, match=rf"slice {holes[0]}{along} .* lacks chunk 1\.0\.1; copy the"):
            stack.read(everything)
        whole = [index for index in everything if index not in holes]
        np.testing.assert_array_equal(stack.read(whole), expected[whole])
        assert stack.filled == 0
    with open_volume(path, axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(whole), expected[whole])
        assert stack.filled == 0
        np.testing.assert_array_equal(stack.read(holes[1:2]), expected[holes[1:2]])
        assert stack.filled == 1
        np.testing.assert_array_equal(stack.read(everything), expected)
        assert [index for index in everything if stack.is_filled(index)] == holes
        assert stack.filled == len(holes)
    with open_volume(path, axis=axis, missing="fill", every=2) as stack:
        np.testing.assert_array_equal(stack.read(range(stack.shape[0])), expected[::2])
        halves = [index for index in range(stack.shape[0]) if stack.is_filled(index)]
        assert [2 * index for index in halves] == [index for index in holes if index % 2 == 0]
        assert stack.filled == len(halves)


def test_a_region_beside_the_missing_chunk_is_read(tmp_path: Path) -> None:
    volume = random_images(np.uint8, SHAPE)
    path = write_zarr(tmp_path / "v.zarr", volume)
    (path / "c/1/0/1").unlink()
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([5], Region(0, 0, 12, 5)), volume[[5], :, :5])
        with pytest.raises(InputError, match=r"slice 5 .* lacks chunk"):
            stack.read([5], Region(0, 0, 12, 6))


def test_a_missing_shard_and_a_missing_chunk_of_a_plane(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), shards=(8, 12, 10))
    (path / "c/0/0/0").unlink()
    with open_volume(path) as stack, pytest.raises(InputError, match=r"slice 7 .* lacks chunk 1\.0\.0"):
        stack.read([8, 7])
    plane = write_zarr(tmp_path / "p.zarr", random_images(np.uint8, (12, 10)), chunks=(6, 5))
    (plane / "c/1/0").unlink()
    for axis, index in ((0, 0), (1, 6), (2, 0)):
        with (
            open_volume(plane, axis=axis) as stack,
            pytest.raises(InputError, match=rf"slice {index} .* 1\.0;"),
        ):
            stack.read(range(stack.shape[0]))


def test_a_chunk_that_holds_only_fill_values_may_have_been_left_out(tmp_path: Path) -> None:
    """What zarr itself does by default."""
    volume = random_images(np.uint8, SHAPE)
    volume[:4] = 0
    path = write_zarr(tmp_path / "v.zarr", volume)
    with open_volume(path, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(9)), volume)
        assert stack.filled == 4


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 9])
def test_a_truncated_chunk_names_the_slice(tmp_path: Path, form: int, compressed: bool, keep: int) -> None:
    volume = random_images(np.uint16, SHAPE)
    options = {} if compressed else {"compressors": None}
    path = write_zarr(tmp_path / "v.zarr", volume, zarr_format=form, **options)
    chunk = path / ("1.0.1" if form == 2 else "c/1/0/1")
    chunk.write_bytes(chunk.read_bytes()[:keep])
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([0, 3, 8]), volume[[0, 3, 8]])
        with pytest.raises(InputError, match=r"slice 4 \(counted from 0\) can't be read .*; copy") as refusal:
            stack.read(range(9))
    assert "\n" not in str(refusal.value)


# Damaged and hostile metadata


def test_pickled_chunks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zarr(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), zarr_format=2)
    sound = (path / ".zarray").read_text()
    for change in ({"filters": [{"id": "pickle", "protocol": 5}]}, {"compressor": {"id": "pickle"}}):
        (path / ".zarray").write_text(json.dumps(json.loads(sound) | change))
        assert numcodecs.get_codec({"id": "pickle"}).codec_id == "pickle"  # it exists
        with pytest.raises(InputError, match=r"v\.zarr: .*pickle"):
            open_volume(path)
    (path / ".zarray").write_text(sound)
    kind = type(zarr.open_array(path, mode="r").metadata)
    to_dict = kind.to_dict  # other releases of zarr than that at hand may open such an array
    monkeypatch.setattr(
        kind, "to_dict", lambda self: to_dict(self) | {"filters": [{"id": "numcodecs.pickle"}]}
    )
    with pytest.raises(InputError, match=r"v\.zarr: holds pickled data, which can run code; write it"):
        open_volume(path)


@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"zarr_format": 9}', '{"zarr_format": 3, "node_type": "array"}', "\xff"]
)
def test_a_description_that_makes_no_sense(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "v.zarr"
    path.mkdir()
    (path / name).write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"v\.zarr: .*; ") as refusal:
        open_volume(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("form", [2, 3])
def test_random_damage_of_the_description_never_escapes(tmp_path: Path, form: int) -> None:
    rng = np.random.default_rng(11)
    path = write_zarr(tmp_path / "v.zarr", random_images(np.uint8, SHAPE), zarr_format=form)
    file = path / ("zarr.json" if form == 3 else ".zarray")
    sound = np.frombuffer(file.read_bytes(), np.uint8)
    refusals = []
    for _ in range(150):
        data = sound.copy()
        data[rng.integers(0, len(data), 2)] = rng.choice(list(b'019{}[],:"-x'), 2)
        file.write_bytes(data.tobytes())
        try:
            with open_volume(path, missing="fill") as stack:
                stack.read([0])
        except InputError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 150
    assert not any("\n" in message for message in refusals)


def test_huge_chunks_are_refused(tmp_path: Path) -> None:
    shape = (2**20, 2**12, 2**12)
    zarr.create_array(tmp_path / "v.zarr", shape=shape, chunks=shape, dtype="u1")
    with pytest.raises(InputError, match="claims chunks of 1048576×4096×4096 values"):
        open_volume(tmp_path / "v.zarr")


def test_groups_without_one_array(tmp_path: Path) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_group(path)
    with pytest.raises(InputError, match=r"v\.zarr: is a Zarr group of nothing; name one array"):
        open_volume(path)
    zarr.create_group(path / "group")
    for name in ("b", "a", "group/c"):
        write_zarr(path / name, np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"v\.zarr: is a Zarr group of a, b, group; name one array"):
        open_volume(path)
    shutil.rmtree(path / "a")
    with open_volume(path) as stack:
        assert stack.shape == SHAPE
        assert stack.files == (path / "zarr.json", path / "b" / "zarr.json")


def test_an_empty_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "v.zarr").mkdir()
    with pytest.raises(InputError, match=r"v\.zarr: isn't a Zarr that can be read"):
        open_volume(tmp_path / "v.zarr")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zarr(tmp_path / "v.zarr", np.zeros(SHAPE, np.uint8))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"needs more packages .*: pip install 'eigenfeatures\[cpu\]'"):
        open_volume(path)
