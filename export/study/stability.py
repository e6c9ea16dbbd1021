"""Are the features stable? The core runs against each other, and u₁ against α."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import interval_plot, similarity_matrix, similarity_violins
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Paired
from eigenfeatures.eigen.study.chunks import KINDS
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
)
from eigenfeatures.export.tables import Columns

SYMBOLS = {"u1": "u₁", "alpha": "α"}
MEASURE_NAMES = {
    "cosine": "cosine",
    "pearson": "Pearson",
    "ssim": "SSIM",
    "spearman": "Spearman",
    "iou": "IoU of the top 10 %",
    "inside": "Pearson, away from the border",
    "beyond_image": "beyond the image",
}


def stability_part(study: OpenStudy) -> Part:
    """Compare the accepted core runs within and between networks."""
    if not study.core:
        return Part(["No run of the core reached the accuracy that counts, so there is nothing to compare."])
    analysis = study.core_analysis()
    pairings = _pairings(analysis)
    if not pairings:
        return Part(["Fewer than two runs count, so that there is no pair to compare."])
    estimates = [
        Estimate(label, f"{kind}/{measure}", analysis.of_pairs(f"{kind}/{measure}", rows))
        for label, rows in pairings.items()
        for kind in KINDS
        for measure in MEASURE_NAMES
    ]
    angles = [
        Estimate(label, f"{what}{rank}", analysis.of_pairs(f"{what}{rank}", rows))
        for label, rows in pairings.items()
        for what in ("angle", "overlap")
        for rank in SUBSPACE_RANKS
    ]
    tests = {
        (label, measure): analysis.paired_pairs(f"u1/{measure}", f"alpha/{measure}", rows)
        for label, rows in pairings.items()
        for measure in MEASURE_NAMES
    }
    by_pearson = {label: tests[label, "pearson"] for label in pairings}
    findings = [
        _verdict(by_pearson),
        *(_sentence(analysis, label, pairings[label], test) for label, test in by_pearson.items()),
    ]
    exhibits = [
        exhibit("similarity_violins", _violins(analysis, pairings), _table(estimates)),
        *_matrices(study, analysis),
        exhibit("subspaces", _subspaces(angles)),
    ]
    tables = {
        "similarity": estimate_columns([*estimates, *angles]),
        "u1_against_alpha": _test_columns(tests),
        "pairs": pair_columns(study.samples, analysis.measured),
        "runs_by_slice": run_columns(study.samples, analysis.measured),
    }
    return Part(findings, exhibits, tables)


def _pairings(analysis: Analysis) -> dict[str, NDArray[np.int64]]:
    """Return the rows of pairs of seeds of each network, then of each two networks."""
    found = {name: analysis.within(name) for name in analysis.groups}
    for first, second in combinations(analysis.groups, 2):
        found[f"{first} × {second}"] = analysis.between(first, second)
    return {label: rows for label, rows in found.items() if len(rows)}


def _verdict(tests: Mapping[str, Paired]) -> str:
    ahead = {label: test.difference.low > 0 for label, test in tests.items()}
    if all(ahead.values()):
        return (
            "Eigenfeatures are more stable than the strongest channel, within every network and between"
            " networks."
        )
    if not any(ahead.values()):
        return "Eigenfeatures are not shown to be more stable than the strongest channel."
    behind = ", ".join(label for label, is_ahead in ahead.items() if not is_ahead)
    return f"Eigenfeatures are more stable than the strongest channel, but this is not shown for {behind}."


def _sentence(analysis: Analysis, label: str, rows: NDArray[np.int64], test: Paired) -> str:
    u1, alpha = (analysis.of_pairs(f"{kind}/pearson", rows) for kind in KINDS)
    runs = f"{u1.runs} runs" if u1.runs else "a single pair, so that the interval is over slices only"
    return (
        f"{label}: Pearson correlation of u₁ between runs {in_words(u1)}, of α {in_words(alpha)}; difference "
        f"{in_words(test.difference)}, effect size {test.effect_size:.1f}, p = {test.p:.2g} ({runs})."
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


def _violins(analysis: Analysis, pairings: dict[str, NDArray[np.int64]]) -> Figure:
    inside = np.concatenate(
        [pairings[name] for name in analysis.groups if name in pairings] or [*pairings.values()]
    )
    groups = {
        MEASURE_NAMES[measure]: {
            SYMBOLS[kind]: analysis.measured.of_pairs[f"{kind}/{measure}"][inside].ravel() for kind in KINDS
        }
        for measure in MEASURE_NAMES
    }
    return similarity_violins(
        groups, "Similarity of the maps of a slice between seeds of one network", "similarity"
    )


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
