"""Chunks that a shard lacks are told from those that it holds, and damaged shards are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Missing
from eigenfeatures.eigen.volumes import open_volume

SHAPE = (9, 12, 10)
CHUNKS = (4, 6, 5)

INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@pytest.mark.parametrize("index", [INDEX, INDEX[:1]])
@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_chunk_that_a_shard_lacks_is_missing(
    tmp_path: Path, location: str, index: list[dict[str, Any]], axis: int
) -> None:
    volume = random_images(np.uint8, SHAPE)
    volume[4:8, 0:6, 5:10] = 7  # the fill value, which zarr leaves out
    shards = {"shape": (8, 12, 10), "index_location": location}
    path = tmp_path / "v.zarr"
    made = zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, shards=shards, dtype="u1", fill_value=7)
    made[...] = 1
    _with_index_codecs(path, index)
    zarr.open_array(path, mode="r+")[...] = volume
    expected = np.moveaxis(volume, axis, 0)
    holes = np.flatnonzero(np.moveaxis(volume[4:8, 0:6, 5:10] == 7, axis, 0).any((1, 2)))
    first = (4, 0, 5)[axis]
    with open_volume(path, axis=axis) as stack:
        assert stack.read([0 if first else 6]).shape[0] == 1
        with pytest.raises(InputError, match=rf"slice {first} .*lacks chunk 1\.0\.1; copy the data"):
            stack.read(range(len(expected)))
    with open_volume(path, axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(len(expected))), expected)
        assert [k for k in range(len(expected)) if stack.is_filled(k)] == list(holes + first)


@pytest.mark.parametrize("missing", ["refuse", "fill"])
@pytest.mark.parametrize("keep", [52, 0.1, 0.5, 0.9])
def test_a_shard_that_was_cut_short_is_no_shard_of_missing_chunks(
    tmp_path: Path, keep: float, missing: Missing
) -> None:
    """Its index, at the start, leads beyond what is left; zarr would read fill values there."""
    volume = random_images(np.uint8, SHAPE)
    shards = {"shape": (12, 12, 10), "index_location": "start"}
    path = tmp_path / "v.zarr"
    zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, shards=shards, dtype="u1")[...] = volume
    file = path / "c" / "0" / "0" / "0"
    content = file.read_bytes()
    index = 16 * 3 * 2 * 2 + 4
    size = index + int(keep * (len(content) - index)) if keep < 1 else index + int(keep)
    file.write_bytes(content[:size])
    with (
        open_volume(path, missing=missing) as stack,
        pytest.raises(InputError, match=r"v\.zarr: slice \d+ .*index of shard 0 leads beyond its end"),
    ):
        stack.read(range(9))


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (10**9, 50), (0, 2**50), (2**64 - 2, 2**63)])
def test_an_index_that_leads_beyond_its_shard_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    """By the last of these zarr would ask for more memory than there is."""
    path = tmp_path / "v.zarr"
    made = zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, shards=(12, 12, 10), dtype="u1")
    _with_index_codecs(path, INDEX[:1])
    zarr.open_array(path, mode="r+")[...] = random_images(np.uint8, SHAPE)
    file = path / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[-16:] = np.array([offset, length], "<u8").tobytes()
    file.write_bytes(content)
    assert made.shards == (12, 12, 10)
    with open_volume(path) as stack, pytest.raises(InputError, match="leads beyond its end"):
        stack.read(range(9))


def _with_index_codecs(path: Path, codecs: list[dict[str, Any]]) -> None:
    """Let the indices of an array's shards be stored by other codecs, from here on."""
    described = json.loads((path / "zarr.json").read_text())
    described["codecs"][0]["configuration"]["index_codecs"] = codecs
    (path / "zarr.json").write_text(json.dumps(described))
    shutil.rmtree(path / "c", ignore_errors=True)


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
WITHIN = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [4, 6, 5], "codecs": [LITTLE], "index_codecs": INDEX},
}
AROUND = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [4, 12, 10], "codecs": [WITHIN], "index_codecs": INDEX},
}
PERMUTED = {"name": "transpose", "configuration": {"order": [0, 2, 1]}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


@pytest.mark.parametrize(
    "codecs",
    [
        [AROUND],
        [PERMUTED, {**WITHIN, "configuration": {**WITHIN["configuration"], "chunk_shape": [4, 2, 2]}}],
        [WITHIN, {"name": "crc32c"}],
        [{**WITHIN, "configuration": {**WITHIN["configuration"], "index_codecs": [BIG]}}],
    ],
    ids=["shards in shards", "transposed shards", "shards with a checksum", "another index"],
)
@pytest.mark.parametrize("missing", ["refuse", "fill"])
@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_shards_whose_missing_chunks_can_t_be_told_are_refused(
    tmp_path: Path, codecs: list[dict[str, Any]], missing: Missing
) -> None:
    path = tmp_path / "v.zarr"
    zarr.create_array(path, shape=SHAPE, chunks=(8, 12, 10), dtype="u1")
    described = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**described, "codecs": codecs}))
    volume = random_images(np.uint8, SHAPE) | 1
    volume[:4, :6, :5] = 0  # the fill value, which zarr leaves out
    zarr.open_array(path, mode="r+")[...] = volume
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], volume)
    with pytest.raises(InputError, match="shards whose missing chunks can't be told; write it anew with one"):
        open_volume(path, missing=missing)
