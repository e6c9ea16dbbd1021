"""How alike held-out slices are to those that are learned from: the leak of a split, measured."""

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import TRAIN, VALIDATION, slices_by_source
from eigenfeatures.kernels import standardized_gradient

# Of white noise blurred by up to 4 pixels, in slices of 128² or more, the largest of 150 correlations is 0.12
# at most; finer structure and larger slices give less, while 40² under the widest blur gives 0.38.
LARGEST_LIKENESS = 0.2

_COMPARED_SLICES = 8
_BLOCK = 8


def likeness(samples: SampleSet, split: NDArray[np.str_]) -> dict[str, float | None]:
    """Return how far validation slices resemble the training slices of their own stack.

    Parameters
    ----------
    samples
        The stacks.
    split
        ``train``, ``validation`` or ``guard`` for every slice.

    Returns
    -------
    dict
        Sample to the correlation of standardised |∇Y| (Sobel) between a validation slice and the most
        alike training slice of its stack, as a mean over up to eight validation slices; to three
        digits. None where no stack has both.
    """
    found: dict[str, list[float]] = {name: [] for name in samples.classes}
    compared = _compared(samples, split)
    for (label, _), members in slices_by_source(samples).items():
        training = members[split[members] == TRAIN]
        held_out = np.intersect1d(members, compared)
        if len(training) and len(held_out):
            found[samples.classes[label]] += _most_alike(samples, held_out, training).tolist()
    return {name: round(float(np.mean(values)), 3) if values else None for name, values in found.items()}


def _compared(samples: SampleSet, split: NDArray[np.str_]) -> NDArray[np.int64]:
    """Choose validation slices of every sample, evenly spread."""
    chosen = []
    for label in range(len(samples.classes)):
        members = np.flatnonzero((samples.label == label) & (split == VALIDATION))
        count = min(len(members), _COMPARED_SLICES)
        chosen.append(members[np.linspace(0, len(members) - 1, count).astype(np.int64)])
    return np.concatenate(chosen)


def _most_alike(
    samples: SampleSet, held_out: NDArray[np.int64], training: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Return the largest correlation of each held-out slice, a few training slices in memory at a time."""
    here = standardized_gradient(samples.read(held_out)).reshape(len(held_out), -1)
    largest = np.full(len(held_out), -np.inf)
    for start in range(0, len(training), _BLOCK):
        block = samples.read(training[start : start + _BLOCK])
        there = standardized_gradient(block).reshape(len(block), -1)
        largest = np.maximum(largest, (here @ there.T).max(axis=1) / here.shape[1])
    return largest
