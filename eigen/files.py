"""Files that are either whole or absent, and the hash of what was read."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# How `atomic_path` names what is being written.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")


@contextmanager
def atomic_path(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place if the block succeeds.

    Parameters
    ----------
    path
        The file to make. Its folder is made if need be.
    new
        Replace nothing: of several processes that make the file at once, one succeeds.

    Yields
    ------
    Path
        Where to write. It keeps the suffix, since writers choose a format by it.

    Raises
    ------
    OSError
        When the folder can't be made or written; `path` is then as it was, also after a crash.
    FileExistsError
        When the file is there and should be new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        settle(temporary)
        if new:
            _name_new(temporary, path)
        else:
            temporary.replace(path)
        _settle_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return a name that no other writer gives."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


def _where_there_is_a_folder(path: Path) -> Path:
    """Return the path, or one of its name in the nearest of its folders that is there."""
    absolute = path.absolute()
    folder = next(parent for parent in absolute.parents if parent.exists())
    return folder / absolute.name


def check_writable(path: Path) -> None:
    """Make an empty file where `path`, or the first of its folders, would be made, and remove it.

    Raises
    ------
    OSError
        When it can't be made.
    """
    probe = _beside(_where_there_is_a_folder(path))
    probe.touch(exist_ok=False)
    probe.unlink()


def can_be_named(path: Path, *, atomically: bool) -> bool:
    """Tell whether a file or folder may have a name as long as that of `path`; nothing is written.

    Parameters
    ----------
    path
        What is to be made; its folder needn't be there yet.
    atomically
        Whether `atomic_path` will make it, which needs a longer name first.
    """
    named = _where_there_is_a_folder(path)
    try:
        os.lstat(_beside(named) if atomically else named)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def _name_new(temporary: Path, path: Path) -> None:
    """Give a file its name unless another has it: a link is refused where a renaming would replace."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)  # a file system without links, such as exFAT


def _settle_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where its file system can tell."""
    with suppress(OSError):
        _settle(os.open(folder, os.O_RDONLY))


def settle(file: Path) -> None:
    """Wait until a file is on the disk: a crash of the machine may cut short what is not.

    Raises
    ------
    OSError
        When it can't be written.
    """
    _settle(os.open(file, os.O_RDWR))  # since Windows waits for nothing that can't be written


def _settle(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Tell a name that `atomic_path` gave."""
    return _TEMPORARY.fullmatch(path.name) is not None


def is_leftover(file: Path) -> bool:
    """Tell a temporary file of `atomic_path`, which a killed process may have left."""
    return is_temporary(file) and file.is_file()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `atomic_path` that a killed process left in a folder and below it."""
    for file in folder.rglob(".*"):
        if is_leftover(file):
            file.unlink(missing_ok=True)  # its own process may remove it at the same moment


def write_text(path: Path, text: str, *, new: bool = False) -> None:
    """Write UTF-8 text so that a reader sees all of it or none; `new` as of `atomic_path`."""
    write_bytes(path, text.encode(), new=new)


def write_bytes(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write bytes so that a reader sees all of them or none; `new` as of `atomic_path`."""
    with atomic_path(path, new=new) as temporary:
        temporary.write_bytes(data)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
