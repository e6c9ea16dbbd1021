"""CSV tables of a run: columns by name, written whole, the same bytes for the same numbers."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import write_text

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


def write_table(path: Path, columns: Columns) -> None:
    """Write columns of one length; numbers to nine digits, which tells float32 values apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([format_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    write_text(path, text.getvalue())


def read_table(path: Path) -> dict[str, list[str]]:
    """Read a table that `write_table` wrote; cells are text.

    Raises
    ------
    InputError
        When it is missing or its rows have different lengths.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; run the step that writes it first")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        return {name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True)}
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is not a table of this project; run the step that writes it again"
        ) from error


def numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Turn the cells of a column into numbers, empty ones into NaN."""
    return np.array([float(cell) if cell else np.nan for cell in cells])


def format_cell(value: Any) -> str:
    """Write a value to nine digits, which tells float32 values apart; None and NaN are empty."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.9g}"
    return str(value)
