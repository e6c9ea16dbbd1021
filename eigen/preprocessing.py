"""From raw slices to what the network sees (section 2.2.2 and 2.3): standardised |∇Y|."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.progress import Track, silent
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.kernels import (
    OPERATORS,
    Operator,
    SliceStatistics,
    slice_statistics,
    standardized_gradient,
)

NORMALISATIONS = ("slice", "dataset")

_BLOCK = 32


@dataclass(frozen=True)
class Preprocessing:
    """How a raw slice becomes the input of a network.

    Attributes
    ----------
    operator : str
        Of the gradient, one of `eigenfeatures.kernels.OPERATORS`.
    mean, deviation : float or None
        Of |∇Y| over the training slices; None standardises each slice by its own.
    """

    operator: Operator = "sobel"
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.deviation is None):
            raise InputError("mean and deviation go together: give both or neither")

    def __call__(self, slices: NDArray[Any]) -> NDArray[np.float32]:
        """Standardise raw slices ``(..., H, W)`` of any supported dtype; float32, same shape."""
        return standardized_gradient(slices, self.operator, mean=self.mean, deviation=self.deviation).astype(
            np.float32, copy=False
        )


def operator_named(name: str) -> Operator:
    """Return a gradient operator by its name.

    Raises
    ------
    InputError
        For an unknown one.
    """
    for operator in OPERATORS:
        if operator == name:
            return operator
    raise InputError(f"operator '{name}' is unknown; choose one of {', '.join(OPERATORS)}")


def fit_preprocessing(
    operator: Operator, normalise: str, statistics: SliceStatistics, training: NDArray[np.bool_]
) -> Preprocessing:
    """Choose the constants of the standardisation.

    Parameters
    ----------
    operator
        Of the gradient.
    normalise
        ``slice``: each slice by its own mean and deviation, as in the paper.
        ``dataset``: all by those of the training slices, which keeps the contrast
        between samples that the per-slice form erases.
    statistics
        Of all slices, with arrays of shape ``(N,)``.
    training
        Which slices may be learned from, ``(N,)``.

    Returns
    -------
    Preprocessing

    Raises
    ------
    InputError
        For an unknown normalisation, or training slices that are all constant.
    """
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise '{normalise}' is unknown; choose one of {', '.join(NORMALISATIONS)}")
    if normalise == "slice":
        return Preprocessing(operator)
    means = statistics.mean_gradient[training]
    mean = float(means.mean())
    # Slices have one size, so that their second moments pool with equal weights.
    second_moment = float((statistics.deviation_gradient[training] ** 2 + means**2).mean())
    deviation = float(np.sqrt(max(second_moment - mean**2, 0.0)))
    if deviation == 0.0:
        raise InputError(
            "every training slice is constant, so that normalise 'dataset' has nothing to divide by"
        )
    return Preprocessing(operator, mean, deviation)


def most_typical(samples: SampleSet, mean_gradient: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each sample the slice whose mean |∇Y| ``(slices,)`` is nearest to the sample's median."""
    found = []
    for label in range(len(samples.classes)):
        members = np.flatnonzero(samples.label == label)
        distance = np.abs(mean_gradient[members] - np.median(mean_gradient[members]))
        found.append(members[np.argmin(distance)])
    return np.array(found)


def sample_statistics(samples: SampleSet, operator: Operator, track: Track = silent) -> SliceStatistics:
    """Compute the statistics of Fig. 3 for every slice, a few slices in memory at a time."""
    starts = range(0, len(samples), _BLOCK)
    blocks = [
        slice_statistics(samples.read(np.arange(first, min(first + _BLOCK, len(samples)))), operator)
        for first in track(starts, "statistics", len(starts))
    ]
    return SliceStatistics(*(np.concatenate(values) for values in zip(*blocks, strict=True)))
