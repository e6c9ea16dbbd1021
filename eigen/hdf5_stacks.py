"""Data sets of HDF5 and NeXus files as stacks."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.array_stacks import Selection, is_volume
from eigenfeatures.eigen.chunked_stacks import ChunkedStack, check_chunk
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Stack, one_line
from eigenfeatures.eigen.voxel_size import VoxelSize

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_LINKS = 100  # on one path; more of them go round in circles


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its name or its first bytes."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        return path.suffix.lower() in HDF5_SUFFIXES or file.read(len(_SIGNATURE)) == _SIGNATURE
    return False


def open_hdf5(path: Path, name: str = "", axis: int = 0) -> Stack:
    """Open a data set as a stack, without reading its values.

    Nothing outside of the file is ever opened: external links, external
    storage and virtual data sets are refused.

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
        axis 1 or 2 reading takes the memory of its result twice.

    Raises
    ------
    InputError
        The file is damaged, the data set isn't in it, or it is no greyscale
        volume.
    """
    h5py = _import_h5py(path)
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise InputError(
            f"{path}: isn't an HDF5 file that can be read ({one_line(error)}); copy or export it again"
        ) from error
    try:
        name, notes = (name.strip("/"), ()) if name.strip("/") else _choose_volume(path, file, h5py)
        stack = _Hdf5Stack(path, file, _data_set(path, file, name, h5py), name, axis)
        stack.notes = notes
        return stack
    except InputError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise InputError(f"{path}:/{name}: can't be read ({one_line(error)}); export it again") from error


def _import_h5py(path: Path) -> Any:
    with suppress(ImportError):
        import_module("hdf5plugin")  # registers more codecs
    try:
        return import_module("h5py")
    except ImportError as error:
        raise InputError(
            f"{path}: reading HDF5 needs more packages ({error}): pip install 'eigenfeatures[cpu]'"
        ) from error


def _choose_volume(path: Path, file: Any, h5py: Any) -> tuple[str, tuple[str, ...]]:
    """Return the name of the data set to read, and what a person should know of the choice."""
    volumes: dict[str, int] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and is_volume(item.shape or ()):
            volumes[name] = item.ndim

    file.visititems(collect)  # follows no link
    plain = [name for name, axes in volumes.items() if axes == 3]
    names = plain or list(volumes)  # others have further axes, of length 1
    if len(names) == 1:
        return names[0], ()
    with suppress(Exception):  # the attributes are a hint, and needn't be sound
        default = _nexus_default(path, file, h5py)
        if default and is_volume(_data_set(path, file, default, h5py).shape or ()):
            return default, (
                f"{path}: of several volumes, /{default} is read, which the file has as default",
            )
    if not names:
        raise InputError(f"{path}: {_no_volume(path, file, h5py)}")
    held = ", ".join(f"/{name}" for name in names[:8]) + (", …" if len(names) > 8 else "")
    raise InputError(f"{path}: holds the volumes {held}; name one: {path}:/{names[0]}")


def _nexus_default(path: Path, file: Any, h5py: Any) -> str:
    """Follow the attribute `default` from group to group, and then `signal`; "" where there is none.

    A file may leave out that of the root where it has one entry.
    """
    steps: list[str] = []
    for _ in range(_MOST_LINKS):
        node = _resolve(path, file, "/".join(steps), h5py)
        step = _text(node, "default") or (_only_entry(node, h5py) if node == file else "")
        if not step:
            signal = _text(node, "signal")
            return "/".join(_joined(steps, signal)) if signal else ""
        steps = _joined(steps, step)
    return ""


def _joined(steps: list[str], step: str) -> list[str]:
    """Follow a path from a group on, or from the root where it begins with a slash."""
    return _steps(step) if step.startswith("/") else steps + _steps(step)


def _only_entry(file: Any, h5py: Any) -> str:
    groups = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    entries = [name for name in groups if _text(file[name], "NX_class") == "NXentry"]
    return entries[0] if len(entries) == 1 else ""


def _text(node: Any, attribute: str) -> str:
    found = node.attrs.get(attribute, "")
    found = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
    found = found.decode(errors="replace") if isinstance(found, bytes) else found
    return found if isinstance(found, str) else ""


def _no_volume(path: Path, file: Any, h5py: Any) -> str:
    """Say why a file has no volume: perhaps since it only leads to others."""
    links: list[str] = []

    def collect(name: bytes, link: Any) -> None:
        if link.type == h5py.h5l.TYPE_EXTERNAL:
            links.append(f"/{name.decode(errors='replace')}")

    file.id.links.visit(collect, info=True)
    if links:
        held = ", ".join(links[:8]) + (", …" if len(links) > 8 else "")
        return f"holds links to other files ({held}), which aren't followed for safety; open those files"
    return f"holds no data set of three dimensions; name the one to read: {path}:/…"


def _data_set(path: Path, file: Any, name: str, h5py: Any) -> Any:
    """Return the data set of this name."""
    node = _resolve(path, file, name, h5py)
    if not isinstance(node, h5py.Dataset):
        held = ", ".join(list(node)[:8]) or "nothing"
        raise InputError(f"{path}:/{name}: is no data set but a group of {held}; name a data set")
    return node


def _resolve(path: Path, file: Any, name: str, h5py: Any) -> Any:
    """Return the group or data set of this name; a link may lead through the file, not out of it."""
    where = f"{path}:/{name}"
    node, steps, links = file, _steps(name), 0
    while steps:
        step = steps.pop(0)
        link = node.get(step, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            held = ", ".join(list(node)[:8]) if isinstance(node, h5py.Group) else "no members"
            said = f"a link in it leads to '{step}', which is not there" if links else "is not in the file"
            raise InputError(f"{where}: {said}; {node.name} has {held or 'no members'}")
        if isinstance(link, h5py.SoftLink):
            links += 1
            node = file if link.path.startswith("/") else node
            steps = _steps(link.path) + steps
        elif isinstance(link, h5py.HardLink):
            node = node[step]
        else:
            raise InputError(
                f"{where}: leads to another file, which isn't followed for safety; open that file itself"
            )
        if links > _MOST_LINKS:
            raise InputError(f"{where}: its links go round in circles; name the data set itself")
    return node


def _steps(name: str) -> list[str]:
    return [step for step in name.split("/") if step not in ("", ".")]


class _Hdf5Stack(ChunkedStack):
    """One data set of a file, which stays open."""

    def __init__(self, path: Path, file: Any, data: Any, name: str, axis: int) -> None:
        source = Path(f"{path}:/{name}")
        if data.external or data.is_virtual:
            raise InputError(
                f"{source}: keeps its values in other places, which aren't followed for safety; "
                "open the file that has them, or write them into one data set"
            )
        shape = data.shape or ()
        dtype = np.dtype(data.dtype.str)  # without the metadata that h5py adds
        if data.chunks:
            check_chunk(source, data.chunks, dtype)
        super().__init__(
            source,
            [path],
            shape,
            dtype,
            _element_size(data),
            axis,
            chunks=data.chunks or shape,
        )
        self._file = file
        self._data = data

    def _release(self) -> None:
        self._file.close()

    def _fetch(self, selection: Selection, out: NDArray[Any]) -> None:
        if out.flags.c_contiguous:
            self._data.read_direct(out, selection)
        else:
            out[...] = self._data[selection]

    def _is_stored(self, chunk: tuple[int, ...]) -> bool:
        if self._data.chunks is None:
            return bool(self._data.id.get_storage_size())
        corner = tuple(number * size for number, size in zip(chunk, self._chunks, strict=True))
        return self._data.id.get_chunk_info_by_coord(corner).byte_offset is not None


def _element_size(data: Any) -> VoxelSize | None:
    """Read the attribute that ImageJ's and ilastik's HDF5 writers set."""
    try:
        return VoxelSize.of([float(edge) for edge in np.ravel(data.attrs["element_size_um"])])
    except (KeyError, TypeError, ValueError, OSError):
        return None
