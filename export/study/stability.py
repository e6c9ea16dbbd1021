"""Are the features stable? The core runs against each other, and u₁ against α."""

from collections.abc import Mapping, Set
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import interval_plot, similarity_matrix, similarity_violins
from eigenfeatures.eigen.split import LARGEST_GUARD_SHARE, VALIDATION
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Paired
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.significance import significant
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.observations import pair_columns, run_columns
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Exhibit,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
    level_in_words,
    p_in_words,
    pair_estimates,
)
from eigenfeatures.export.tables import Columns

SYMBOLS = {"u1": "u₁", "alpha": "α"}
MEASURE_NAMES = {
    "cosine": "cosine",
    "pearson": "Pearson",
    "ssim": "SSIM",
    "spearman": "Spearman",
    "iou": "IoU of the top 10 %",
    "validation": "Pearson, validation slices",
    "inside": "Pearson, away from the border",
    "beyond_image": "Pearson, beyond the image",
    "other_sample": "Pearson, slices of other samples",
}
_HELD_OUT = "validation"
_UNTESTED = (_HELD_OUT, "other_sample")


def stability_part(study: OpenStudy) -> Part:
    """Compare the accepted core runs within and between networks."""
    analysis = study.core_analysis if study.core else None
    pairings = _pairings(analysis) if analysis else {}
    if analysis is None or not pairings:
        return Part(answer="Fewer than two trainings learned the task, so that there is no pair to compare.")
    estimates = _estimates(study, analysis, pairings)
    spans = [f"{what}{rank}" for what in ("angle", "overlap") for rank in SUBSPACE_RANKS]
    angles = pair_estimates(analysis, pairings, spans)
    tests = {
        (label, measure): analysis.paired_pairs(f"u1/{measure}", f"alpha/{measure}", rows)
        for label, rows in pairings.items()
        for measure in MEASURE_NAMES
        if measure not in _UNTESTED
    }
    by_pearson = {label: tests[label, "pearson"] for label in pairings}
    return Part(
        [
            *(_sentence(analysis, label, pairings[label], test) for label, test in by_pearson.items()),
            _against_alpha(by_pearson),
        ],
        [
            exhibit("similarity_violins", _violins(analysis, pairings), _table(estimates)),
            *_matrices(study, analysis),
            exhibit("subspaces", _subspaces(angles)),
        ],
        {
            "similarity": estimate_columns([*estimates, *angles]),
            "u1_against_alpha": _test_columns(tests),
            "pairs": pair_columns(study, analysis.measured),
            "runs_by_slice": run_columns(study, analysis.measured),
        },
        f"{_answer(analysis, pairings)}{_too_short(study)}",
    )


def _estimates(
    study: OpenStudy, analysis: Analysis, pairings: Mapping[str, NDArray[np.int64]]
) -> list[Estimate]:
    measures = [f"{kind}/{measure}" for kind in KINDS for measure in MEASURE_NAMES if measure != _HELD_OUT]
    held_out = [
        Estimate(
            label,
            f"{kind}/{_HELD_OUT}",
            analysis.of_pairs(f"{kind}/pearson", rows, study.split == VALIDATION),
        )
        for label, rows in pairings.items()
        for kind in KINDS
    ]
    return [*pair_estimates(analysis, pairings, measures), *held_out]


def _pairings(analysis: Analysis) -> dict[str, NDArray[np.int64]]:
    """Return the rows of pairs of seeds of each network, then of each two networks."""
    found = {name: analysis.within(name) for name in analysis.groups}
    for first, second in combinations(analysis.groups, 2):
        found[f"{first} × {second}"] = analysis.between(first, second)
    return {label: rows for label, rows in found.items() if len(rows)}


def _answer(analysis: Analysis, pairings: Mapping[str, NDArray[np.int64]]) -> str:
    """Say whether u₁ changes with the initial weights, and with the architecture."""
    found = {label: _likeness(analysis, rows) for label, rows in pairings.items()}
    within = {label: likeness for label, likeness in found.items() if label in analysis.groups}
    between = {label: likeness for label, likeness in found.items() if label not in analysis.groups}
    parts = [
        f"{title}, u₁ correlates by "
        + ", ".join(f"{mean:.2f} ({label}: {level}{aside})" for label, (mean, level, aside) in part.items())
        + f"; the claim that it does not change with {factor}"
        f" {_borne_out({level for _, level, _ in part.values()})}"
        for title, factor, part in (
            ("Between trainings of one network", "the initial weights", within),
            ("Between networks", "the architecture", between),
        )
        if part
    ]
    return ". ".join(parts) + "."


def _likeness(analysis: Analysis, rows: NDArray[np.int64]) -> tuple[float, str, str]:
    """Return the mean correlation, its level and what the level goes by where that is another mean.

    The level is that away from the border, where there is such a place: maps share the frame that
    padding gives them, whatever they show.
    """
    whole, inside = (analysis.of_pairs(f"u1/{name}", rows).estimate for name in ("pearson", "inside"))
    if not np.isfinite(inside):
        return whole, level_in_words(whole), ""
    return whole, level_in_words(inside), f", by {inside:.2f} away from the border"


