"""One process at a time in a folder, by locks that end with the process, however it ends; none on Windows."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eigenfeatures.eigen.errors import InputError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder of a run if need be, and lock it for this process.

    The folder itself is locked, since each of its files is replaced when it is written again.

    Raises
    ------
    InputError
        When another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # opens no folders
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, f"{folder} belongs to a run")
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, owned: str) -> None:
    """Lock an open file or folder until it is closed.

    Raises
    ------
    InputError
        When another process has locked it; it begins with `owned`, which says whose it is.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{owned} that is at work; wait for its end, or choose another folder") from error
    except OSError:  # a file system without locks, or without locks on folders, such as NFS
        pass
