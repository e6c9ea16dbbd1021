"""The links of an HDF5 file: followed through the file, and into files of its own folder.

Other files are looked for and opened here: the HDF5 library would look in places that environment variables
name, follow paths out of the folder, and take what isn't there for fill values.
"""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import one_line

_MOST_LINKS = 100  # on one path; more of them go round in circles
_LONGEST = 200  # of names, in messages
_MOST_SHOWN = 8  # members of a group, in messages


@dataclass(frozen=True)
class Found:
    """A group or a data set, the open file that it lies in, and that file's path."""

    path: Path
    file: Any
    node: Any


class Links:
    """What an HDF5 file holds and leads to.

    Parameters
    ----------
    path : Path
        The file. Others must lie in its folder or below, symbolic links resolved.
    file : h5py.File
        Open; closed by `close`, with those it led to.
    h5py : module
        Imported late.
    """

    def __init__(self, path: Path, file: Any, h5py: Any) -> None:
        self.path, self.file, self.h5py = path, file, h5py
        self.folder = path.resolve().parent
        self._opened = {path.resolve(): file}
        self._closing = ExitStack()
        self._closing.callback(file.close)

    def close(self) -> None:
        """Close all files."""
        self._closing.close()

    def data_set(self, name: str, where: str = "", *, alone: bool = False) -> Found:
        """Return the data set of this name.

        Parameters
        ----------
        name : str
            Its path in the file; bytes that are no UTF-8 as by `decoded`.
        where : str
            What errors name; by default the file and the data set.
        alone : bool
            Follow no link to another file.

        Raises
        ------
        InputError
            It isn't there or is a group, or a link leads to what isn't followed.
        """
        where = where or f"{self.path}:/{shown(name)}"
        found = self.find(name, where, alone=alone)
        if isinstance(found.node, self.h5py.Group):
            raise InputError(
                f"{where}: is no data set but a group of {_members(found.node) or 'nothing'}; name a data set"
            )
        if not isinstance(found.node, self.h5py.Dataset):
            raise InputError(f"{where}: is no data set but describes a type of values; name a data set")
        return found

    def find(self, name: str, where: str = "", *, alone: bool = False) -> Found:
        """Return the group or data set of this name; a link may lead to another file, but not from there on.

        Parameters and errors are those of `data_set`.
        """
        where = where or f"{self.path}:/{shown(name)}"
        path, file = self.path, self.file
        node, steps, links = file, split(name), 0
        while steps:
            step = steps.pop(0)
            held, key = getattr(node.id, "links", None), encoded(step)  # only groups have some
            if held is None or not held.exists(key):
                said = f"a link in it leads to '{shown(step)}', which is not there" if links else ""
                raise InputError(f"{where}: {said or 'is not in the file'}; {_held(node, step)}")
            kind = held.get_info(key).type
            if kind == self.h5py.h5l.TYPE_HARD:
                node = node[key]
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InputError(f"{where}: its links go round in circles; name the data set itself")
            if kind == self.h5py.h5l.TYPE_SOFT:
                target = held.get_val(key)
                node = file if target.startswith(b"/") else node
            elif alone:
                raise InputError(
                    f"{where}: leads to {shown(str(path))}, which leads on to another file; open "
                    f"{shown(str(path))} itself"
                )
            else:
                alone = True
                filename, target = held.get_val(key)
                path = neighbour(where, os.fsdecode(filename), path, self.folder)
                node = file = self._open(where, path)
            steps = split(decoded(target)) + steps
        return Found(path, file, node)

    def _open(self, where: str, path: Path) -> Any:
        if path not in self._opened:
            self._opened[path] = self._closing.enter_context(open_file(path, self.h5py, where))
        return self._opened[path]


def neighbour(where: str, name: str, beside: Path, folder: Path) -> Path:
    """Return the file that a file names, looked for in the folder of that file only.

    Raises
    ------
    InputError
        It lies outside of `folder`, or there is none.
    """
    said = repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…")
    try:
        path = (beside.resolve().parent / name).resolve()
        inside = ".." not in PurePath(name).parts and path.is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # symbolic links in circles, or no name of a file
        inside = False
    if not inside:
        away = ".." in PurePath(name).parts or PurePath(name).is_absolute()
        way = "outside of its folder" if away else "by a symbolic link that doesn't end in its folder"
        raise InputError(
            f"{where}: leads to {said} {way}, which isn't followed for safety; open that file itself"
        )
    with suppress(OSError):  # a name that is too long, or a place that may not be looked at
        if path.is_file():  # nor anything that could hang, such as a pipe
            return path
    raise InputError(f"{where}: leads to {said}, which is no file in its folder; copy it there too")


def open_file(path: Path, h5py: Any, where: str = "") -> Any:
    """Open a file to read it.

    Parameters
    ----------
    path : Path
        The file.
    h5py : module
        Imported late.
    where : str
        What led to the file.

    Raises
    ------
    InputError
        It is no HDF5 file, or is being written.
    """
    try:
        return h5py.File(path, "r")
    except Exception as error:  # h5py has many types for what HDF5 finds damaged
        written = isinstance(error, BlockingIOError) or "already open for write" in str(error)
        said = (
            f"is being written by another program ({one_line(error)}); wait until it is complete"
            if written
            else f"isn't an HDF5 file that can be read ({one_line(error)}); copy or export it again"
        )
        file = shown(str(path))
        raise InputError(f"{where}: leads to {file}, which {said}" if where else f"{file}: {said}") from error


def split(name: str) -> list[str]:
    """Split a path in a file."""
    return [step for step in name.split("/") if step not in ("", ".")]


def decoded(name: bytes) -> str:
    """Return the name that a file gives, such that it finds what has it: older programs write no UTF-8."""
    return name.decode(errors="surrogateescape")


def encoded(name: str) -> bytes:
    """Return a name as the file has it: the reverse of `decoded`."""
    return name.encode(errors="surrogateescape")


def shown(name: str | bytes) -> str:
    """Return a name to be shown, of which every character can be written."""
    text = decoded(name) if isinstance(name, bytes) else name
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def _members(group: Any) -> str:
    names = [shown(name) for name in group]
    return ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")


def _held(node: Any, wanted: str) -> str:
    """Say what a group holds, with the name that is most like the wanted one, if any is."""
    if not hasattr(node.id, "links"):
        return f"{shown(node.name)} has no members"
    near = get_close_matches(shown(wanted), [shown(name) for name in node], 1)
    said = f"did you mean {near[0]}? " if near else ""
    return f"{said}{shown(node.name)} has {_members(node) or 'no members'}"
