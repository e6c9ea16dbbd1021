"""How the samples rank (Fig. 10): by the activation of α, by |∇Y|, and by properties that the user knows."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.figures import order_plot
from eigenfeatures.eigen.study.measurement import Measured
from eigenfeatures.eigen.study.ordering import Agreement, concordance, rank_agreement, sample_means
from eigenfeatures.eigen.study.properties import read_properties
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.parts import Part, exhibit, p_in_words

_GRADIENT = "mean |∇Y|"
_EARLIER_LAYER = "relu1"


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
        quantities[f"α of {name}"] = values.mean(axis=0)
        if len(values) > 1:
            sentences.append(
                f"{len(values)} runs of {name} agree on the order of the samples by the activation of α by "
                f"{concordance(values):.2f} (Kendall's W: 1 fully, {1 / len(values):.2f} by chance)."
            )
    quantities |= known
    agreements = {
        (first, second): rank_agreement(quantities[first], quantities[second])
        for number, first in enumerate(quantities)
        for second in list(quantities)[number + 1 :]
    }
    told = [
        (pair, found) for pair, found in agreements.items() if _GRADIENT in pair or set(pair) & set(known)
    ]
    return Part(
        [*(_sentence(pair, found) for pair, found in told), *sentences],
        [exhibit("order", order_plot(quantities, classes), _table(agreements) if agreements else None)],
        {
            "order": {"sample": list(classes), **quantities},
            "order_agreement": _columns(agreements),
        },
        _answer(agreements, len(classes)),
    )


def _answer(agreements: dict[tuple[str, str], Agreement], samples: int) -> str:
    """Say how far activation and gradient put the samples in one order."""
    taus = [
        found.kendall_tau
        for (first, second), found in agreements.items()
        if first == _GRADIENT and second.startswith("α")
    ]
    if not taus:
        return "No run counts, so samples are not ranked by the activation of α."
    return (
        f"By the activation of α, networks and layers rank the {samples} samples as mean |∇Y| does with a"
        f" Kendall's τ of {min(taus):.2f} to {max(taus):.2f} (1 is the same order)."
    )


def _activations(study: OpenStudy) -> dict[str, NDArray[np.float64]]:
    """Return the mean activation of α, ``(runs, samples)``, for each network, at two layers as in Fig. 10."""
    if not study.core:
        return {}
    found = {}
    for layer in dict.fromkeys((_EARLIER_LAYER, study.passes.view.layer)):
        if layer == study.passes.view.layer:
            analysis = study.core_analysis
        else:
            # Every run a group of its own: their activation is asked for, not how alike they are.
            alone = {run.name: [run.trained] for runs in study.core.values() for run in runs}
            analysis = study.compare(f"activation {layer}", alone, [], every=SPARSE, layer=layer, rank=1)
        means = _by_run(study, analysis.measured)
        for name, runs in study.core.items():
            found[f"{name}, {layer}"] = np.stack([means[run.name] for run in runs])
    return found


def _by_run(study: OpenStudy, measured: Measured) -> dict[str, NDArray[np.float64]]:
    label, classes = study.samples.label[measured.slices], study.samples.classes
    return {
        run: sample_means(values, label, classes)
        for run, values in zip(measured.runs, measured.of_runs["activation"], strict=True)
    }


def _sentence(pair: tuple[str, str], found: Agreement) -> str:
    return (
        f"Order of the samples by {pair[0]} and by {pair[1]}: Kendall's τ = {found.kendall_tau:.2f}, "
        f"{p_in_words(found.permutations_p)} over {found.samples} samples."
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
