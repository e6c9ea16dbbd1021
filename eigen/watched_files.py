"""Files whose size and modification time must stay while they are read, however many there are."""

import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import changed

# Of a file that is there: bytes, and the modification time in nanoseconds. Of one that can't be looked at:
# -1, and the number of the system's error.
_Version = tuple[int, int] | None


class WatchedFiles:
    """The files of a folder that were read last, as they were then.

    Times are compared with those of the same file only, never with a clock: that of the machine which keeps
    the files may be off, and a file that was written a moment before it is read is as good as any.

    Parameters
    ----------
    folder : Path
        Where they are.
    most : int
        How many are remembered.
    within : Path, optional
        Where symbolic links may lead to, itself without any; by default `folder`.
    """

    def __init__(self, folder: Path, most: int = 2**16, within: Path | None = None) -> None:
        self._folder, self._most, self._within = folder, most, within or folder.resolve()
        self._versions: dict[str, _Version] = {}
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, names: Collection[str]) -> Iterator[None]:
        """Compare files before and after they are read in the block; an error in it may come of the change.

        Raises
        ------
        InputError
            One has changed meanwhile or since it was read before, is no regular file or lies elsewhere.
        """
        for folder in {(self._folder / name).parent for name in names}:
            _check_inside(folder, self._within)
        for name in names:
            check_regular(self._folder / name, self._within)
        self._compare(names)
        try:
            yield
        finally:
            self._compare(names)
        with self._lock:
            for name in list(islice(self._versions, max(0, len(self._versions) - self._most))):
                del self._versions[name]

    def check(self) -> None:
        """Compare all files that are remembered.

        Raises
        ------
        InputError
            One has changed since it was read.
        """
        with self._lock:
            names = list(self._versions)
        self._compare(names)

    def _compare(self, names: Collection[str]) -> None:
        for name in names:
            version = _version(self._folder / name)
            with self._lock:
                before = self._versions.pop(name, version)
                self._versions[name] = before  # now the last, as it is read last
            if version != before:
                raise changed(self._folder / name)


def _version(file: Path) -> _Version:
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # such as a link to itself, or a server that has lost it
        return -1, error.errno or 0
    return status.st_size, status.st_mtime_ns


def check_regular(file: Path, within: Path) -> None:
    """Refuse a file that leads out of a folder, or that could be read without end.

    Parameters
    ----------
    file : Path
        May be absent. The folder that it is in isn't looked at.
    within : Path
        The folder, without symbolic links.

    Raises
    ------
    InputError
        It is a symbolic link to another place, or a pipe, a device or a folder.
    """
    try:
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            _check_inside(file, within)
            mode = file.stat().st_mode
    except OSError:  # absent, or not to be reached: whoever reads it says so
        return
    if not stat.S_ISREG(mode):
        raise _irregular(file)


def check_ends(file: Path) -> None:
    """Refuse to open a pipe, which may never open, or a device, which may never end.

    Parameters
    ----------
    file : Path
        May be absent, a symbolic link, or a folder, of which whoever opens it has more to say.

    Raises
    ------
    InputError
        It is a pipe, a device or a socket.
    """
    try:
        mode = file.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _irregular(file)


def _irregular(file: Path) -> InputError:
    return InputError(f"{file}: is no regular file; copy the data into one")


def _check_inside(file: Path, within: Path) -> None:
    try:
        inside = file.resolve().is_relative_to(within)
    except (OSError, RuntimeError):  # symbolic links in circles, by which nothing is read either
        return
    if not inside:
        raise InputError(
            f"{file}: leads out of {within}, which isn't followed for safety; copy what it leads to there"
        )
