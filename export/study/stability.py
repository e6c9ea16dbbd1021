"""Are the features stable? The core runs against each other, and u₁ against α."""

from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import interval_plot, similarity_matrix, similarity_violins
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.export.html import Cell, Table
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
    tests, test_columns = _tests(analysis, pairings)
    findings = [_verdict(analysis, pairings), *tests]
    exhibits = [
        exhibit("similarity_violins", _violins(analysis, pairings), _table(estimates)),
        *_matrices(study, analysis),
        exhibit("subspaces", _subspaces(angles)),
    ]
    tables = {
        "similarity": estimate_columns([*estimates, *angles]),
        "u1_against_alpha": test_columns,
        "pairs": pair_columns(study, analysis),
        "runs_by_slice": run_columns(study, analysis),
    }
    return Part(findings, exhibits, tables)


def _pairings(analysis: Analysis) -> dict[str, NDArray[np.int64]]:
    """Return the rows of pairs of seeds of each network, then of each two networks."""
    found = {name: analysis.within(name) for name in analysis.groups}
    for first, second in combinations(analysis.groups, 2):
        found[f"{first} × {second}"] = analysis.between(first, second)
    return {label: rows for label, rows in found.items() if len(rows)}


def _verdict(analysis: Analysis, pairings: dict[str, NDArray[np.int64]]) -> str:
    ahead = {
        label: analysis.paired_pairs("u1/pearson", "alpha/pearson", rows).difference.low > 0
        for label, rows in pairings.items()
    }
    if all(ahead.values()):
        return (
            "Eigenfeatures are more stable than the strongest channel, within every network and between"
            " networks."
        )
    if not any(ahead.values()):
        return "Eigenfeatures are not shown to be more stable than the strongest channel."
    behind = ", ".join(label for label, is_ahead in ahead.items() if not is_ahead)
    return f"Eigenfeatures are more stable than the strongest channel, but this is not shown for {behind}."


def _tests(analysis: Analysis, pairings: dict[str, NDArray[np.int64]]) -> tuple[list[str], Columns]:
    """Test u₁ against α by every measure; put Pearson's into words."""
    sentences: list[str] = []
    rows_of: dict[str, list[object]] = {
        name: []
        for name in ("group", "measure", "difference", "low", "high", "effect_size", "superiority", "p")
    }
    for label, rows in pairings.items():
        for measure in MEASURE_NAMES:
            test = analysis.paired_pairs(f"u1/{measure}", f"alpha/{measure}", rows)
            difference = test.difference
            row = (
                label, measure, difference.estimate, difference.low, difference.high,
                test.effect_size, test.superiority, test.p,
            )  # fmt: skip
            for column, value in zip(rows_of.values(), row, strict=True):
                column.append(value)
            if measure == "pearson":
                u1, alpha = (analysis.of_pairs(f"{kind}/pearson", rows) for kind in KINDS)
                runs = f"{u1.runs} runs" if u1.runs else "a single pair, so the interval is over slices only"
                sentences.append(
                    f"{label}: Pearson correlation of u₁ between runs {in_words(u1)}, of α {in_words(alpha)};"
                    f" difference {in_words(difference)}, effect size {test.effect_size:.1f}, p ="
                    f" {test.p:.2g} ({runs})."
                )
    return sentences, rows_of


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


def pair_columns(study: OpenStudy, analysis: Analysis) -> Columns:
    """Return every number of every pair of runs and slice: a row each."""
    measured = analysis.measured
    first, second = (np.array(measured.runs)[measured.pairs[:, side]] for side in (0, 1))
    count = len(measured.slices)
    return {
        "first": np.repeat(first, count),
        "second": np.repeat(second, count),
        **_slices(study, measured.slices, len(measured.pairs)),
        **{name: values.ravel() for name, values in measured.of_pairs.items()},
    }


def run_columns(study: OpenStudy, analysis: Analysis) -> Columns:
    """Return every number of every run and slice: a row each."""
    measured = analysis.measured
    return {
        "run": np.repeat(measured.runs, len(measured.slices)),
        **_slices(study, measured.slices, len(measured.runs)),
        **{name: values.ravel() for name, values in measured.of_runs.items()},
    }


def _slices(study: OpenStudy, slices: NDArray[np.int64], times: int) -> Columns:
    samples = study.samples
    specimens = np.array([specimen.name for specimen in samples.specimens])[samples.specimen_of[slices]]
    return {
        "sample": np.tile(np.array(samples.classes)[samples.label[slices]], times),
        "specimen": np.tile(specimens, times),
        "slice": np.tile(samples.slice_of[slices], times),
    }
