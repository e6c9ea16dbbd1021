"""The paper's first claim, within each run: u₁ agrees with the strongest channel, and is clearer."""

from eigenfeatures.eigen.figures import interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.chunks import KINDS, SCALES
from eigenfeatures.eigen.study.significance import significant
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
    p_in_words,
    run_estimates,
)
from eigenfeatures.export.study.stability import MEASURE_NAMES, SYMBOLS

_CLARITY = {"repeatability": "repeatability", "contrast_to_noise": "contrast to noise"}


def agreement_part(study: OpenStudy) -> Part:
    """Measure u₁ against α in each run, and how clear both are."""
    if not study.core:
        return Part()
    analysis = study.core_analysis
    shown = (*KINDS, *(f"image{scale}" for scale in SCALES))
    agreement = run_estimates(analysis, [f"agreement/{measure}" for measure in MEASURES])
    clarity = run_estimates(analysis, [f"{kind}/{measure}" for measure in _CLARITY for kind in shown])
    labels = {f"agreement/{measure}": MEASURE_NAMES[measure] for measure in MEASURES}
    figure = interval_plot(
        interval_rows(agreement, labels), "u₁ against α of the same slice and run", "similarity"
    )
    return Part(
        [_sentence(analysis, group) for group in analysis.groups],
        [exhibit("agreement", figure), *_clarity_exhibits(clarity)],
        {"agreement": estimate_columns(agreement), "clarity": estimate_columns(clarity)},
        _answer(analysis),
    )


def _answer(analysis: Analysis) -> str:
    agreement = {group: analysis.of_runs("agreement/pearson", group).estimate for group in analysis.groups}
    listed = ", ".join(f"{value:.2f} ({group})" for group, value in agreement.items())
    tests = {
        (group, measure): analysis.paired_runs(f"u1/{measure}", f"alpha/{measure}", group)
        for group in analysis.groups
        for measure in _CLARITY
    }
    ahead = {label for label in significant(tests) if tests[label].difference.estimate > 0}
    clearer = [group for group in analysis.groups if all((group, measure) in ahead for measure in _CLARITY)]
    verdict = f"clearer by both measures in {', '.join(clearer)}" if clearer else "not shown to be clearer"
    return (
        f"Within a run, u₁ agrees with the strongest channel by a correlation of {listed}; it is {verdict}."
    )


def _sentence(analysis: Analysis, group: str) -> str:
    pearson, ssim, iou = (analysis.of_runs(f"agreement/{name}", group) for name in ("pearson", "ssim", "iou"))
    parts = [
        f"{group}: u₁ against α in the same run: Pearson correlation {in_words(pearson)}, SSIM"
        f" {in_words(ssim)}, overlap of the top 10 % {in_words(iou)}."
    ]
    for measure, name in _CLARITY.items():
        u1, alpha = (analysis.of_runs(f"{kind}/{measure}", group) for kind in KINDS)
        test = analysis.paired_runs(f"u1/{measure}", f"alpha/{measure}", group)
        parts.append(
            f"{name.capitalize()} of u₁ {in_words(u1)}, of α {in_words(alpha)}, "
            f"difference {in_words(test.difference)} ({p_in_words(test.p)})."
        )
    other = analysis.of_runs("u1/other_sample", group)
    parts.append(f"With slices of other samples u₁ correlates by {in_words(other)}, within one run.")
    return " ".join(parts)


def _clarity_exhibits(clarity: list[Estimate]) -> list[Exhibit]:
    found = []
    for measure, name in _CLARITY.items():
        labels = {f"{kind}/{measure}": SYMBOLS[kind] for kind in KINDS}
        labels |= {
            f"image{scale}/{measure}": f"|∇Y| blurred by {scale}" if scale else "|∇Y|" for scale in SCALES
        }
        chosen = [estimate for estimate in clarity if estimate.quantity in labels]
        figure = interval_plot(interval_rows(chosen, labels), f"Clarity: {name}", name)
        found.append(exhibit("clarity", figure, of=name))
    return found
