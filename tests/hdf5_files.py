"""HDF5 files that lead to others, for tests of the readers."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from random_volumes import random_images

SHAPE = (9, 12, 10)
VOLUME = random_images(np.uint16, SHAPE)


def write(path: Path, data: np.ndarray = VOLUME, name: str = "entry/data", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=data, **options)
    return path


def link(path: Path, target: str | Path, inside: str = "/entry/data", name: str = "entry/data") -> Path:
    """Make a link in a file, which may be there."""
    with h5py.File(path, "a") as file:
        file[name] = h5py.ExternalLink(str(target), inside)
    return path


Part = tuple[str, Any, Any]


def virtual(
    path: Path, parts: list[Part], name: str = "entry/data", shape: tuple[int, ...] = SHAPE, **options: Any
) -> Path:
    """Make a virtual data set of parts: a file's name, the place, and what of its data set, None for all."""
    dtype = options.pop("dtype", np.uint16)
    source_shape = options.pop("source_shape", SHAPE)
    layout = h5py.VirtualLayout(shape, dtype)
    for target, place, part in parts:
        source = h5py.VirtualSource(target, "entry/data", source_shape)
        layout[place] = source if part is None else source[part]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout, **options)
    return path


def one_after_another(folder: Path) -> Path:
    """As of a reconstruction that was written in pieces."""
    for number, first in enumerate((0, 4, 8)):
        write(folder / "pieces" / f"{number}.h5", VOLUME[first : first + 4], chunks=True)
    parts = [(f"pieces/{n}.h5", slice(4 * n, min(4 * n + 4, 9)), slice(None)) for n in range(3)]
    layout = h5py.VirtualLayout(SHAPE, np.uint16)
    for target, place, _ in parts:
        layout[place] = h5py.VirtualSource(target, "entry/data", VOLUME[place].shape)
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("entry/data", layout)
    return folder / "v.h5"
