"""Arrays by name in one file, so that a study that goes on need not measure again."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays of numbers and text into an ``.npz``, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> Arrays:
    """Read what `save_arrays` wrote.

    Raises
    ------
    InputError
        When it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if not all(isinstance(values, np.ndarray) for values in arrays.values()):
            raise TypeError("a member is no array")  # NumPy gives its bytes
    except Exception as error:  # what a damaged file raises is NumPy's, zipfile's or zlib's
        raise InputError(f"{path} holds no measurements of a study; delete it") from error
    return arrays
