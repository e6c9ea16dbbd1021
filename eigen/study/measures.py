"""What a study measures on a few slices: of each pair of runs, and of each run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.chunks import ALPHA, KINDS, SCALES, U1, Chunk
from eigenfeatures.eigen.study.clarity import contrast_to_noise, repeatability
from eigenfeatures.eigen.study.grids import Grid, Interior, common_grid
from eigenfeatures.eigen.study.similarity import (
    compare,
    cross_pearson,
    multiple_correlation,
    pearson,
)
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS, angles_between, subspace_overlap

Rows = dict[str, NDArray[np.float64]]

_FEWEST_INSIDE = 4


def pair_measures(chunk: Chunk, pairs: NDArray[np.int64]) -> Rows:
    """Compare pairs of runs on a chunk's slices.

    Returns
    -------
    dict
        ``u1/pearson`` and so on for both kinds of maps and all measures, ``u1/inside``,
        ``u1/beyond_image``, ``u1/other_sample``, ``angle4`` (largest principal angle in degrees),
        ``overlap4`` …; each ``(pairs, slices)``, NaN where undefined.
    """
    return _stacked([_pair(chunk, int(a), int(b)) for a, b in pairs])


def _pair(chunk: Chunk, a: int, b: int) -> Rows:
    count = len(chunk.indices)
    grid = common_grid(chunk.grids[a], chunk.grids[b])
    inside = chunk.interior((a, b), grid)
    found: Rows = {}
    for kind in KINDS:
        alike = compare(chunk.prepared(a, kind, grid), chunk.prepared(b, kind, grid))
        found |= {f"{kind}/{measure}": values[:count] for measure, values in alike.items()}
        found[f"{kind}/inside"], found[f"{kind}/beyond_image"] = _inside(chunk, a, b, kind, grid, inside)
        found[f"{kind}/other_sample"] = _other_sample(chunk, a, b, kind, grid)
    first, second = (chunk.subspaces(run, grid) for run in (a, b))
    for rank in SUBSPACE_RANKS:
        angles = angles_between(first, second, rank)[:count]
        found[f"angle{rank}"] = angles[:, -1]
        found[f"overlap{rank}"] = subspace_overlap(angles)
    return found


def _inside(
    chunk: Chunk, a: int, b: int, kind: str, grid: Grid, inside: Interior
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate two maps, and what the gradient images leave of them, where neither sees padding."""
    rows, columns = inside
    count = len(chunk.indices)
    if min(rows.stop - rows.start, columns.stop - columns.start) < _FEWEST_INSIDE:
        return np.full(count, np.nan), np.full(count, np.nan)
    maps = [chunk.map(run, kind, grid)[:count, rows, columns] for run in (a, b)]
    left = [chunk.beyond_image(run, kind, grid, inside)[:count] for run in (a, b)]
    return pearson(*maps), pearson(*left)


def _other_sample(chunk: Chunk, a: int, b: int, kind: str, grid: Grid) -> NDArray[np.float64]:
    """Correlate a run's maps with another's of slices of other samples: the mean over those samples.

    What this is above 0 has nothing to do with the slice: the frame that padding leaves, or a
    pattern that a network shows everywhere.
    """
    count = len(chunk.indices)
    if chunk.others is None:
        return np.full(count, np.nan)
    here, there = chunk.map(a, kind, grid)[:count], chunk.others.map(b, kind, grid)
    alike = cross_pearson(here, there)
    alike[chunk.samples[:, None] == chunk.others.samples] = np.nan
    known = np.isfinite(alike)
    return np.asarray(np.where(known, alike, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan))


def run_measures(chunk: Chunk) -> Rows:
    """Measure each run on a chunk's slices.

    Returns
    -------
    dict
        ``agreement/pearson`` and so on (u₁ against α), ``u1/image2`` (Pearson with |∇Y| smoothed
        by 2 pixels), ``u1/image`` (correlation with what all of these fit of it, whatever the
        sign), ``u1/other_sample`` (with the run's own maps of other samples), ``u1/repeatability``,
        ``u1/contrast_to_noise`` and the same of ``alpha`` and of ``image2`` …, ``activation``,
        ``gap`` (σ₂/σ₁) and ``energy`` (σ₁²/‖X‖²); each ``(runs, slices)``, NaN where undefined.
        Where slices of a stack are left out, nothing says what repeats from one slice to the
        next, and repeatability and contrast to noise are left out too.
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
        found[f"{kind}/image"] = multiple_correlation(own[kind][:count], chunk.gradients_on(grid)[:count])
        found[f"{kind}/other_sample"] = _other_sample(chunk, run, run, kind, grid)
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
