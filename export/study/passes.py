"""The measurements of a study, each kept in a file until what it was made from changes."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.study.chunks import StudiedNetwork, chunk_count, chunks
from eigenfeatures.eigen.study.described import describe_samples
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measurement import Measured, measure
from eigenfeatures.eigen.study.stored import Arrays, load_arrays, save_arrays
from eigenfeatures.export.study.subjects import Subject
from eigenfeatures.export.talk import Talk
from eigenfeatures.kernels import Operator

# Raised when what is measured changes its meaning, so that older files are not taken for it.
_FORMAT = 3


@dataclass(frozen=True)
class Passes:
    """Measures networks on the slices of a study.

    Attributes
    ----------
    samples : SampleSet
        The stacks.
    inputs : dict
        File name to SHA-256, as in ``run.toml``.
    folder : Path
        Where measurements are kept.
    view : View
        What is looked at unless a pass says otherwise.
    operator : str
        Of the gradient images.
    device : torch.device
        Where networks run.
    talk : Talk
        Shows progress.
    """

    samples: SampleSet
    inputs: dict[str, str]
    folder: Path
    view: View
    operator: Operator
    device: torch.device
    talk: Talk

    def compare(
        self,
        name: str,
        subjects: Sequence[Subject],
        pairs: NDArray[np.int64],
        *,
        every: int = 1,
        **view: object,
    ) -> Measured:
        """Compare networks; `view` changes fields of the study's view.

        Returns
        -------
        Measured
        """
        looked = replace(self.view, **view)  # type: ignore[arg-type]

        def fresh() -> Arrays:
            return measure(
                self.load(subjects, looked.layer),
                pairs,
                self.samples,
                looked,
                self.operator,
                device=self.device,
                every=every,
                description=f"comparing: {name}",
                track=self.talk.track,
            ).arrays()

        facts = [[s.name, s.key] for s in subjects], pairs.tolist(), every, asdict(looked)
        return Measured.from_arrays(self._kept(name, facts, fresh))

    def describe(self, name: str, subjects: Sequence[Subject]) -> Arrays:
        """Describe the maps of networks, the gradient images and the raw slices; see `describe_samples`."""

        def fresh() -> Arrays:
            networks = self.load(subjects, self.view.layer)
            view = replace(self.view, rank=1)
            parts = chunks(networks, self.samples, view, self.operator, self.device)
            shown = self.talk.track(parts, f"describing: {name}", chunk_count(self.samples))
            return describe_samples(shown, [entry.name for entry in networks])

        facts = [[s.name, s.key] for s in subjects], asdict(self.view)
        return self._kept(name, facts, fresh)

    def load(self, subjects: Sequence[Subject], layer: str) -> list[StudiedNetwork]:
        """Load networks up to a layer, onto the device."""
        return [
            replace(loaded, name=subject.name, network=loaded.network.to(self.device))
            for subject in subjects
            for loaded in [subject.load(layer)]
        ]

    def _kept(self, name: str, facts: object, fresh: Callable[[], Arrays]) -> Arrays:
        text = json.dumps([_FORMAT, self.inputs, self.operator, facts], sort_keys=True)
        name = re.sub(r"[^\w]+", "-", name)
        path = self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if path.is_file():
            return load_arrays(path)
        # Many small products: threads of BLAS would wait for each other longer than they compute.
        with threadpool_limits(1, "blas"):
            arrays = fresh()
        for older in self.folder.glob(f"{name}-{'[0-9a-f]' * 16}.npz"):
            older.unlink()
        save_arrays(path, arrays)
        return arrays
