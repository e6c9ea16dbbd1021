"""The links of an HDF5 file: followed through the file, and into files of its own folder.

Other files are looked for and opened here: the HDF5 library would look in places that environment variables
name, follow paths out of the folder, and take what isn't there for fill values.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import one_line

_MOST_LINKS = 100  # on one path; more of them go round in circles


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
            Its path in the file.
        where : str
            What errors name; by default the file and the data set.
        alone : bool
            Follow no link to another file.

        Raises
        ------
        InputError
            It isn't there or is a group, or a link leads to what isn't followed.
        """
        where = where or f"{self.path}:/{name}"
        found = self.find(name, where, alone=alone)
        if not isinstance(found.node, self.h5py.Dataset):
            held = ", ".join(list(found.node)[:8]) or "nothing"
            raise InputError(f"{where}: is no data set but a group of {held}; name a data set")
        return found

    def find(self, name: str, where: str = "", *, alone: bool = False) -> Found:
        """Return the group or data set of this name; a link may lead to another file, but not from there on.

        Parameters and errors are those of `data_set`.
        """
        where = where or f"{self.path}:/{name}"
        path, file = self.path, self.file
        node, steps, links = file, split(name), 0
        while steps:
            step = steps.pop(0)
            link = node.get(step, getlink=True) if isinstance(node, self.h5py.Group) else None
            if link is None:
                held = ", ".join(list(node)[:8]) if isinstance(node, self.h5py.Group) else "no members"
                said = (
                    f"a link in it leads to '{step}', which is not there" if links else "is not in the file"
                )
                raise InputError(f"{where}: {said}; {node.name} has {held or 'no members'}")
            if isinstance(link, self.h5py.HardLink):
                node = node[step]
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InputError(f"{where}: its links go round in circles; name the data set itself")
            if isinstance(link, self.h5py.SoftLink):
                node = file if link.path.startswith("/") else node
            elif not alone:
                alone = True
                path = neighbour(where, link.filename, path, self.folder)
                node = file = self._open(where, path)
            else:
                raise InputError(
                    f"{where}: leads to {path}, which leads on to another file; open {path} itself"
                )
            steps = split(link.path) + steps
        return Found(path, file, node)

    def _open(self, where: str, path: Path) -> Any:
        if path not in self._opened:
            self._opened[path] = self._closing.enter_context(open_file(where, path, self.h5py))
        return self._opened[path]


def neighbour(where: str, name: str, beside: Path, folder: Path) -> Path:
    """Return the file that a file names, looked for in the folder of that file only.

    Raises
    ------
    InputError
        It lies outside of `folder`, or there is none.
    """
    try:
        path = (beside.resolve().parent / name).resolve()
        inside = ".." not in PurePath(name).parts and path.is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # symbolic links in circles, or no name of a file
        inside = False
    if not inside:
        raise InputError(
            f"{where}: leads to {name!r} outside of its folder, which isn't followed for safety; "
            "open that file itself"
        )
    if not path.is_file():  # nor anything that could hang, such as a pipe
        raise InputError(f"{where}: leads to {name!r}, which is no file in its folder; copy it there too")
    return path


def open_file(where: str, path: Path, h5py: Any) -> Any:
    """Open a file to read it.

    Raises
    ------
    InputError
        It is no HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except Exception as error:
        raise InputError(
            f"{where}: leads to {path}, which isn't an HDF5 file that can be read ({one_line(error)}); "
            "copy or export it again"
        ) from error


def split(name: str) -> list[str]:
    """Split a path in a file."""
    return [step for step in name.split("/") if step not in ("", ".")]
