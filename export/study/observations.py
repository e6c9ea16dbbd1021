"""Every number of a pass as tidy tables: a row a pair of runs and slice, or a run and slice."""

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.measurement import Measured
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.tables import Columns


def pair_columns(study: OpenStudy, measured: Measured) -> Columns:
    """Return every number of every pair of runs and slice: a row each."""
    first, second = (np.array(measured.runs)[measured.pairs[:, side]] for side in (0, 1))
    count = len(measured.slices)
    return {
        "first": np.repeat(first, count),
        "second": np.repeat(second, count),
        **_slices(study, measured.slices, len(measured.pairs)),
        **{name: values.ravel() for name, values in measured.of_pairs.items()},
    }


def run_columns(study: OpenStudy, measured: Measured) -> Columns:
    """Return every number of every run and slice: a row each."""
    return {
        "run": np.repeat(measured.runs, len(measured.slices)),
        **_slices(study, measured.slices, len(measured.runs)),
        **{name: values.ravel() for name, values in measured.of_runs.items()},
    }


def _slices(study: OpenStudy, slices: NDArray[np.int64], times: int) -> Columns:
    samples = study.samples
    specimens = np.array([specimen.name for specimen in samples.specimens])
    return {
        "sample": np.tile(np.array(samples.classes)[samples.label[slices]], times),
        "specimen": np.tile(specimens[samples.specimen_of[slices]], times),
        "slice": np.tile(samples.slice_of[slices], times),
        "part": np.tile(study.split[slices], times),
    }
