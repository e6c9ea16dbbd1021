"""Data sets of HDF5 and NeXus files as stacks."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eigenfeatures.eigen.array_stacks import is_volume
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.hdf5_data import DataSetStack, VirtualStack, shape_of
from eigenfeatures.eigen.hdf5_links import Found, Links, decoded, encoded, open_file, shown, split
from eigenfeatures.eigen.stack_views import AcrossStack
from eigenfeatures.eigen.stacks import Stack, one_line
from eigenfeatures.eigen.voxel_size import VoxelSize, impossible

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_STEPS = 100  # from attribute to attribute; more of them go round in circles
_MOST_FOLLOWED = 100  # links to other files, when no data set is named: each keeps a file open


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its name or its first bytes."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        return path.suffix.lower() in HDF5_SUFFIXES or file.read(len(_SIGNATURE)) == _SIGNATURE
    return False


def open_hdf5(path: Path, name: str = "", axis: int = 0) -> Stack:
    """Open a data set as a stack, without reading its values.

    External links and virtual data sets are followed to files in the folder of
    the file or below, where the links themselves say, whatever the environment
    variables of HDF5. Nothing else is ever opened: other links, from file to
    file to file too, and external storage are refused.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The data set, such as "/entry/data/data". Without it, the file's only
        data set of three dimensions or, of several, the one that NeXus's
        attributes `default` and `signal` lead to.
    axis : int
        As of `ArrayStack`.

    Returns
    -------
    Stack
        Its path is ``file.h5:/entry/data/data``. The voxel size is taken from
        the attribute ``element_size_um`` (z, y, x), where there is one. Along
        axis 1 or 2 reading takes the memory of its result twice and, of a
        virtual data set, passes through all of it (`AcrossStack`).

    Raises
    ------
    InputError
        The file is damaged, the data set isn't in it or in files that are
        followed, or it is no greyscale volume.
    """
    h5py = _import_h5py(path)
    links = Links(path, open_file(path, h5py), h5py)
    try:
        name, notes = (name.strip("/"), ()) if name.strip("/") else _choose_volume(links)
        return _stack(Path(f"{path}:/{shown(name)}"), links, links.data_set(name), axis, notes)
    except InputError:
        links.close()
        raise
    except Exception as error:  # h5py has many types for what HDF5 finds damaged
        links.close()
        raise _unreadable(path, name, error) from error


def _unreadable(path: Path, name: str, error: Exception) -> InputError:
    return InputError(f"{path}:/{shown(name)}: can't be read ({one_line(error)}); export it again")


def _stack(where: Path, links: Links, found: Found, axis: int, notes: tuple[str, ...]) -> Stack:
    size, told = _element_size(where, found.node)
    if not found.node.is_virtual:
        stack: Stack = DataSetStack(where, links, found, size, axis)
    else:
        stack = VirtualStack(where, links, found, size)
    stack.notes = notes + told
    return AcrossStack(stack, axis) if axis and found.node.is_virtual else stack


def _import_h5py(path: Path) -> Any:
    with suppress(ImportError):
        import_module("hdf5plugin")  # registers more codecs
    try:
        return import_module("h5py")
    except ImportError as error:
        raise InputError(
            f"{path}: reading HDF5 needs more packages ({error}): pip install 'eigenfeatures[cpu]'"
        ) from error


def _choose_volume(links: Links) -> tuple[str, tuple[str, ...]]:
    """Return the name of the data set to read, and what a person should know of the choice."""
    path, linked = links.path, _external_links(links)
    names, refusals = _volumes(links, linked[:_MOST_FOLLOWED])
    left = max(0, len(linked) - _MOST_FOLLOWED)
    if len(names) == 1 and not left:
        return names[0], ()
    with suppress(Exception):  # the attributes are a hint, and needn't be sound
        default = _nexus_default(links)
        if default and is_volume(shape_of(path, links.data_set(default).node, links.h5py)):
            return default, (
                f"{path}: of several volumes, /{shown(default)} is read, which the file has as default",
            )
    held = ", ".join(f"/{shown(name)}" for name in names[:8]) + (", …" if len(names) > 8 else "")
    example = f"{path}:/{shown(names[0]) if names else '…'}"
    if left:
        raise InputError(
            f"{path}: has {len(linked)} links to other files and {_MOST_FOLLOWED} are followed to look for "
            f"volumes (found so far: {held or 'none'}); name the one to read: {example}"
        )
    if names:
        raise InputError(f"{path}: holds the volumes {held}; name one: {example}")
    if refusals:
        raise refusals[0]
    raise InputError(f"{path}: holds no data set of three dimensions; name the one to read: {example}")


def _volumes(links: Links, linked: list[str]) -> tuple[list[str], list[InputError]]:
    """Name the volumes among what the file holds and what some links lead to, and say what can't be read."""
    path, h5py = links.path, links.h5py
    axes: dict[str, int] = {}
    seen: set[Any] = set()
    refusals: list[InputError] = []

    def collect(name: str, *, leads_on: bool = False) -> None:
        try:
            data = links.data_set(name).node if leads_on else links.file[encoded(name)]
            if not isinstance(data, h5py.Dataset) or data in seen:
                return
            if is_volume(shape_of(f"{path}:/{shown(name)}", data, h5py)):
                seen.add(data)
                axes[name] = data.ndim
        except InputError as error:
            refusals.append(error)
        except Exception as error:  # of one that is damaged: it mustn't hide the others
            refusals.append(_unreadable(path, name, error))

    h5py.h5o.visit(links.file.id, lambda name: collect(decoded(name)))  # follows no link
    for name in linked:
        collect(name, leads_on=True)
    # Others have further axes, of length 1.
    return [name for name in axes if axes[name] == 3] or list(axes), refusals


