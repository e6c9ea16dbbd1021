"""What the features look like: a typical slice of each sample as every run sees it (Fig. 11 and 13)."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import Placement, seed_panel
from eigenfeatures.eigen.preprocessing import most_typical
from eigenfeatures.eigen.study.chunks import KINDS, look_at
from eigenfeatures.export.features import voxel_size
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Exhibit, Part, exhibit
from eigenfeatures.export.study.plan import CLAIMS
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import StudyRun

_MOST_RUNS = 5
_CAPTIONS = {"u1": "seeds_eigenfeatures", "alpha": "seeds_strongest_channels"}


def pictures_part(study: OpenStudy) -> Part:
    """Draw u₁ and α of a typical slice of each sample, a column a run; those left out are shown too."""
    typical = most_typical(study.samples, study.statistics.mean_gradient)
    exhibits = [
        drawn
        for title, runs in _shown(study)
        for drawn in _panels(study, title, dict(list(runs.items())[:_MOST_RUNS]), typical)
    ]
    finding = (
        "For each sample, the slice whose mean |∇Y| is nearest to the sample's median, as up to "
        f"{_MOST_RUNS} runs of each network see it. Each map is at unit root mean square."
    )
    return Part([finding] if exhibits else [], exhibits)


def _shown(study: OpenStudy) -> Iterator[tuple[str, Mapping[str, StudyRun]]]:
    """Yield the runs of each figure by the titles of their columns."""
    for group in study.plan.core:
        runs = {f"seed {run.settings.seed}{_left_out(run)}": run for run in study.runs_of(group) if run.ended}
        if runs:
            yield group.name, runs
    reference = study.plan.reference
    factors = {group.label: study.runs_of(group)[0] for group in study.plan.groups_of(CLAIMS)}
    if factors:
        # Fig. 11, third column: the same seed with and without augmentation.
        first = {"standard settings": study.runs_of(reference)[0], **factors}
        yield (
            f"{reference.preset} by factor",
            {f"{label}{_left_out(run)}": run for label, run in first.items() if run.ended},
        )


def _left_out(run: StudyRun) -> str:
    return "" if run.accepted else f" (left out, {run.accuracy:.2f})"


def _panels(
    study: OpenStudy, title: str, runs: Mapping[str, StudyRun], slices: NDArray[np.int64]
) -> Iterator[Exhibit]:
    passes = study.passes
    networks = passes.load([run.trained for run in runs.values()], passes.view.layer)
    chunk = look_at(networks, study.samples, slices, passes.view, passes.operator, passes.device)
    placement = Placement(chunk.grids[0].offset, chunk.grids[0].stride)
    voxel = voxel_size(study.base, study.samples)
    for kind in KINDS:
        figure = seed_panel(
            {name: list(chunk.map(k, kind, chunk.grids[k])) for k, name in enumerate(runs)},
            list(chunk.gradients[:, 0]),
            study.samples.classes,
            f"{SYMBOLS[kind]} at {passes.view.layer}, network {title}",
            None if voxel is None else (voxel.y, voxel.x),
            placement,
        )
        yield exhibit(_CAPTIONS[kind], figure, of=title)