def _borne_out(levels: Set[str]) -> str:
    if levels == {"nearly the same"}:
        return "is borne out"
    return "is not borne out" if levels == {"different"} else "holds in part"


def _too_short(study: OpenStudy) -> str:
    """Name the samples whose blocks leave the intervals of the whole study too narrow."""
    names = [study.samples.classes[label] for label in study.blocks.too_short]
    if not names:
        return ""
    return (
        f" Slices of {', '.join(names)} still resemble each other a block apart, blocks being at most"
        f" {LARGEST_GUARD_SHARE:.0%} of a stack: intervals are too narrow by what these samples weigh."
    )


def _against_alpha(tests: Mapping[str, Paired]) -> str:
    """Sort the pairings by what is shown of u₁ against α, with Holm's correction for their number."""
    accepted = significant(tests)
    ahead = [label for label in tests if label in accepted and tests[label].difference.estimate > 0]
    behind = [label for label in tests if label in accepted and tests[label].difference.estimate < 0]
    undecided = [label for label in tests if label not in accepted]
    words = [
        f"{what} in {', '.join(labels)}"
        for what, labels in (
            ("more stable than α", ahead),
            ("less stable than α", behind),
            ("not shown to differ from α in stability", undecided),
        )
        if labels
    ]
    corrected = f", corrected for {len(tests)} comparisons" if len(tests) > 1 else ""
    return f"u₁ is {'; '.join(words)} (at 5 %{corrected})."


def _sentence(analysis: Analysis, label: str, rows: NDArray[np.int64], test: Paired) -> str:
    u1, alpha, other = (
        analysis.of_pairs(name, rows) for name in ("u1/pearson", "alpha/pearson", "u1/other_sample")
    )
    return (
        f"{label}: u₁ of a slice correlates between runs by {in_words(u1)} (with slices of other samples by"
        f" {in_words(other)}), α by {in_words(alpha)}; the difference is {in_words(test.difference)},"
        f" {p_in_words(test.p)}, effect size {test.effect_size:.1f}, u₁ ahead in {test.superiority:.0%} of"
        " pairs and blocks."
    )


def _test_columns(tests: Mapping[tuple[str, str], Paired]) -> Columns:
    found = list(tests.values())
    return {
        "group": [label for label, _ in tests],
        "measure": [measure for _, measure in tests],
        "difference": [test.difference.estimate for test in found],
        "low": [test.difference.low for test in found],
        "high": [test.difference.high for test in found],
        "effect_size": [test.effect_size for test in found],
        "superiority": [test.superiority for test in found],
        "p": [test.p for test in found],
    }


def _violins(analysis: Analysis, pairings: Mapping[str, NDArray[np.int64]]) -> Figure:
    own = {label: rows for label, rows in pairings.items() if label in analysis.groups} or pairings
    groups = {
        f"{label}: {name}": {
            SYMBOLS[kind]: analysis.measured.of_pairs[f"{kind}/{measure}"][rows].ravel() for kind in KINDS
        }
        for measure, name in (("pearson", "Pearson"), ("iou", "IoU"), ("beyond_image", "beyond the image"))
        for label, rows in own.items()
    }
    return similarity_violins(groups, "Similarity of the maps of a slice between seeds", "similarity")


def _matrices(study: OpenStudy, analysis: Analysis) -> list[Exhibit]:
    runs = [run for group in study.plan.core for run in study.runs_of(group)]
    names = [run.name for run in runs]
    presets = [run.settings.preset for run in runs]
    found = []
    for kind in KINDS:
        values = np.full((len(names), len(names)), np.nan)
        means = np.nanmean(analysis.measured.of_pairs[f"{kind}/pearson"], axis=1)
        for (a, b), mean in zip(analysis.measured.pairs, means, strict=True):
            i, j = (names.index(analysis.measured.runs[int(run)]) for run in (a, b))
            values[i, j] = values[j, i] = mean
        title = f"Mean Pearson correlation of {SYMBOLS[kind]} between runs"
        short = [f"seed {run.settings.seed}" for run in runs]
        figure = similarity_matrix(values, short, presets, title, "Pearson correlation")
        found.append(exhibit(f"similarity_matrix_{kind}", figure))
    return found


def _subspaces(angles: list[Estimate]) -> Figure:
    labels = {f"angle{rank}": f"{rank} vector{'s' if rank > 1 else ''}" for rank in SUBSPACE_RANKS}
    rows = interval_rows([estimate for estimate in angles if estimate.quantity in labels], labels)
    return interval_plot(rows, "Largest angle between leading subspaces of two runs", "degrees")


def _table(estimates: list[Estimate]) -> Table:
    """Lay estimates out with a row for each group and map, a column for each measure."""
    rows: list[list[Cell]] = []
    found = {(estimate.group, estimate.quantity): in_words(estimate.interval) for estimate in estimates}
    for group in dict.fromkeys(estimate.group for estimate in estimates):
        for kind in KINDS:
            rows.append(
                [
                    f"{group}, {SYMBOLS[kind]}",
                    *(found[group, f"{kind}/{measure}"] for measure in MEASURE_NAMES),
                ]
            )
    return Table(["runs and map", *MEASURE_NAMES.values()], rows)
