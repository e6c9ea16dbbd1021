"""What a reader must know of a run's accuracy, in the terminal and in the report."""

from typing import Any

from eigenfeatures.eigen.likeness import LARGEST_LIKENESS


def remarks(metrics: dict[str, Any]) -> list[str]:
    """Return remarks on what ``metrics.json`` holds."""
    return [
        f"sample '{name}': validation slices correlate by {value:.2f} with the most alike training slice of "
        "their stack, so accuracy may rest on likeness"
        for name, value in metrics.get("likeness", {}).items()  # earlier versions wrote none
        if value is not None and value > LARGEST_LIKENESS
    ]
