"""Which chunks a shard of a Zarr array holds: the index at one end of its file tells.

References
----------
Zarr specification, version 3, codec "sharding_indexed".
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SHARDING = "sharding_indexed"

_ABSENT = np.iinfo(np.uint64).max  # as the offset of a chunk
_CHECKSUM_BYTES = 4


def are_readable(codecs: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the index of an array's shards can be read here: one level of them, by no other codec.

    A chunk within a shard that isn't read here would be lost unnoticed; also, nothing would bound its index.
    """
    outer, settings = codecs[0]["name"], codecs[0].get("configuration", {})
    if len(codecs) > 1 or outer != SHARDING or SHARDING in _names(settings["codecs"]):
        return False
    index = settings["index_codecs"]
    return _names(index) in (["bytes"], ["bytes", "crc32c"]) and (
        index[0].get("configuration", {}).get("endian") == "little"
    )


def _names(codecs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [codec["name"] for codec in codecs]


class Shards:
    """Files of many chunks each, in an array whose one codec is that of shards.

    Parameters
    ----------
    per_shard : tuple of int
        How many chunks a shard has along each axis.
    at_start : bool
        Whether the index stands before the chunks, in place of after them.
    checksum : bool
        Whether a checksum follows the index.
    """

    def __init__(self, per_shard: tuple[int, ...], *, at_start: bool, checksum: bool) -> None:
        self._per_shard, self._at_start, self._checksum = per_shard, at_start, checksum

    @classmethod
    def of(cls, metadata: Mapping[str, Any], chunks: tuple[int, ...], shards: tuple[int, ...]) -> Self:
        """Return the shards that an array's metadata describe, which `are_readable` has looked at."""
        settings = metadata["codecs"][0]["configuration"]
        checksum = len(settings["index_codecs"]) > 1
        per_shard = tuple(whole // part for whole, part in zip(shards, chunks, strict=True))
        return cls(per_shard, at_start=settings.get("index_location") == "start", checksum=checksum)

    def shard_of(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        """Return the coordinates of the shard of a chunk."""
        return tuple(number // count for number, count in zip(chunk, self._per_shard, strict=True))

    def holds(self, file: Path, chunk: tuple[int, ...]) -> bool:
        """Tell whether a chunk is in the file of its shard, which is there.

        Raises
        ------
        ValueError
            The index leads beyond the file: either is cut short or damaged.
        """
        status = file.stat()
        length = 16 * math.prod(self._per_shard)
        behind = 0 if self._at_start else status.st_size - length - _CHECKSUM_BYTES * self._checksum
        stored = _stored(file, behind, length, (status.st_size, status.st_mtime_ns))
        place = tuple(number % count for number, count in zip(chunk, self._per_shard, strict=True))
        return bool(stored.reshape(self._per_shard)[place])


@lru_cache(maxsize=64)
def _stored(file: Path, first: int, length: int, version: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which chunks an index has; it is read once for all of a shard's, while the file is the same."""
    size = np.uint64(version[0])
    with file.open("rb") as stream:
        stream.seek(first)
        offsets, lengths = np.frombuffer(stream.read(length), "<u8").reshape(-1, 2).T
    stored = np.asarray(offsets != _ABSENT)
    # Readers would take such a chunk for one that was left out, or for one of any size.
    beyond = (lengths == 0) | (offsets > size) | (lengths > size - np.minimum(offsets, size))
    if (stored & beyond).any():
        raise ValueError(f"the index of shard {file.name} leads beyond its end")
    return stored
