"""What the features look like: a typical slice of each sample as every seed sees it (Fig. 11 and 13)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import seed_panel
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.maps import SliceMaps, slice_maps
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Part, exhibit
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.kernels import gradient_magnitude

_MOST_SEEDS = 5
_CAPTIONS = {"u1": "seeds_eigenfeatures", "alpha": "seeds_strongest_channels"}


def pictures_part(study: OpenStudy) -> Part:
    """Draw u₁ and α of a typical slice of each sample, a column a seed, a figure a network."""
    typical = typical_slices(study)
    slices = study.samples.read(typical)
    gradients = list(gradient_magnitude(slices, study.passes.operator))
    voxel = study.samples.voxel_size
    pixel = None if voxel is None else (voxel.y, voxel.x)
    if study.base.voxel_size is not None:
        pixel = (study.base.voxel_size, study.base.voxel_size)
    exhibits = []
    for name, runs in study.core.items():
        maps: dict[str, SliceMaps] = {}
        for run in runs[:_MOST_SEEDS]:
            loaded = run.trained.load(study.passes.view.layer)
            network = loaded.network.to(study.passes.device)
            maps[f"seed {run.settings.seed}"] = slice_maps(
                network, loaded.preprocessing, slices, study.passes.view, study.passes.device
            )
        for kind in KINDS:
            columns = {
                seed: list(found.u[:, 0] if kind == "u1" else found.alpha) for seed, found in maps.items()
            }
            title = f"{SYMBOLS[kind]} at {study.passes.view.layer}, network {name}"
            figure = seed_panel(columns, gradients, study.samples.classes, title, pixel)
            made = exhibit(_CAPTIONS[kind], figure)
            exhibits.append(replace(made, name=f"{made.name}_{name}", title=f"{made.title}: {name}"))
    finding = (
        "For each sample, the slice whose mean |∇Y| is nearest to the sample's median, as up to "
        f"{_MOST_SEEDS} runs of each network see it. Each map is at unit root mean square."
    )
    return Part([finding] if exhibits else [], exhibits)


def typical_slices(study: OpenStudy) -> NDArray[np.int64]:
    """Return for each sample the slice whose mean |∇Y| is nearest to the sample's median."""
    gradient = study.statistics.mean_gradient
    found = []
    for label in range(len(study.samples.classes)):
        members = np.flatnonzero(study.samples.label == label)
        distance = np.abs(gradient[members] - np.median(gradient[members]))
        found.append(members[np.argmin(distance)])
    return np.array(found)
