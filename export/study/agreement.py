"""The paper's first claim, within each run: u₁ agrees with the strongest channel, and is clearer."""

from dataclasses import replace

from eigenfeatures.eigen.figures import interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.chunks import KINDS, SCALES
from eigenfeatures.eigen.study.similarity import MEASURES
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
from eigenfeatures.export.study.stability import MEASURE_NAMES, SYMBOLS

_CLARITY = {"repeatability": "repeatability", "contrast_to_noise": "contrast to noise"}


def agreement_part(study: OpenStudy) -> Part:
    """Measure u₁ against α in each run, and how clear both are."""
    if not study.core:
        return Part()
    analysis = study.core_analysis()
    agreement = [
        Estimate(group, f"agreement/{measure}", analysis.of_runs(f"agreement/{measure}", group))
        for group in analysis.groups
        for measure in MEASURES
    ]
    shown = (*KINDS, *(f"image{scale}" for scale in SCALES))
    clarity = [
        Estimate(group, f"{kind}/{measure}", analysis.of_runs(f"{kind}/{measure}", group))
        for group in analysis.groups
        for measure in _CLARITY
        for kind in shown
    ]
    labels = {f"agreement/{measure}": name for measure, name in MEASURE_NAMES.items()}
    findings = [_sentence(analysis, group) for group in analysis.groups]
    return Part(
        findings,
        [
            exhibit(
                "agreement",
                interval_plot(
                    interval_rows(agreement, labels), "u₁ against α of the same slice and run", "similarity"
                ),
            ),
            *(_clarity_exhibits(clarity)),
        ],
        {"agreement": estimate_columns(agreement), "clarity": estimate_columns(clarity)},
    )


def _sentence(analysis: Analysis, group: str) -> str:
    pearson, iou = (analysis.of_runs(f"agreement/{measure}", group) for measure in ("pearson", "iou"))
    parts = [
        f"{group}: u₁ against α in the same run: Pearson correlation {in_words(pearson)}, "
        f"overlap of the top 10 % {in_words(iou)}."
    ]
    for measure, name in _CLARITY.items():
        u1, alpha = (analysis.of_runs(f"{kind}/{measure}", group) for kind in KINDS)
        test = analysis.paired_runs(f"u1/{measure}", f"alpha/{measure}", group)
        parts.append(
            f"{name.capitalize()} of u₁ {in_words(u1)}, of α {in_words(alpha)}, "
            f"difference {in_words(test.difference)} (p = {test.p:.2g})."
        )
    return " ".join(parts)


def _clarity_exhibits(clarity: list[Estimate]) -> list[Exhibit]:
    found = []
    for measure, name in _CLARITY.items():
        labels = {f"{kind}/{measure}": SYMBOLS[kind] for kind in KINDS}
        labels |= {
            f"image{scale}/{measure}": f"|∇Y| smoothed by {scale}" if scale else "|∇Y|" for scale in SCALES
        }
        chosen = [estimate for estimate in clarity if estimate.quantity in labels]
        figure = interval_plot(interval_rows(chosen, labels), f"Clarity: {name}", name)
        made = exhibit("clarity", figure)
        found.append(replace(made, name=f"clarity_{measure}", title=f"{made.title} {name.capitalize()}"))
    return found
