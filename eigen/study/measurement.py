"""One pass over all slices that compares every run with every other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.progress import Track, silent
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.study.chunks import StudiedNetwork, chunk_count, chunks
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measures import Rows, pair_measures, run_measures
from eigenfeatures.eigen.study.stored import Arrays
from eigenfeatures.kernels import Operator


@dataclass(frozen=True)
class Measured:
    """Every number of a pass.

    Attributes
    ----------
    runs : tuple of str
        Their names.
    pairs : ndarray of int, shape (pairs, 2)
        Positions in `runs`.
    slices : ndarray of int, shape (slices,)
        Indices into the samples.
    of_pairs, of_runs : dict
        Name of a measure to ``(pairs, slices)`` or ``(runs, slices)``, float64, NaN where
        undefined; see `pair_measures` and `run_measures`.
    """

    runs: tuple[str, ...]
    pairs: NDArray[np.int64]
    slices: NDArray[np.int64]
    of_pairs: Rows
    of_runs: Rows

    def arrays(self) -> Arrays:
        """Return all by name, as `from_arrays` takes it."""
        return {
            "runs": np.array(self.runs),
            "pairs": self.pairs,
            "slices": self.slices,
            **{f"of_pairs/{name}": values for name, values in self.of_pairs.items()},
            **{f"of_runs/{name}": values for name, values in self.of_runs.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Measured":
        """Undo `arrays`."""
        rows: dict[str, Rows] = {"of_pairs": {}, "of_runs": {}}
        for key, values in arrays.items():
            part, _, name = key.partition("/")
            if name:
                rows[part][name] = values
        return cls(tuple(map(str, arrays["runs"])), arrays["pairs"], arrays["slices"], **rows)


def all_pairs(runs: int) -> NDArray[np.int64]:
    """Return every pair of different runs, ``(pairs, 2)``."""
    return np.array(list(combinations(range(runs), 2)), np.int64).reshape(-1, 2)


def measure(
    networks: Sequence[StudiedNetwork],
    pairs: NDArray[np.int64],
    samples: SampleSet,
    view: View,
    operator: Operator,
    *,
    device: torch.device,
    every: int = 1,
    description: str = "comparing",
    track: Track = silent,
) -> Measured:
    """Measure runs and pairs of runs on all slices, a few in memory at a time.

    Parameters
    ----------
    networks, samples, view, operator, device, every
        As for `chunks`.
    pairs
        Which networks to compare, ``(pairs, 2)``.
    description, track
        What to show as progress.

    Returns
    -------
    Measured
    """
    slices, of_pairs, of_runs = [], [], []
    parts = chunks(networks, samples, view, operator, device, every)
    for chunk in track(parts, description, chunk_count(samples, every)):
        slices.append(chunk.indices)
        of_pairs.append(pair_measures(chunk, pairs))
        of_runs.append(run_measures(chunk))
    names = tuple(entry.name for entry in networks)
    return Measured(names, pairs, np.concatenate(slices), _joined(of_pairs), _joined(of_runs))


def _joined(parts: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
