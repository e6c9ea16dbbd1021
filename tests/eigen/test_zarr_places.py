"""Zarrs that lead out of their folder, could be read without end, or claim more than can be read."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from random_volumes import random_images
from zarr_files import SHAPE, write_zarr

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Missing, Region
from eigenfeatures.eigen.volumes import open_volume

VOLUME = random_images(np.uint8, SHAPE)


@pytest.mark.parametrize("missing", ["refuse", "fill"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe", "link to a device"])
def test_a_chunk_that_is_no_file_is_not_read(written: tuple[Path, Path], kind: str, missing: Missing) -> None:
    """A pipe would hang, and a device take all memory."""
    path, file = written
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "link to a device":
        file.symlink_to("/dev/zero")
    else:
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes in folders")
        pipe = file if kind == "pipe" else file.with_name("pipe")
        os.mkfifo(pipe)
        if pipe != file:
            file.symlink_to(pipe)
    said = "leads out of" if kind == "link to a device" else "is no regular file; copy the data into one"
    with open_volume(path, missing=missing) as stack:
        np.testing.assert_array_equal(stack.read([0, 8]), VOLUME[[0, 8]])
        with pytest.raises(InputError, match=f"{file}: {said}") as refusal:
            stack.read([5])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("of_folder", [False, True])
def test_a_chunk_that_lies_outside_is_not_read(written: tuple[Path, Path], of_folder: bool) -> None:
    path, file = written
    moved = path.parent / "secret"
    if of_folder:
        file = file.parent
    if file == path:
        pytest.skip("its chunks are in the folder itself")
    shutil.move(file, moved)
    file.symlink_to(moved)
    with (
        open_volume(path) as stack,
        pytest.raises(
            InputError, match=f"{file}: leads out of {path.resolve()}, which isn't followed for safety; copy"
        ),
    ):
        stack.read([5])


def test_links_within_the_folder_and_to_it_are_followed(written: tuple[Path, Path]) -> None:
    path, file = written
    shutil.move(file, path / "kept")
    file.symlink_to(path / "kept")
    folders = path.parent / "moved.zarr", path.parent / "link.zarr"
    folders[1].symlink_to(path)
    for given in (path, folders[1]):
        with open_volume(given) as stack:
            np.testing.assert_array_equal(stack.read(range(9)), VOLUME)
            stack.check_files()


def test_a_link_that_leads_nowhere_is_a_missing_chunk(written: tuple[Path, Path]) -> None:
    path, file = written
    file.unlink()
    file.symlink_to("none")
    with (
        open_volume(path) as stack,
        pytest.raises(InputError, match=r"slice 5 .* lacks chunk 1\.0\.\d; copy"),
    ):
        stack.read([5])


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zattrs", ".zmetadata"])
def test_metadata_that_lie_outside_or_are_no_files_are_not_read(tmp_path: Path, name: str) -> None:
    path = write_zarr(tmp_path / "v.zarr", VOLUME, zarr_format=3 if name == "zarr.json" else 2)
    file = path / name
    secret = tmp_path / "secret"
    secret.write_bytes(file.read_bytes() if file.exists() else b"{}")
    file.unlink(missing_ok=True)
    file.symlink_to(secret)
    with pytest.raises(InputError, match=f"{file}: leads out of {path.resolve()}, which isn't followed"):
        open_volume(path)
    file.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)
        with pytest.raises(InputError, match=f"{file}: is no regular file"):
            open_volume(path)


def test_a_member_that_lies_outside_is_not_opened(tmp_path: Path) -> None:
    secret = write_zarr(tmp_path / "secret.zarr", VOLUME // 2)
    path = tmp_path / "v.zarr"
    zarr.create_group(path)
    (path / "a").symlink_to(secret)
    with pytest.raises(InputError, match=r"v\.zarr: its member a lies outside of it, .*; name the array it"):
        open_volume(path)
    write_zarr(path / "b", VOLUME)
    with open_volume(path) as stack:
        assert stack.files == (path / "zarr.json", path / "b" / "zarr.json")
    with open_volume(path / "a") as stack:  # as a person names it
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]] // 2)


def test_a_member_that_is_a_link_within_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_group(path)
    (path / "a").symlink_to(write_zarr(path / "data" / "kept", VOLUME))
    with open_volume(path) as stack:
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])


# Claims


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize(("shape", "shard"), [((3, 600, 600), (3, 60000, 60000)), ((3, 9, 9), (2**20,) * 3)])
def test_shards_of_endless_chunks_are_refused(
    tmp_path: Path, location: str, shape: tuple[int, ...], shard: tuple[int, ...]
) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_array(path, data=np.ones((3, 4, 5), np.uint8), chunks=(1, 1, 1), shards=(3, 4, 5))
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"] = shape, shard
    metadata["codecs"][0]["configuration"]["index_location"] = location
    (path / "zarr.json").write_text(json.dumps(metadata))
    number = np.prod(shard, dtype=object)
    with pytest.raises(
        InputError, match=f"claims shards of {number} chunks and at most 4194304 are read; wr"
    ):
        open_volume(path)


@pytest.mark.parametrize("missing", ["refuse", "fill"])
def test_a_slice_of_endless_chunks_is_refused(tmp_path: Path, missing: Missing) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_array(path, shape=(3, 2000, 2000), chunks=(1, 1, 1), dtype="u1", fill_value=7)
    array = zarr.open_array(path, mode="r+")
    array[:, :2, :2] = 1
    with open_volume(path, missing=missing) as stack:
        with pytest.raises(
            InputError,
            match=r"v\.zarr: slice 1 \(counted from 0\) lies in 4000000 chunks and at most 65536 are read; ",
        ):
            stack.read([1, 2])
        assert (stack.read([1, 2], Region(0, 0, 2, 2)) == 1).all()
    with open_volume(path, missing=missing, axis=1) as stack:
        assert (stack.read([1], Region(0, 0, 3, 2)) == 1).all()


def test_many_slices_of_many_chunks_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zarr(tmp_path / "v.zarr", VOLUME, chunks=(2, 6, 5))
    (path / "c" / "2" / "0" / "1").unlink()
    expected = VOLUME.copy()
    expected[4:6, :6, 5:] = 0
    monkeypatch.setattr("eigenfeatures.eigen.chunked_stacks.ChunkedStack._most_chunks", 6)
    sizes = []
    select = zarr.Array.get_basic_selection

    def watch(self: Any, selection: Any, **options: Any) -> Any:
        sizes.append(len(range(9)[selection[0]]))
        return select(self, selection, **options)

    monkeypatch.setattr(zarr.Array, "get_basic_selection", watch)
    with open_volume(path, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(9)), expected)
        assert [k for k in range(9) if stack.is_filled(k)] == [4, 5]
        np.testing.assert_array_equal(stack.read(range(0, 9, 2)), expected[::2])
    assert max(sizes) <= 2
    with (
        open_volume(path, axis=1, missing="fill") as stack,
        pytest.raises(InputError, match=r"slice 0 along axis 1 .* lies in 10 chunks and at most 6 are"),
    ):
        stack.read([0])
