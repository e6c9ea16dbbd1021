"""How much memory is free on this machine."""

from collections.abc import Iterator
from pathlib import Path

import psutil

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

# Where version 1 says of a group's limit, use and page cache, and where version 2 does.
_FILES_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_FILES_2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))


def free_memory() -> int:
    """Return the bytes that are free, within the limits of Slurm or a container too."""
    return min([int(psutil.virtual_memory().available), *_control_group_room()])


def _control_group_room() -> Iterator[int]:
    """Yield what each memory limit around this process leaves: those of Slurm and containers on Linux."""
    lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines() if _MEMBERSHIP.is_file() else []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, files = (_CONTROL_GROUPS / "memory", _FILES_1) if controllers else (_CONTROL_GROUPS, _FILES_2)
        # A container may see its own group as the root, under the name that it has outside.
        folder = root / group.strip("/")
        for place in (folder, *folder.parents):
            yield from _room(place, *files)


def _room(folder: Path, limit: str, used: str, cache: tuple[str, ...]) -> Iterator[int]:
    """Yield what the limit of a group leaves, if it has one; pages of files that were read count as free."""
    limit_file, used_file, statistics = folder / limit, folder / used, folder / "memory.stat"
    if not (limit_file.is_file() and used_file.is_file()):
        return
    if (text := limit_file.read_text().strip()) == "max":
        return
    lines = statistics.read_text().splitlines() if statistics.is_file() else []
    cached = sum(int(size) for name, size in map(str.split, lines) if name in cache)
    yield max(0, int(text) - int(used_file.read_text()) + cached)
