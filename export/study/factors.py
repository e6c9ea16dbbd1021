"""The paper's side claims as factors: augmentation, batch size, standardisation; and the leakage."""

from collections.abc import Sequence

import numpy as np

from eigenfeatures.eigen.figures import interval_plot, leakage_bars
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.seed_pairs import compare_seed_pairs, seed_pairs
from eigenfeatures.export.study.changes import Change, changes
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
    pair_estimates,
)
from eigenfeatures.export.study.plan import CLAIMS, SPLITS, Group
from eigenfeatures.export.tables import Columns

_MEASURES = {"u1/pearson": "u₁", "alpha/pearson": "α", "u1/beyond_image": "u₁, beyond the image"}


def claims_part(study: OpenStudy) -> Part:
    """Compare the runs of each factor with each other and with those of standard settings."""
    groups = study.plan.groups_of(CLAIMS)
    if not groups:
        return Part()
    reference = study.plan.reference
    standard = f"standard settings{study.plan.reference_seeds}"
    members = {standard: study.accepted(reference)}
    members |= {group.label: study.accepted(group) for group in groups}
    subjects = {label: [run.trained for run in runs] for label, runs in members.items() if runs}
    between = [(standard, label) for label in subjects if label != standard and standard in subjects]
    analysis = study.compare("claims", subjects, between)
    pairings = {f"{label}, between seeds": analysis.within(label) for label in subjects}
    for first, second in between:
        pairings[f"{second} × standard, same seed"] = analysis.between(first, second, same_seed=True)
        pairings[f"{second} × standard, other seeds"] = analysis.between(first, second)
    estimates = pair_estimates(analysis, pairings, _MEASURES)
    if not estimates:
        return Part([f"Side claims ({reference.preset}): too few trainings learned the task."])
    figure = interval_plot(interval_rows(estimates, _MEASURES), "Factors of the training", "correlation")
    return Part(
        [*_sentences(reference.preset, standard, estimates), *_missing(study, groups)],
        [exhibit("side_claims", figure)],
        {"claims": estimate_columns(estimates)},
        _answer(analysis, reference.preset, between),
    )


def _answer(analysis: Analysis, preset: str, between: Sequence[tuple[str, str]]) -> str | None:
    """Say whether two seeds share less of u₁ where a factor differs between them than where it doesn't."""
    tests = {
        factor: compare_seed_pairs(
            seed_pairs(analysis, standard, "u1/pearson"),
            seed_pairs(analysis, standard, "u1/pearson", other=factor),
        )
        for standard, factor in between
    }
    tests = {factor: test for factor, test in tests.items() if np.isfinite(test.difference.estimate)}
    if not tests:
        return None
    found = changes(tests)
    less = [factor for factor in found if found[factor] is Change.MORE]
    unknown = [factor for factor in found if found[factor] is Change.UNKNOWN]
    no_less = [factor for factor in found if factor not in less and factor not in unknown]
    words = [
        f"{verdict} for "
        + ", ".join(f"{factor} ({in_words(tests[factor].difference)} less)" for factor in factors)
        for verdict, factors in (
            ("less than without the change", less),
            ("no less than without the change", no_less),
            ("by an amount that can't be told from that without the change", unknown),
        )
        if factors
    ]
    return (
        f"Where one of two trainings of {preset} has a factor changed, u₁ correlates between seeds"
        f" {'; '.join(words)}."
    )


def _sentences(preset: str, standard: str, estimates: list[Estimate]) -> list[str]:
    """Compare what two trainings share across a factor with what two seeds share without it."""
    u1 = {
        estimate.group: in_words(estimate.interval)
        for estimate in estimates
        if estimate.quantity == "u1/pearson"
    }
    unchanged = u1.pop(f"{standard}, between seeds", "–")
    across = [
        f"{group.split(' × ')[0]} {words}" for group, words in u1.items() if group.endswith("other seeds")
    ]
    own = [
        f"{group.removesuffix(', between seeds')} {words}"
        for group, words in u1.items()
        if group.endswith("between seeds")
    ]
    return [
        f"{preset}: u₁ of two seeds of {standard} correlates by {unchanged}. Of a seed of standard settings"
        f" and another seed with one factor changed: {'; '.join(across) or '–'}. Between seeds with the"
        f" factor changed: {'; '.join(own) or '–'}."
    ]


def _missing(study: OpenStudy, groups: tuple[Group, ...]) -> list[str]:
    return [
        f"{group.label}: {len(study.accepted(group))} of {len(group.runs)} trainings learned the task."
        for group in groups
        if len(study.accepted(group)) < len(group.runs)
    ]


def leakage_part(study: OpenStudy) -> Part:
    """Put the accuracy by random and by block split side by side, seed by seed."""
    groups = study.plan.groups_of(SPLITS)
    if not groups:
        return Part()
    reference = study.plan.reference
    runs = [run for group in (reference, *groups) for run in study.runs_of(group)]
    by_split: dict[str, list[float]] = {}
    for run in runs:
        by_split.setdefault(run.settings.split, []).append(np.nan if run.accuracy is None else run.accuracy)
    random = np.array(by_split.pop("random"))
    held_out, other = next((name, np.array(values)) for name, values in by_split.items())
    differences = (random - other)[np.isfinite(random - other)]
    chance = 1 / len(study.samples.classes)
    figure = leakage_bars({reference.preset: random}, {reference.preset: other}, chance, held_out)
    words = (
        f"The same {reference.preset} networks reach a validation accuracy of {np.nanmean(random):.3f} by a"
        f" random split and of {np.nanmean(other):.3f} by {held_out}: {np.mean(differences):+.3f} in the mean"
        f" of {len(differences)} seeds, from {np.min(differences):+.3f} to {np.max(differences):+.3f}, for"
        " one position of the held-out part."
        if len(differences)
        else "No training by both splits ended, so that leakage can't be told."
    )
    table: Columns = {
        "run": [run.name for run in runs],
        "split": [run.settings.split for run in runs],
        "seed": [run.settings.seed for run in runs],
        "accuracy": [run.accuracy for run in runs],
    }
    return Part([words], [exhibit("leakage", figure)], {"splits": table}, words)
