"""How well slices are told apart: accuracy, precision, recall and the confusion matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def classification_metrics(
    label: NDArray[np.int64], predicted: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Compare predictions with the truth.

    Parameters
    ----------
    label, predicted
        Class numbers of the slices, ``(N,)``.
    classes
        Names of the classes.

    Returns
    -------
    dict
        ``slices``, ``accuracy``, ``per_class`` (precision, recall and number of
        slices; None where nothing was predicted or present) and ``confusion``,
        whose rows are the truth and whose columns are the prediction.
    """
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (label, predicted), 1)
    right, present, claimed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    per_class = {
        name: {
            "precision": _ratio(right[k], claimed[k]),
            "recall": _ratio(right[k], present[k]),
            "slices": int(present[k]),
        }
        for k, name in enumerate(classes)
    }
    return {
        "slices": len(label),
        "accuracy": _ratio(right.sum(), len(label)),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def unrecognised(metrics: dict[str, Any]) -> list[str]:
    """Return the classes of which more slices were taken for others than were recognised."""
    return [
        name
        for name, values in metrics["per_class"].items()
        if values["recall"] is not None and values["recall"] < 0.5
    ]


def _ratio(part: np.int64, whole: np.int64 | int) -> float | None:
    return float(part / whole) if whole else None
