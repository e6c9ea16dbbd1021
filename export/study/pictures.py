"""What the features look like: a typical slice of each sample as every seed sees it (Fig. 11 and 13)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import Placement, seed_panel
from eigenfeatures.eigen.study.chunks import KINDS, Chunk, look_at
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Part, exhibit
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import StudyRun

_MOST_SEEDS = 5
_CAPTIONS = {"u1": "seeds_eigenfeatures", "alpha": "seeds_strongest_channels"}


def pictures_part(study: OpenStudy) -> Part:
    """Draw u₁ and α of a typical slice of each sample, a column a seed, a figure a network."""
    typical = typical_slices(study)
    exhibits = []
    for name, runs in study.core.items():
        chunk = _look(study, runs[:_MOST_SEEDS], typical)
        placement = Placement(chunk.grids[0].offset, chunk.grids[0].stride)
        for kind in KINDS:
            columns = {
                f"seed {run.settings.seed}": list(chunk.map(number, kind, chunk.grids[number]))
                for number, run in enumerate(runs[:_MOST_SEEDS])
            }
            title = f"{SYMBOLS[kind]} at {study.passes.view.layer}, network {name}"
            gradients = list(chunk.gradients[:, 0])
            figure = seed_panel(columns, gradients, study.samples.classes, title, _pixel(study), placement)
            made = exhibit(_CAPTIONS[kind], figure)
            exhibits.append(replace(made, name=f"{made.name}_{name}", title=f"{made.title}: {name}"))
    finding = (
        "For each sample, the slice whose mean |∇Y| is nearest to the sample's median, as up to "
        f"{_MOST_SEEDS} runs of each network see it. Each map is at unit root mean square."
    )
    return Part([finding] if exhibits else [], exhibits)


def _look(study: OpenStudy, runs: Sequence[StudyRun], slices: NDArray[np.int64]) -> Chunk:
    passes = study.passes
    networks = passes.load([run.trained for run in runs], passes.view.layer)
    return look_at(networks, study.samples, slices, passes.view, passes.operator, passes.device)


def _pixel(study: OpenStudy) -> tuple[float, float] | None:
    edge, voxel = study.base.voxel_size, study.samples.voxel_size
    if edge is not None:
        return edge, edge
    return None if voxel is None else (voxel.y, voxel.x)


def typical_slices(study: OpenStudy) -> NDArray[np.int64]:
    """Return for each sample the slice whose mean |∇Y| is nearest to the sample's median."""
    gradient = study.statistics.mean_gradient
    found = []
    for label in range(len(study.samples.classes)):
        members = np.flatnonzero(study.samples.label == label)
        distance = np.abs(gradient[members] - np.median(gradient[members]))
        found.append(members[np.argmin(distance)])
    return np.array(found)
