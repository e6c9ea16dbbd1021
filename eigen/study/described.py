"""Descriptors of all maps, gradient images and raw slices of the samples."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.chunks import KINDS, U1, Chunk
from eigenfeatures.eigen.study.descriptors import describe
from eigenfeatures.eigen.study.stored import Arrays

RAW, GRADIENT = "raw", "gradient"


def describe_samples(parts: Iterable[Chunk], runs: Sequence[str]) -> Arrays:
    """Describe what every run makes of every slice, and the slices themselves.

    Returns
    -------
    dict
        ``raw``, ``gradient`` and, for each run, ``<run>/u1``, ``<run>/alpha`` and ``<run>/gradient``
        (|∇Y| on the grid of its maps) to descriptors
        ``(slices, d)`` of maps at unit root mean square, and each of these with ``/strength`` to the
        root mean squares ``(slices,)``; σ₁u₁/√C stands for u₁, which has none of its own.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for chunk in parts:
        count = len(chunk.indices)
        images = {RAW: chunk.slices[:count].astype(np.float32), GRADIENT: chunk.gradients[:count, 0]}
        for number, run in enumerate(runs):
            for kind in KINDS:
                maps = chunk.map(number, kind, chunk.grids[number])[:count]
                if kind == U1:
                    made = chunk.maps[number]
                    maps = maps * (made.s[:count, 0] / np.sqrt(made.channels))[:, None, None]
                images[f"{run}/{kind}"] = maps
            images[f"{run}/{GRADIENT}"] = chunk.gradients_on(chunk.grids[number])[:count, 0]
        for name, maps in images.items():
            rows.setdefault(name, []).append(describe(maps))
            strength = np.sqrt(np.mean(np.square(maps, dtype=np.float64), axis=(1, 2)))
            rows.setdefault(f"{name}/strength", []).append(strength)
    return {name: np.concatenate(parts_of) for name, parts_of in rows.items()}
