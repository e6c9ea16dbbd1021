"""The paper's side claims as factors: augmentation, batch size, standardisation; and the leakage."""

import numpy as np

from eigenfeatures.eigen.figures import interval_plot, leakage_bars
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
)
from eigenfeatures.export.study.plan import CLAIMS, SPLITS, Group

_MEASURES = {"u1/pearson": "u₁", "alpha/pearson": "α", "u1/beyond_image": "u₁, beyond the image"}


def claims_part(study: OpenStudy) -> Part:
    """Compare the runs of each factor with each other and with the unchanged ones."""
    groups = study.plan.groups_of(CLAIMS)
    if not groups:
        return Part()
    reference = study.plan.reference
    members = {group.label: study.accepted(group) for group in (reference, *groups)}
    members = {label: runs for label, runs in members.items() if runs}
    changed = [label for label in members if label != reference.label]
    between = [(reference.label, label) for label in changed if reference.label in members]
    subjects = {label: [run.trained for run in runs] for label, runs in members.items()}
    analysis = study.compare("claims", subjects, between)
    pairings = {f"{label}, between seeds": analysis.within(label) for label in members}
    pairings |= {f"{second}, against unchanged": analysis.between(first, second) for first, second in between}
    estimates = [
        Estimate(label, measure, analysis.of_pairs(measure, rows))
        for label, rows in pairings.items()
        if len(rows)
        for measure in _MEASURES
    ]
    if not estimates:
        return Part([f"Side claims ({reference.preset}): too few runs reached the accuracy that counts."])
    return Part(
        [_sentence(reference, estimates), *_missing(study, groups)],
        [
            exhibit(
                "side_claims",
                interval_plot(
                    interval_rows(estimates, _MEASURES), "Factors of the training", "Pearson correlation"
                ),
            )
        ],
        {"claims": estimate_columns(estimates)},
    )


def _sentence(reference: Group, estimates: list[Estimate]) -> str:
    own = [
        f"{estimate.group.replace(', against unchanged', '')} {in_words(estimate.interval)}"
        for estimate in estimates
        if estimate.quantity == "u1/pearson" and estimate.group.endswith("against unchanged")
    ]
    if not own:
        return f"No unchanged run of {reference.preset} reached the accuracy that counts, to compare with."
    return (
        f"Pearson correlation of u₁ with that of the unchanged network ({reference.preset}):"
        f" {'; '.join(own)}."
    )


def _missing(study: OpenStudy, groups: tuple[Group, ...]) -> list[str]:
    return [
        f"{group.label}: {len(study.accepted(group))} of {len(group.runs)} runs reached the accuracy that"
        " counts."
        for group in groups
        if len(study.accepted(group)) < len(group.runs)
    ]


def leakage_part(study: OpenStudy) -> Part:
    """Put the accuracy by random and by block split side by side."""
    groups = study.plan.groups_of(SPLITS)
    if not groups:
        return Part()
    reference = study.plan.reference
    accuracy = {
        runs[0].settings.split: np.array([np.nan if run.accuracy is None else run.accuracy for run in runs])
        for runs in (study.runs_of(reference), *(study.runs_of(group) for group in groups))
    }
    random, other = accuracy.pop("random"), next(iter(accuracy.values()))
    held_out = next(iter(accuracy))
    difference = float(np.nanmean(random) - np.nanmean(other))
    chance = 1 / len(study.samples.classes)
    figure = leakage_bars({reference.preset: random}, {reference.preset: other}, chance)
    return Part(
        [
            f"Validation accuracy of {reference.preset} by a random split {np.nanmean(random):.3f}, by"
            f" {held_out} {np.nanmean(other):.3f}: a difference of {difference:+.3f} (mean of {len(random)}"
            " seeds each)."
        ],
        [exhibit("leakage", figure)],
        {
            "splits": {
                "split": ["random"] * len(random) + [held_out] * len(other),
                "accuracy": [*random, *other],
            }
        },
    )
