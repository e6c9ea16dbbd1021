"""Do eigenfeatures tell the samples apart by themselves? One classifier on several kinds of images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

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
from eigenfeatures.export.study.plan import NULLS
from eigenfeatures.export.study.stability import SYMBOLS


def discrimination_part(study: OpenStudy) -> Part:
    """Score the descriptors of raw slices, |∇Y|, α and u₁, and the networks themselves."""
    if not study.core:
        return Part()
    runs = [run for members in study.core.values() for run in members]
    untrained = bool(study.plan.groups_of(NULLS))
    subjects = [run.trained for run in runs]
    if untrained:
        subjects += [study.untrained[run.name] for run in runs]
    described = study.passes.describe("descriptors", subjects)
    try:
        scores = {
            (title, strength): [_score(study, described, name, strength) for name in names]
            for title, names in _described(study, untrained).items()
            for strength in (False, True)
        }
    except InputError as error:
        return Part([f"Discrimination was left out: {error}."])
    networks = {
        f"network {group.name}, all runs": [
            run.accuracy for run in study.runs_of(group) if run.accuracy is not None
        ]
        for group in study.plan.core
        if group.name in study.core
    }
    return Part(
        [],
        [exhibit("discrimination", _figure(scores, networks), _table(scores, networks))],
        {"discrimination": _columns(scores, networks)},
        _sentence(scores, networks),
    )


def _described(study: OpenStudy, untrained: bool) -> dict[str, list[str]]:
    """Return the names of descriptors under the title of what they describe."""
    found = {"raw slice": [RAW], "|∇Y|": [GRADIENT]}
    for preset, runs in study.core.items():
        found[f"|∇Y| on the grid of {preset}"] = [f"{runs[0].name}/{GRADIENT}"]
        for kind in KINDS:
            found[f"{SYMBOLS[kind]} of {preset}"] = [f"{run.name}/{kind}" for run in runs]
        if untrained:
            found[f"u₁ of {preset}, untrained"] = [f"{run.name} untrained/u1" for run in runs]
    return found


def _score(study: OpenStudy, described: Arrays, name: str, strength: bool) -> Scores:
    features = described[name].copy()
    if strength:
        features[:, SCALED] *= described[f"{name}/strength"][:, None]
    return discriminate(
        features,
        study.samples.label,
        study.blocks.block_of,
        train=study.split == TRAIN,
        validation=study.split == VALIDATION,
    )


def _sentence(scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]) -> str:
    shape = {title: _held_out(found) for (title, strength), found in scores.items() if not strength}
    listed = ", ".join(f"{title} {value:.2f}" for title, value in shape.items())
    own = ", ".join(f"{title} {np.mean(values):.2f}" for title, values in networks.items())
    return (
        "Accuracy on the validation slices of a linear classifier of simple descriptors, brightness"
        f" normalised: {listed}. Of the networks themselves: {own}."
    )


def _mean(scores: Sequence[Scores]) -> float:
    return float(np.mean([score.cross_validated for score in scores]))


def _held_out(scores: Sequence[Scores]) -> float:
    values = [score.held_out for score in scores if score.held_out is not None]
    return float(np.mean(values)) if values else float("nan")


def _figure(scores: dict[tuple[str, bool], list[Scores]], networks: dict[str, list[float]]) -> Figure:
    own = [(title, found) for (title, strength), found in scores.items() if not strength]
    rows = [
        IntervalRow(title, "validation slices, brightness normalised", _held_out(found), *_ends(found))
        for title, found in own
    ]
    rows += [
        IntervalRow(title, "networks, validation slices", float(np.mean(values)), min(values), max(values))
        for title, values in networks.items()
    ]
    rows += [
        IntervalRow(title, "cross-validated by blocks, brightness normalised", _mean(found), *_folds(found))
        for title, found in own
    ]
    title = "Accuracy by image"
    return interval_plot(rows, title, "accuracy", numbers="mean [worst, best run or fold]")


def _folds(scores: Sequence[Scores]) -> tuple[float, float]:
    folds = [fold for score in scores for fold in score.folds]
    return min(folds), max(folds)


def _ends(scores: Sequence[Scores]) -> tuple[float, float]:
    values = [score.held_out for score in scores if score.held_out is not None]
    return (min(values), max(values)) if values else (np.nan, np.nan)


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
            "normalised, by blocks",
            "normalised, validation slices",
            "with brightness, by blocks",
            "with brightness, validation slices",
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
