"""How the samples rank (Fig. 10): by the activation of α, by |∇Y|, and by properties that the user knows."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import order_plot
from eigenfeatures.eigen.study.ordering import Agreement, concordance, rank_agreement, sample_means
from eigenfeatures.eigen.study.properties import read_properties
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Part, exhibit

_GRADIENT = "mean |∇Y|"


def ordering_part(study: OpenStudy, properties: Path | None) -> Part:
    """Rank the samples by all quantities and compare the orders.

    Raises
    ------
    InputError
        When the table of properties can't be read or speaks of other samples.
    """
    classes, label = study.samples.classes, study.samples.label
    known = read_properties(properties, classes) if properties else {}
    quantities = {_GRADIENT: sample_means(study.statistics.mean_gradient, label, classes)}
    sentences = []
    for name, values in _activations(study).items():
        quantities[f"activation of α, {name}"] = values.mean(axis=0)
        if len(values) > 1:
            sentences.append(
                f"Over {len(values)} runs of {name}, samples rank by the activation of α with a concordance "
                f"(Kendall's W) of {concordance(values):.2f}."
            )
    quantities |= known
    agreements = {
        (first, second): rank_agreement(quantities[first], quantities[second])
        for number, first in enumerate(quantities)
        for second in list(quantities)[number + 1 :]
    }
    return Part(
        [*(_sentence(pair, found) for pair, found in agreements.items() if _GRADIENT in pair), *sentences],
        [exhibit("order", order_plot(quantities, classes), _table(agreements))],
        {
            "order": {"sample": list(classes), **quantities},
            "order_agreement": _columns(agreements),
        },
    )


def _activations(study: OpenStudy) -> dict[str, NDArray[np.float64]]:
    """Return the mean activation of α, ``(runs, samples)``, for each network."""
    if not study.core:
        return {}
    analysis = study.core_analysis()
    measured = analysis.measured
    label = study.samples.label[measured.slices]
    return {
        name: np.stack(
            [sample_means(measured.of_runs["activation"][run], label, study.samples.classes) for run in runs]
        )
        for name, runs in analysis.groups.items()
    }


def _sentence(pair: tuple[str, str], found: Agreement) -> str:
    return (
        f"Order of the samples by {pair[0]} and by {pair[1]}: Kendall's τ = {found.kendall_tau:.2f}, "
        f"p = {found.permutations_p:.2g} over {found.samples} samples."
    )


def _table(agreements: dict[tuple[str, str], Agreement]) -> Table:
    rows: list[list[Cell]] = [
        [f"{first} and {second}", found.kendall_tau, found.spearman, found.permutations_p, found.samples]
        for (first, second), found in agreements.items()
    ]
    return Table(["orders", "Kendall's τ", "Spearman's ρ", "p", "samples"], rows)


def _columns(agreements: dict[tuple[str, str], Agreement]) -> dict[str, list[object]]:
    found = list(agreements.values())
    return {
        "first": [first for first, _ in agreements],
        "second": [second for _, second in agreements],
        "kendall_tau": [entry.kendall_tau for entry in found],
        "spearman": [entry.spearman for entry in found],
        "p": [entry.permutations_p for entry in found],
        "samples": [entry.samples for entry in found],
    }
