"""How much memory is free on this machine."""

from pathlib import Path

import psutil

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Return the bytes that are free, within the limits of Slurm or a container too."""
    return min([int(psutil.virtual_memory().available), *_control_group_room()])


def _control_group_room() -> list[int]:
    """Return what each memory limit around this process leaves: those of Slurm and containers on Linux."""
    membership = Path("/proc/self/cgroup")
    if not membership.is_file():
        return []
    group = membership.read_text(encoding="utf-8").rpartition("0::/")[2].strip()
    room = []
    for folder in (_CONTROL_GROUPS / group, *(_CONTROL_GROUPS / group).parents):
        limit, used = folder / "memory.max", folder / "memory.current"
        if limit.is_file() and used.is_file() and (text := limit.read_text().strip()) != "max":
            room.append(max(0, int(text) - int(used.read_text())))
    return room
