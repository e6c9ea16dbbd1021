"""Which layer, resolution, centring, rank and operator give the most stable features, and when to stop."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import interval_plot, training_curve
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
)
from eigenfeatures.export.study.plan import NULLS, OPERATOR_PLAN
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY, StudyRun, Subject
from eigenfeatures.export.tables import numbers, read_table

_MEASURES = ("u1/pearson", "alpha/pearson", "u1/iou", "u1/beyond_image")
_TITLES = {
    "u1/pearson": "u₁",
    "alpha/pearson": "α",
    "u1/iou": "u₁, IoU of the top 10 %",
    "u1/beyond_image": "u₁, beyond the image",
}


def settings_part(study: OpenStudy) -> Part:
    """Compare ways to look at the trained networks, each on a few slices."""
    rows: list[Estimate] = []
    for name, runs in study.core.items():
        if len(runs) < 2:
            continue
        for label, view in _views(study, runs[0]):
            analysis = study.compare(
                f"settings-{name}-{_slug(label)}", _subjects(study, runs), [], every=SPARSE, **view
            )
            rows += _row(analysis, name, label)
    rows += _operators(study)
    if not rows:
        return Part()
    return Part(
        _best(rows),
        [exhibit("settings_compared", _figure(rows), _table(rows))],
        {"settings": estimate_columns(rows)},
    )


def _subjects(study: OpenStudy, runs: Sequence[StudyRun]) -> dict[str, list[Subject]]:
    found = {"trained": [run.trained for run in runs]}
    if study.plan.groups_of(NULLS):
        found["untrained"] = [run.untrained(study.samples) for run in runs]
    return found


def _views(study: OpenStudy, run: StudyRun) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield what differs from the study's view, under a label."""
    own = study.passes.view
    network = build_network(run.settings.preset, len(study.samples.classes), study.samples.size)
    for layer in network.response_layers:
        yield f"layer {layer}", {"layer": layer, "rank": max(SUBSPACE_RANKS)}
    resolution = "dense" if own.resolution == "pooled" else "pooled"
    yield f"{own.layer}, {resolution}", {"resolution": resolution, "rank": 1}
    yield f"{own.layer}, {'not ' if own.center else ''}centred", {"center": not own.center}


def _row(analysis: Analysis, group: str, label: str) -> list[Estimate]:
    found = []
    measures = (*_MEASURES, *(f"overlap{rank}" for rank in SUBSPACE_RANKS))
    for state in analysis.groups:
        rows = analysis.within(state)
        if len(rows):
            suffix = "" if state == "trained" else f", {state}"
            found += [
                Estimate(f"{group}: {label}{suffix}", measure, analysis.of_pairs(measure, rows))
                for measure in measures
            ]
    return found


def _operators(study: OpenStudy) -> list[Estimate]:
    groups = study.plan.groups_of(OPERATOR_PLAN)
    if not groups:
        return []
    members = {group.runs[next(iter(group.runs))].operator: study.accepted(group) for group in groups}
    members = {study.base.operator: study.accepted(study.plan.reference), **members}
    subjects = {name: [run.trained for run in runs] for name, runs in members.items() if runs}
    analysis = study.compare("operators", subjects, [], every=SPARSE)
    preset = study.plan.reference.preset
    return [
        estimate
        for name in subjects
        for rows in [analysis.within(name)]
        if len(rows)
        for estimate in (
            Estimate(f"{preset}: operator {name}", measure, analysis.of_pairs(measure, rows))
            for measure in (*_MEASURES, *(f"overlap{rank}" for rank in SUBSPACE_RANKS))
        )
    ]


def _best(rows: Sequence[Estimate]) -> list[str]:
    found = []
    for preset in dict.fromkeys(row.group.split(":")[0] for row in rows):
        for measure in ("u1/pearson", "u1/beyond_image"):
            own = [
                row
                for row in rows
                if row.group.startswith(f"{preset}:") and row.quantity == measure and "untrained" not in row.group
                and np.isfinite(row.interval.estimate)
            ]  # fmt: skip
            if own:
                best = max(own, key=lambda row: row.interval.estimate)
                found.append(
                    f"{preset}: the most stable by {_TITLES[measure]} (Pearson correlation) is "
                    f"{best.group.partition(': ')[2]}, {in_words(best.interval)}."
                )
    return found


def _figure(rows: Sequence[Estimate]) -> Figure:
    labels = {name: title for name, title in _TITLES.items() if name in ("u1/pearson", "u1/beyond_image")}
    shown = [
        Estimate(row.quantity, row.group, row.interval)
        for quantity in labels
        for row in rows
        if row.quantity == quantity
    ]
    plotted = [Estimate(labels[row.group], row.quantity, row.interval) for row in shown]
    return interval_plot(interval_rows(plotted), "Similarity between seeds by setting", "Pearson correlation")


def _table(rows: Sequence[Estimate]) -> Table:
    quantities = list(dict.fromkeys(row.quantity for row in rows))
    found = {(row.group, row.quantity): in_words(row.interval) for row in rows}
    body: list[list[Cell]] = [
        [group, *(found.get((group, quantity), "–") for quantity in quantities)]
        for group in dict.fromkeys(row.group for row in rows)
    ]
    return Table(["setting", *(_TITLES.get(quantity, quantity) for quantity in quantities)], body)


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
            {"validation accuracy of each seed": accuracy},
            f"Stability of {name} over the training",
            "Pearson correlation between seeds",
            ACCEPTED_ACCURACY,
        )
        made = exhibit("training_curve", figure)
        exhibits.append(replace(made, name=f"training_curve_{name}", title=f"{made.title}: {name}"))
        findings.append(
            _levels_off(name, iterations, np.array([value[0] for value in curves[SYMBOLS["u1"]]]))
        )
    return Part(findings, exhibits, {"training_curve": estimate_columns(estimates)} if estimates else {})


def _levels_off(name: str, iterations: Sequence[int], means: NDArray[np.float64]) -> str:
    """Say from when on the stability of u₁ stays within 0.05 of where it ends."""
    away = np.flatnonzero(np.abs(means - means[-1]) > 0.05)
    settled = iterations[int(away[-1]) + 1] if len(away) else iterations[0]
    return (
        f"{name}: u₁ of two seeds correlates by {means[0]:.2f} before the training and by {means[-1]:.2f}"
        f" after it; it stays within 0.05 of the end from iteration {settled} on."
    )


def _accuracies(run: StudyRun, iterations: Sequence[int]) -> list[float]:
    table = read_table(run.path / "training.csv")
    known = dict(zip(numbers(table["iteration"]), numbers(table["validation_accuracy"]), strict=True))
    return [known.get(float(iteration), np.nan) for iteration in iterations]


def _slug(label: str) -> str:
    return label.replace(", ", "-").replace(" ", "-")
