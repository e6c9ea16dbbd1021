"""Are the features the network's, or the image's? Trained networks against null models."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eigenfeatures.eigen.figures import interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Interval
from eigenfeatures.eigen.study.chunks import KINDS, SCALES
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
from eigenfeatures.export.study.plan import NULLS
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import Subject

_IMAGES = tuple(f"image{scale}" for scale in SCALES)


def image_part(study: OpenStudy) -> Part:
    """Compare the maps of trained networks with the gradient image; needs no null model."""
    if not study.core:
        return Part()
    analysis = study.core_analysis()
    findings = []
    for group in analysis.groups:
        fitting, near = _nearest(analysis, group)
        sentence = f"{group}: u₁ correlates with |∇Y| smoothed by {fitting} pixels by {in_words(near)}"
        rows = analysis.within(group)
        if len(rows):
            between, beyond = (
                analysis.of_pairs(f"u1/{measure}", rows) for measure in ("pearson", "beyond_image")
            )
            sentence += (
                f", with u₁ of another seed by {in_words(between)}, and by {in_words(beyond)} beyond what the"
                " gradient image explains"
            )
        findings.append(f"{sentence}.")
    estimates = [
        Estimate(group, f"{kind}/{image}", analysis.of_runs(f"{kind}/{image}", group))
        for group in analysis.groups
        for kind in KINDS
        for image in _IMAGES
    ]
    return Part(findings, [_image_exhibit(estimates)], {"gradient_image": estimate_columns(estimates)})


def nulls_part(study: OpenStudy) -> Part:
    """Compare with untrained networks and with networks trained on shuffled labels."""
    groups = study.plan.groups_of(NULLS)
    if not groups or not study.core:
        return Part(["Null models were not run: add --also nulls."])
    subjects: dict[str, Sequence[Subject]] = {}
    between: list[tuple[str, str]] = []
    for name, runs in study.core.items():
        subjects[name] = [run.trained for run in runs]
        subjects[f"{name}, untrained"] = [run.untrained(study.samples) for run in runs]
        between.append((name, f"{name}, untrained"))
    preset = study.plan.reference.name
    for group in groups:
        runs = [run for run in study.runs_of(group) if run.accuracy is not None]
        if runs:
            subjects[f"{preset}, shuffled labels"] = [run.trained for run in runs]
            if preset in subjects:
                between.append((preset, f"{preset}, shuffled labels"))
    analysis = study.compare("nulls", subjects, between)
    return _compared(study, analysis, between)


def _compared(study: OpenStudy, analysis: Analysis, between: Sequence[tuple[str, str]]) -> Part:
    stability, closeness = [], []
    for group in analysis.groups:
        rows = analysis.within(group)
        if len(rows):
            stability += [
                Estimate(group, f"{kind}/{measure}", analysis.of_pairs(f"{kind}/{measure}", rows))
                for kind in KINDS
                for measure in ("pearson", "beyond_image")
            ]
        fitting, near = _nearest(analysis, group)
        closeness.append(Estimate(group, f"u1/image{fitting}", near))
    crossed = [
        Estimate(f"{first} × {second}", f"{kind}/pearson", analysis.of_pairs(f"{kind}/pearson", rows))
        for first, second in between
        for kind in KINDS
        for rows in [analysis.between(first, second)]
        if len(rows)
    ]
    findings = [_verdict(name, stability, closeness) for name in study.core]
    return Part(
        [sentence for sentence in findings if sentence],
        _exhibits(stability, closeness, crossed),
        {"nulls": estimate_columns([*stability, *closeness, *crossed])},
    )


def _verdict(name: str, stability: Sequence[Estimate], closeness: Sequence[Estimate]) -> str | None:
    """Say plainly whether untrained networks do as well."""
    alike = {estimate.group: estimate.interval for estimate in stability if estimate.quantity == "u1/pearson"}
    beyond = {
        estimate.group: estimate.interval for estimate in stability if estimate.quantity == "u1/beyond_image"
    }
    near = {estimate.group: estimate.interval for estimate in closeness}
    null = f"{name}, untrained"
    if name not in alike or null not in alike:
        return None
    as_stable = alike[null].estimate >= alike[name].low
    as_close = near[null].estimate >= near[name].low
    words = (
        f"{name}: untrained networks' u₁ is {'as stable as' if as_stable else 'less stable than'} that of"
        " trained ones"
    )
    words += f" ({in_words(alike[null])} against {in_words(alike[name])}), and "
    words += (
        f"{'as close to' if as_close else 'less close to'} a smoothed gradient image ({in_words(near[null])} "
    )
    words += f"against {in_words(near[name])})"
    if as_stable and as_close:
        words += ": this stability is the image's and the architecture's, not what was learned"
    words += (
        f". Beyond the image, trained ones agree by {in_words(beyond[name])}, untrained ones by"
        f" {in_words(beyond[null])}."
    )
    return words


def _exhibits(
    stability: Sequence[Estimate], closeness: Sequence[Estimate], crossed: Sequence[Estimate]
) -> list[Exhibit]:
    labels = {f"{kind}/pearson": SYMBOLS[kind] for kind in KINDS}
    labels |= {f"{kind}/beyond_image": f"{SYMBOLS[kind]}, beyond the image" for kind in KINDS}
    labels |= {
        f"u1/{image}": f"u₁ with {_image_name(scale)}" for image, scale in zip(_IMAGES, SCALES, strict=True)
    }
    found = []
    for name, estimates, title in (
        ("stability", stability, "Pearson correlation between seeds, trained and null models"),
        ("closeness", closeness, "Pearson correlation with the best fitting gradient image"),
        ("crossed", crossed, "Pearson correlation between trained networks and null models"),
    ):
        if estimates:
            figure = interval_plot(interval_rows(estimates, labels), title, "Pearson correlation")
            found.append(replace(exhibit("null_models", figure), name=f"null_models_{name}", title=title))
    return found


def _image_exhibit(estimates: Sequence[Estimate]) -> Exhibit:
    labels = {
        f"{kind}/{image}": f"{SYMBOLS[kind]}, {_image_name(scale)}"
        for kind in KINDS
        for image, scale in zip(_IMAGES, SCALES, strict=True)
    }
    figure = interval_plot(
        interval_rows(estimates, labels),
        "Correlation of the maps with the gradient image",
        "Pearson correlation",
    )
    return Exhibit(
        "gradient_image",
        "How close are the maps to the gradient image?",
        "Each point is the mean Pearson correlation of a map with |∇Y| of the same slice, smoothed by a"
        " Gaussian whose deviation is given in pixels of the slice; bars are 95 % intervals. A map that is"
        " close to a smoothed gradient image says little that filtering the image would not.",
        figure,
    )


def _nearest(analysis: Analysis, group: str) -> tuple[int, Interval]:
    """Return the smoothing whose gradient image u₁ is nearest to, and how near it is."""
    rows = list(analysis.groups[group])
    means = [np.nanmean(analysis.measured.of_runs[f"u1/{image}"][rows]) for image in _IMAGES]
    best = int(np.argmax(means))
    return SCALES[best], analysis.of_runs(f"u1/{_IMAGES[best]}", group)


def _image_name(scale: int) -> str:
    return f"|∇Y| smoothed by {scale}" if scale else "|∇Y|"
