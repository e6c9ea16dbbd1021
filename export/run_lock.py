"""One process at a time in the folder of a run."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eigenfeatures.eigen.errors import InputError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder if need be, and lock it for this process, however the process ends.

    The folder itself is locked, since each of its files is replaced when it is written again.

    Raises
    ------
    InputError
        When another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} belongs to a run that is at work; wait for its end or choose another --out"
            ) from error
        except OSError:  # a file system without locks on folders, such as NFS
            pass
        yield
    finally:
        os.close(descriptor)