def _external_links(links: Links) -> list[str]:
    """Name the links to other files, in the groups of the file itself."""
    names: list[str] = []

    def collect(name: bytes, link: Any) -> None:
        if link.type == links.h5py.h5l.TYPE_EXTERNAL:
            names.append(decoded(name))

    links.file.id.links.visit(collect, info=True)
    return names


def _nexus_default(links: Links) -> str:
    """Follow the attribute `default` from group to group, and then `signal`; "" where there is none.

    A file may leave out that of the root where it has one entry.
    """
    steps: list[str] = []
    for _ in range(_MOST_STEPS):
        node = links.find("/".join(steps)).node
        step = _text(node, "default") or (_only_entry(node, links.h5py) if node == links.file else "")
        if not step:
            signal = _text(node, "signal")
            return "/".join(_joined(steps, signal)) if signal else ""
        steps = _joined(steps, step)
    return ""


def _joined(steps: list[str], step: str) -> list[str]:
    """Follow a path from a group on, or from the root where it begins with a slash."""
    return split(step) if step.startswith("/") else steps + split(step)


def _only_entry(file: Any, h5py: Any) -> str:
    own = [name for name in file.id if file.id.links.get_info(name).type == h5py.h5l.TYPE_HARD]
    entries = [name for name in own if _text(file[name], "NX_class") == "NXentry"]
    return decoded(entries[0]) if len(entries) == 1 else ""


def _text(node: Any, attribute: str) -> str:
    found = node.attrs.get(attribute, "")
    found = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
    found = decoded(found) if isinstance(found, bytes) else found
    return found if isinstance(found, str) else ""


def _element_size(where: Path, data: Any) -> tuple[VoxelSize | None, tuple[str, ...]]:
    """Read the attribute that ImageJ's and ilastik's HDF5 writers set, and what is wrong with it."""
    try:
        stated = data.attrs.get("element_size_um")
    except (TypeError, ValueError, OSError):
        stated = "no numbers"
    if stated is None:
        return None, ()
    size = None
    with suppress(TypeError, ValueError):
        size = VoxelSize.of([float(edge) for edge in np.ravel(stated)])
    return size, () if size else (f"{where}: {impossible(f'element_size_um {stated}')}",)
