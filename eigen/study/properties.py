"""A table of what is known of the samples from elsewhere, such as their fracture toughness."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError

_SEPARATORS = ",;\t"


def read_properties(path: str | Path, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read one number a sample and property.

    Parameters
    ----------
    path : path
        A CSV file in UTF-8, separated by commas, semicolons or tabs: a header, then a row a sample.
        The first column names the sample; each other column is a property, named with its unit in
        its header. A blank cell means that the property of this sample isn't known.
    classes : sequence of str
        Names of the samples.

    Returns
    -------
    dict of ndarray, shape (samples,), float64
        By the property's name, in the order of the table; samples in the order of `classes`, NaN where blank.

    Raises
    ------
    InputError
        The file is missing or no such table, names a sample that isn't there, lacks one or names one
        twice, or a cell isn't a number.
    """
    path = Path(path)
    header, *rows = _rows(path)
    names = header[1:]
    for name, times in Counter(names).items():
        if not name or times > 1:
            what = f"is named '{name}' {times} times" if name else "has no name"
            raise InputError(f"{path}: a column {what}; give each property a name of its own")
    cells = _by_sample(path, rows, classes)
    return {
        name: np.array([_number(path, sample, name, cells[sample][column]) for sample in classes])
        for column, name in enumerate(names)
    }


def _rows(path: Path) -> list[list[str]]:
    """Split the file by the separator that makes a table of it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV file with a row a sample")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        for separator in _SEPARATORS:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
            if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
                return rows
    except UnicodeDecodeError:
        raise InputError(f"{path}: isn't text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: isn't a CSV file ({error}); save it as CSV in UTF-8") from error
    raise InputError(
        f"{path}: isn't a table of properties; write a header and a row a sample, each with the sample's "
        "name and then as many cells as there are properties, separated by commas, semicolons or tabs"
    )


def _by_sample(path: Path, rows: list[list[str]], classes: Sequence[str]) -> dict[str, list[str]]:
    cells: dict[str, list[str]] = {}
    for sample, *values in rows:
        if sample not in classes:
            raise InputError(
                f"{path}: sample '{sample}' is unknown; name the samples as they are: {', '.join(classes)}"
            )
        if sample in cells:
            raise InputError(f"{path}: sample '{sample}' has two rows; remove one")
        cells[sample] = values
    missing = [sample for sample in classes if sample not in cells]
    if missing:
        raise InputError(
            f"{path}: sample '{missing[0]}' has no row; add one, with blank cells where nothing is known"
        )
    return cells


def _number(path: Path, sample: str, name: str, cell: str) -> float:
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{path}: '{cell}' ({name} of {sample}) isn't a finite number; "
            "write one with a decimal point, or leave the cell blank"
        )
    return value
