"""How the stability grows with the training, so that a user sees when to stop."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import training_curve
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.export.study.changes import EQUAL_WITHIN
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.parts import Estimate, Part, estimate_columns, exhibit
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY, StudyRun
from eigenfeatures.export.tables import numbers, read_table


def curve_part(study: OpenStudy) -> Part:
    """Follow the stability over the training."""
    exhibits, estimates, findings = [], [], []
    for name, runs in study.core.items():
        iterations = sorted(set.intersection(*(set(run.snapshots) for run in runs)))
        if len(runs) < 2 or len(iterations) < 2:
            continue
        layer = study.passes.view.layer
        curves: dict[str, list[tuple[float, float, float]]] = {SYMBOLS[kind]: [] for kind in KINDS}
        for iteration in iterations:
            subjects = {name: [run.at(iteration, layer) for run in runs]}
            analysis = study.compare(f"curve-{name}-{iteration}", subjects, every=SPARSE)
            for kind in KINDS:
                interval = analysis.of_pairs(f"{kind}/pearson", analysis.within(name))
                curves[SYMBOLS[kind]].append((interval.estimate, interval.low, interval.high))
                estimates.append(Estimate(f"{name} at iteration {iteration}", f"{kind}/pearson", interval))
        bands = {symbol: tuple(np.array(values).T) for symbol, values in curves.items()}
        accuracy = np.array([_accuracies(run, iterations) for run in runs])
        figure = training_curve(
            np.array(iterations),
            bands,
            {"each seed": accuracy},
            f"Stability of {name} over the training",
            "Pearson correlation between seeds",
            ACCEPTED_ACCURACY,
        )
        exhibits.append(exhibit("training_curve", figure, of=name))
        findings.append(
            _levels_off(name, iterations, np.array([value[0] for value in curves[SYMBOLS["u1"]]]))
        )
    return Part(findings, exhibits, {"training_curve": estimate_columns(estimates)} if estimates else {})


def _levels_off(name: str, iterations: Sequence[int], means: NDArray[np.float64]) -> str:
    """Say from when on the mean stability of u₁ stays within 0.05 of where it ends."""
    away = np.flatnonzero(np.abs(means - means[-1]) > EQUAL_WITHIN)
    settled = iterations[int(away[-1]) + 1] if len(away) else iterations[0]
    return (
        f"{name}: u₁ of two seeds correlates by {means[0]:.2f} before the training and by {means[-1]:.2f}"
        f" after it; its mean stays within {EQUAL_WITHIN} of the end from iteration {settled} on."
    )


def _accuracies(run: StudyRun, iterations: Sequence[int]) -> list[float]:
    table = read_table(run.path / "training.csv")
    known = dict(zip(numbers(table["iteration"]), numbers(table["validation_accuracy"]), strict=True))
    return [known.get(float(iteration), np.nan) for iteration in iterations]
