"""Files whose size and modification time must stay while they are read, however many there are."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from eigenfeatures.eigen.stacks import changed

# Of a file that is there: bytes, and the modification time in nanoseconds.
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
    """

    def __init__(self, folder: Path, most: int = 2**16) -> None:
        self._folder, self._most = folder, most
        self._versions: dict[str, _Version] = {}
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, names: Collection[str]) -> Iterator[None]:
        """Compare files before and after they are read in the block; an error in it may come of the change.

        Raises
        ------
        InputError
            One has changed meanwhile, or since it was read before.
        """
        self._compare(names)
        try:
            yield
        finally:
            self._compare(names)
        with self._lock:
            for name in list(self._versions)[: max(0, len(self._versions) - self._most)]:
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
                before = self._versions.setdefault(name, version)
            if version != before:
                raise changed(self._folder / name)


def _version(file: Path) -> _Version:
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns
