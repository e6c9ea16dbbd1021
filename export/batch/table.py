"""The table of a job: one row a slice, from the columns that the blocks hold."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.files import atomic_path
from eigenfeatures.eigen.reliability import ILL_DETERMINED_RATIO
from eigenfeatures.export.tables import format_cell
from eigenfeatures.kernels import SliceStatistics

# The sine of the angle between u₁ and the true one that a graph's fixed number of steps promises to reach.
# It is at most residual / (1 - gap²), with the residual relative to σ₁.
UNCERTAIN_ANGLE = 1e-4

# Residuals below it may be rounding; float32, float16 and int8 graphs show up to 8e-7 on CT. Only where u₁ is
# ill-determined anyway does the angle ask for less.
ROUNDING = 2e-6

# Below this gradient, float32 loses digits of its square, and in the end the whole of it.
FAINT_GRADIENT = float(np.sqrt(np.finfo(np.float32).smallest_normal))

_STATISTICS = ("mean", "deviation", "mean_gradient", "total_variation")
_NUMBERED = {"probabilities": "probability_", "logits": "logit_"}
_PLAIN = ("alpha_index", "alpha_maximum", "alpha_mean", "gap", "residual")

Arrays = Mapping[str, NDArray[Any]]


def statistics_columns(statistics: SliceStatistics) -> dict[str, NDArray[Any]]:
    """Return those of the statistics that the table shows, by name."""
    return {name: getattr(statistics, name) for name in _STATISTICS}


def is_volume(array: NDArray[Any]) -> bool:
    """Tell maps, which make a volume, from numbers, which make columns."""
    return array.ndim == 4


def split_volumes(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the maps among arrays, and the others."""
    maps = {name: array for name, array in arrays.items() if is_volume(array)}
    return maps, {name: array for name, array in arrays.items() if name not in maps}


def columns(stack: str, arrays: Arrays, classes: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Turn the arrays of one block into columns, in a fixed order.

    Parameters
    ----------
    stack
        Its name.
    arrays
        ``slice``, ``filled``, the statistics, and the outputs of an engine, each ``(slices, …)``.
    classes
        Names in the order of the probabilities.
    """
    found: dict[str, Sequence[Any]] = {
        "stack": [stack] * len(arrays["slice"]),
        "slice": list(arrays["slice"]),
    }
    scores = arrays.get("probabilities", arrays.get("logits"))
    if scores is not None:
        # Of scores that overflowed none is the largest.
        found["predicted"] = [classes[row.argmax()] if np.isfinite(row).all() else "" for row in scores]
    if "probabilities" in arrays:
        found["probability"] = list(arrays["probabilities"].max(1))
    for output, prefix in _NUMBERED.items():
        if output in arrays:
            found |= {f"{prefix}{name}": list(arrays[output][:, k]) for k, name in enumerate(classes)}
    found |= {name: list(arrays[name]) for name in _STATISTICS}
    if "singular_values" in arrays:
        values = arrays["singular_values"]
        found |= {f"sigma{k + 1}": list(values[:, k]) for k in range(values.shape[1])}
    found |= {name: list(arrays[name]) for name in _PLAIN if name in arrays}
    found["flag"] = flags(arrays)
    return found


def flags(arrays: Arrays) -> list[str]:
    """Return for each slice what is to be known before its numbers are trusted, joined by ``;``.

    ``constant`` (one grey value), ``faint`` (values so close that float32 can't hold the squares of their
    differences, so that the network sees others), ``zero`` (no response at all), ``ill-determined``
    (σ₂/σ₁ so near 1 that u₁ may be any mixture), ``uncertain`` (the SVD's residual allows u₁ an angle above
    10⁻⁴; where the gap isn't known, the residual itself is above that), ``invalid`` (a number overflowed),
    ``filled`` (some of its data are missing, and fill values stand in for them).
    """
    slices = len(arrays["slice"])
    numbers = [array.reshape(slices, -1) for array in arrays.values() if array.dtype.kind == "f"]
    marks = {
        "constant": arrays["deviation"] == 0,
        "faint": (arrays["deviation"] > 0) & (arrays["mean_gradient"] < FAINT_GRADIENT),
        "zero": arrays["singular_values"][:, 0] == 0 if "singular_values" in arrays else False,
        "ill-determined": arrays["gap"] > ILL_DETERMINED_RATIO if "gap" in arrays else False,
        "uncertain": arrays["residual"] > _largest_residual(arrays) if "residual" in arrays else False,
        "invalid": ~np.all([np.isfinite(values).all(1) for values in numbers], axis=0),
        "filled": arrays["filled"],
    }
    held = {name: np.broadcast_to(mark, slices) for name, mark in marks.items()}
    return [";".join(name for name, mark in held.items() if mark[k]) for k in range(slices)]


def _largest_residual(arrays: Arrays) -> NDArray[np.float64] | float:
    """Return up to which residual u₁ is as good as promised, by slice where the gap is known."""
    if "gap" not in arrays:
        return UNCERTAIN_ANGLE
    gap = np.where(np.isfinite(arrays["gap"]), arrays["gap"], 0).astype(np.float64)
    return np.maximum(UNCERTAIN_ANGLE * (1 - gap**2), ROUNDING)


def write_blocks(path: Path, blocks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
    """Write the columns of one block after the other into one CSV; no more than one is held."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, block in enumerate(blocks):
            if number == 0:
                writer.writerow(block)
            writer.writerows(
                [format_cell(value) for value in row] for row in zip(*block.values(), strict=True)
            )


def holds_rows(path: Path, expected: Iterable[tuple[str, int]]) -> bool:
    """Tell whether a table has just the rows of these stacks and slices, each to its end."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            found = ((row["stack"], row["slice"]) if _is_full(row) else None for row in rows)
            same = all(a == b for a, b in zip_longest(found, ((name, str(k)) for name, k in expected)))
        # The last cell may be empty, so that nothing but the end of its line tells that it is whole.
        return same and _last_byte(path) == b"\n"
    except (OSError, ValueError, KeyError, csv.Error):
        return False


def _is_full(row: Mapping[Any, Any]) -> bool:
    """Tell a row of as many cells as the header has."""
    return None not in row and None not in row.values()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()
