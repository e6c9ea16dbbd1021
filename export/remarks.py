"""What a reader must know of a run's accuracy, in the terminal and in the report."""

from typing import Any

from eigenfeatures.eigen.likeness import LARGEST_LIKENESS
from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.export.metrics import unrecognised

# Of the training slices; a network that recognises as many has little left to learn from them.
_LEARNED = 0.98


def remarks(metrics: dict[str, Any]) -> list[str]:
    """Return remarks on what ``metrics.json`` holds."""
    return [*_alike(metrics.get("likeness", {})), *_by_chance(metrics[VALIDATION]), *_missed(metrics)]


def _alike(likeness: dict[str, float | None]) -> list[str]:
    return [
        f"sample '{name}': validation slices correlate by {value:.2f} with the most alike training slice of "
        "their stack, so accuracy may rest on likeness"
        for name, value in likeness.items()
        if value is not None and value > LARGEST_LIKENESS
    ]


def _by_chance(validation: dict[str, Any]) -> list[str]:
    accuracy = validation["accuracy"]
    largest = max(values["slices"] for values in validation["per_class"].values()) / validation["slices"]
    if accuracy > largest:
        return []
    return [
        f"the validation accuracy of {accuracy:.1%} is not above the {largest:.1%} that always naming the "
        "largest sample gives, so it shows no difference between the samples"
    ]


def _missed(metrics: dict[str, Any]) -> list[str]:
    missed = unrecognised(metrics[VALIDATION])
    if not missed:
        return []
    advice = "" if metrics[TRAIN]["accuracy"] >= _LEARNED else "; more iterations may help"
    return [
        f"of {', '.join(missed)} less than half of the validation slices are recognised, so that their "
        f"eigenfeatures don't show what sets them apart{advice}"
    ]
