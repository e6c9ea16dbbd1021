"""What a study measures on a few slices: of each pair of runs, and of each run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.chunks import ALPHA, KINDS, SCALES, U1, Chunk
from eigenfeatures.eigen.study.clarity import contrast_to_noise, repeatability
from eigenfeatures.eigen.study.grids import Grid, common_grid, interior
from eigenfeatures.eigen.study.similarity import compare, pearson
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS, angles_between, subspace_overlap

Rows = dict[str, NDArray[np.float64]]

_FEWEST_INSIDE = 4


def pair_measures(chunk: Chunk, pairs: NDArray[np.int64]) -> Rows:
    """Compare pairs of runs on a chunk's slices.

    Returns
    -------
    dict
        ``u1/pearson`` and so on for both kinds of maps and all measures, ``u1/beyond_image``, ``u1/inside``,
        ``angle4`` (largest principal angle in degrees), ``overlap4`` …; each
        ``(pairs, slices)``, NaN where undefined.
    """
    return _stacked([_pair(chunk, int(a), int(b)) for a, b in pairs])


def _pair(chunk: Chunk, a: int, b: int) -> Rows:
    count = len(chunk.indices)
    grid = common_grid(chunk.grids[a], chunk.grids[b])
    found: Rows = {}
    for kind in KINDS:
        alike = compare(chunk.prepared(a, kind, grid), chunk.prepared(b, kind, grid))
        found |= {f"{kind}/{measure}": values[:count] for measure, values in alike.items()}
        left = [chunk.beyond_image(run, kind, grid)[:count] for run in (a, b)]
        found[f"{kind}/beyond_image"] = pearson(*left)
        found[f"{kind}/inside"] = _inside(chunk, a, b, kind, grid)
    first, second = (chunk.subspaces(run, grid) for run in (a, b))
    for rank in SUBSPACE_RANKS:
        angles = angles_between(first, second, rank)[:count]
        found[f"angle{rank}"] = angles[:, -1]
        found[f"overlap{rank}"] = subspace_overlap(angles)
    return found


def _inside(chunk: Chunk, a: int, b: int, kind: str, grid: Grid) -> NDArray[np.float64]:
    """Correlate two maps where neither sees the zeros that pad the slice."""
    reach = max(chunk.reach(a, grid), chunk.reach(b, grid))
    rows, columns = interior(grid, chunk.gradients.shape[-2:], reach)
    first, second = (chunk.map(run, kind, grid)[: len(chunk.indices), rows, columns] for run in (a, b))
    if min(first.shape[1:]) < _FEWEST_INSIDE:
        return np.full(len(first), np.nan)
    return pearson(first, second)


def run_measures(chunk: Chunk) -> Rows:
    """Measure each run on a chunk's slices.

    Returns
    -------
    dict
        ``agreement/pearson`` and so on (u₁ against α), ``u1/image2`` (Pearson with |∇Y| smoothed
        by 2 pixels), ``u1/repeatability``, ``u1/contrast_to_noise`` and the same of ``alpha`` and of
        ``image2`` …, ``activation``, ``gap`` (σ₂/σ₁) and ``energy`` (σ₁²/‖X‖²); each ``(runs, slices)``,
        NaN where undefined. Where slices of a stack are left out, nothing says what repeats from
        one slice to the next, and repeatability and contrast to noise are left out too.
    """
    return _stacked([_run(chunk, run) for run in range(len(chunk.maps))])


def _run(chunk: Chunk, run: int) -> Rows:
    count, grid, maps = len(chunk.indices), chunk.grids[run], chunk.maps[run]
    agreement = compare(chunk.prepared(run, U1, grid), chunk.prepared(run, ALPHA, grid))
    found = {f"agreement/{measure}": values[:count] for measure, values in agreement.items()}
    images = {f"image{scale}": chunk.gradients_on(grid)[:, k] for k, scale in enumerate(SCALES)}
    own = {kind: chunk.map(run, kind, grid) for kind in KINDS}
    for kind in KINDS:
        for name, image in images.items():
            found[f"{kind}/{name}"] = pearson(own[kind][:count], image[:count])
    if chunk.consecutive:
        for name, pictures in {**own, **images}.items():
            found[f"{name}/repeatability"] = _filled(repeatability(pictures), count)
            found[f"{name}/contrast_to_noise"] = _filled(contrast_to_noise(pictures), count)
    found["activation"] = maps.activation[:count]
    with np.errstate(invalid="ignore", divide="ignore"):
        first = maps.s[:count, 0]
        found["energy"] = first**2 / maps.energy[:count]
        found["gap"] = maps.s[:count, 1] / first if maps.s.shape[1] > 1 else np.full(count, np.nan)
    return found


def _filled(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Give each slice the value of its pair with the next one; the last slice of a stack has none."""
    return np.concatenate([values, np.full(count - len(values), np.nan)])


def _stacked(rows: Sequence[Rows]) -> Rows:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}
