"""Do eigenfeatures tell the samples apart by themselves? One classifier on several kinds of images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.figures import interval_plot
from eigenfeatures.eigen.figures.intervals import IntervalRow
from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.described import GRADIENT, RAW
from eigenfeatures.eigen.study.descriptors import SCALED
from eigenfeatures.eigen.study.discrimination import Scores, discriminate
from eigenfeatures.eigen.study.stored import Arrays
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Part, exhibit
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.tables import read_table

_IMAGES = {RAW: "raw slice", GRADIENT: "|∇Y|"}


def discrimination_part(study: OpenStudy) -> Part:
    """Score the descriptors of raw slices, |∇Y|, α and u₁, and the networks themselves."""
    if not study.core:
        return Part()
    runs = [run for members in study.core.values() for run in members]
    described = study.passes.describe("descriptors", [run.trained for run in runs])
    split = np.array(read_table(runs[0].path / "slices.csv")["split"])
    try:
        scores = {
            (title, strength): [_score(study, described, name, strength, split) for name in names]
            for title, names in _described(study).items()
            for strength in (False, True)
        }
    except InputError as error:
        return Part([f"Discrimination was left out: {error}."])
    networks = {
        f"network {name}": [run.accuracy for run in members if run.accuracy is not None]
        for name, members in study.core.items()
    }
    return Part(
        [_sentence(scores, networks)],
        [exhibit("discrimination", _figure(scores, networks), _table(scores, networks))],
        {"discrimination": _columns(scores, networks)},
    )


def _described(study: OpenStudy) -> dict[str, list[str]]:
    """Return the names of descriptors under the title of what they describe."""
    found = {title: [name] for name, title in _IMAGES.items()}
    for preset, runs in study.core.items():
        for kind in KINDS:
            found[f"{SYMBOLS[kind]} of {preset}"] = [f"{run.name}/{kind}" for run in runs]
    return found


def _score(study: OpenStudy, described: Arrays, name: str, strength: bool, split: NDArray[np.str_]) -> Scores:
    features = described[name].copy()
    if strength:
        features[:, SCALED] *= described[f"{name}/strength"][:, None]
    return discriminate(
        features,
        study.samples.label,
        study.blocks.block_of,
        train=split == TRAIN,
        validation=split == VALIDATION,
    )


def _sentence(scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]) -> str:
    shape = {title: _mean(found) for (title, strength), found in scores.items() if not strength}
    listed = ", ".join(f"{title} {value:.2f}" for title, value in shape.items())
    own = ", ".join(f"{title} {np.mean(values):.2f}" for title, values in networks.items())
    return (
        f"Accuracy of a linear classifier on descriptors, maps at equal strength, by blocks: {listed}. Of the"
        f" networks: {own}."
    )


def _mean(scores: Sequence[Scores]) -> float:
    return float(np.mean([score.cross_validated for score in scores]))


def _held_out(scores: Sequence[Scores]) -> float:
    values = [score.held_out for score in scores if score.held_out is not None]
    return float(np.mean(values)) if values else float("nan")


def _figure(scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]) -> Figure:
    rows = [
        IntervalRow(
            title, "with their strength" if strength else "at equal strength", _mean(found), *_range(found)
        )
        for strength in (False, True)
        for (title, has_strength), found in scores.items()
        if has_strength == strength
    ]
    rows += [
        IntervalRow(
            title, "networks, on their validation slices", float(np.mean(values)), min(values), max(values)
        )
        for title, values in networks.items()
    ]
    return interval_plot(rows, "Accuracy by image, bars from the worst to the best fold or run", "accuracy")


def _range(scores: Sequence[Scores]) -> tuple[float, float]:
    folds = [fold for score in scores for fold in score.folds]
    return min(folds), max(folds)


def _table(scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]) -> Table:
    rows: list[list[Cell]] = [
        [
            title,
            f"{_mean(scores[title, False]):.3f}",
            f"{_held_out(scores[title, False]):.3f}",
            f"{_mean(scores[title, True]):.3f}",
            f"{_held_out(scores[title, True]):.3f}",
        ]
        for title in dict.fromkeys(title for title, _ in scores)
    ]
    rows += [[title, "–", f"{np.mean(values):.3f}", "–", "–"] for title, values in networks.items()]
    return Table(
        [
            "described",
            "equal strength, by blocks",
            "equal strength, validation part",
            "with strength, by blocks",
            "with strength, validation part",
        ],
        rows,
    )


def _columns(
    scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]
) -> dict[str, list[object]]:
    rows: list[tuple[object, ...]] = [
        (title, "kept" if strength else "equal", number, score.cross_validated, score.held_out)
        for (title, strength), found in scores.items()
        for number, score in enumerate(found)
    ]
    rows += [
        (title, "", number, None, value)
        for title, found in networks.items()
        for number, value in enumerate(found)
    ]
    names = ("described", "strength", "run", "cross_validated", "validation_part")
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}
