"""Classify the slices of samples with an exported model."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.facts import ModelFacts


def check_samples(facts: ModelFacts, samples: SampleSet) -> None:
    """Raise `InputError` unless the samples have the model's classes, slice size and dtype."""
    if samples.classes != facts.classes:
        raise InputError(
            f"{samples.root} holds the samples {', '.join(samples.classes)}, but the model was "
            f"made for {', '.join(facts.classes)}; use the samples that it was trained on or train a model"
        )
    if facts.window is not None and samples.size != facts.window:
        raise InputError(
            f"{samples.root} gives slices of {samples.size[0]}×{samples.size[1]} pixels, but the model "
            f"was made for {facts.window[0]}×{facts.window[1]}; give stacks of that size"
        )
    facts.check_slices(str(samples.root), *samples.size, samples.dtype)


def classify(
    engine: Engine, samples: SampleSet, indices: NDArray[np.int64], batch: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the class probabilities of slices, `batch` slices at a time."""
    parts = (samples.read(indices[start : start + batch]) for start in range(0, len(indices), batch))
    for found in engine.run(parts):
        yield found["probabilities"]
