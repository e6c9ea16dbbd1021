"""Are the features the network's, or the image's? Trained networks against null models."""

from collections.abc import Iterator, Sequence

from eigenfeatures.eigen.figures import STUDY_CAPTIONS, interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Interval
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Exhibit,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
    pair_estimates,
    run_estimates,
)
from eigenfeatures.export.study.plan import NULLS
from eigenfeatures.export.study.stability import SYMBOLS
from eigenfeatures.export.study.subjects import Subject

# Correlations that differ by less are taken for the same.
EQUAL_WITHIN = 0.05

_UNTRAINED, _SHUFFLED = "untrained", "shuffled labels"
_LABELS = {
    **{f"{kind}/pearson": SYMBOLS[kind] for kind in KINDS},
    **{f"{kind}/beyond_image": f"{SYMBOLS[kind]}, beyond the image" for kind in KINDS},
    **{f"{kind}/other_sample": f"{SYMBOLS[kind]}, slices of other samples" for kind in KINDS},
    **{f"{kind}/image": f"{SYMBOLS[kind]}" for kind in KINDS},
}


def nulls_part(study: OpenStudy) -> Part:
    """Compare with untrained networks and with networks trained on shuffled labels."""
    groups = study.plan.groups_of(NULLS)
    if not groups:
        return Part(answer="Null models were not run: add --also nulls to learn whose the features are.")
    trained = dict(study.core)
    if study.plan.reference.name not in trained:
        trained[study.plan.reference.name] = study.accepted(study.plan.reference)
    subjects: dict[str, Sequence[Subject]] = {}
    for name, runs in trained.items():
        subjects[name] = [run.trained for run in runs]
        subjects[_null(name, _UNTRAINED)] = [study.untrained[run.name] for run in runs]
    for group in groups:
        runs = [run for run in study.runs_of(group) if run.ended]
        subjects[_null(study.plan.reference.name, _SHUFFLED)] = [run.trained for run in runs]
    subjects = {name: members for name, members in subjects.items() if members}
    between = [
        (name, null) for name in trained for null in _nulls(name) if name in subjects and null in subjects
    ]
    analysis = study.compare("nulls", subjects, between)
    return _compared(analysis, [name for name in trained if name in subjects], between)


def _null(name: str, kind: str) -> str:
    return f"{name}, {kind}"


def _nulls(name: str) -> tuple[str, str]:
    return _null(name, _UNTRAINED), _null(name, _SHUFFLED)


def _compared(analysis: Analysis, trained: Sequence[str], between: Sequence[tuple[str, str]]) -> Part:
    measures = [
        f"{kind}/{measure}" for measure in ("pearson", "beyond_image", "other_sample") for kind in KINDS
    ]
    seeds = {group: analysis.within(group) for group in analysis.groups}
    stability = pair_estimates(analysis, seeds, measures)
    closeness = run_estimates(analysis, [f"{kind}/image" for kind in KINDS])
    pairings = {
        f"{first} × {second.removeprefix(f'{first}, ')}, {title}": analysis.between(
            first, second, same_seed=same
        )
        for first, second in between
        for title, same in (("same seed", True), ("other seeds", False))
    }
    crossed = pair_estimates(analysis, pairings, [f"{kind}/pearson" for kind in KINDS])
    judged = [name for name in trained if len(analysis.within(name))]
    return Part(
        [sentence for name in judged for sentence in _sentences(analysis, name)],
        list(_exhibits(stability, closeness, crossed)),
        {"nulls": estimate_columns([*stability, *closeness, *crossed])},
        _answer(analysis, judged),
    )


def _sentences(analysis: Analysis, name: str) -> Iterator[str]:
    """Compare a network's runs with each null model."""
    null = _null(name, _UNTRAINED)
    stability, beyond = (
        analysis.paired_groups(f"u1/{measure}", name, null).difference
        for measure in ("pearson", "beyond_image")
    )
    alike, null_alike = (analysis.of_pairs("u1/pearson", analysis.within(group)) for group in (name, null))
    near, null_near = (analysis.of_runs("u1/image", group) for group in (name, null))
    closer = _closer(analysis, name)
    own = analysis.of_pairs("u1/pearson", analysis.between(name, null, same_seed=True))
    yield (
        f"{name}: u₁ of two seeds correlates by {in_words(null_alike)} before the training and by"
        f" {in_words(alike)} after it (difference {in_words(stability)}; beyond the image"
        f" {in_words(beyond)}): training makes it"
        f" {_change(stability, 'more stable', 'less stable', 'no more stable')}. Blurred |∇Y| fits u₁ by"
        f" {in_words(null_near)} before and {in_words(near)} after (difference {in_words(closer)}). A"
        f" network's u₁ correlates by {in_words(own)} with what it showed before its training."
    )
    shuffled = _null(name, _SHUFFLED)
    if shuffled in analysis.groups and len(analysis.within(shuffled)):
        rows = analysis.within(shuffled)
        yield (
            f"{name}: trained on shuffled labels, u₁ of two seeds correlates by"
            f" {in_words(analysis.of_pairs('u1/pearson', rows))}, and blurred |∇Y| fits it by"
            f" {in_words(analysis.of_runs('u1/image', shuffled))}."
        )


def _closer(analysis: Analysis, name: str) -> Interval:
    return analysis.paired_groups_of_runs(
        ("u1/image", name), ("u1/image", _null(name, _UNTRAINED))
    ).difference


def _change(difference: Interval, more: str, less: str, same: str) -> str:
    """Name a change; that it is too small to matter is a finding, that it can't be told is none."""
    unknown = f"{more}, {less} or neither: this study can't tell"
    if not difference.runs:  # the interval speaks of slices only
        return unknown
    if difference.low >= -EQUAL_WITHIN and difference.high <= EQUAL_WITHIN:
        return same
    if difference.low > 0:
        return more
    if difference.high < 0:
        return less
    return unknown


def _answer(analysis: Analysis, judged: Sequence[str]) -> str:
    """Say plainly where untrained networks do as well."""
    if not judged:
        return (
            "Fewer than two trainings of a network learned the task, so that null models have nothing to be"
            " compared with."
        )
    changes = {
        name: analysis.paired_groups("u1/pearson", name, _null(name, _UNTRAINED)).difference
        for name in judged
    }
    more = [name for name, change in changes.items() if change.runs and change.low > EQUAL_WITHIN]
    as_good = [
        name for name, change in changes.items() if name not in more and change.estimate <= EQUAL_WITHIN
    ]
    rest = [name for name in judged if name not in more and name not in as_good]
    words = []
    if as_good:
        close = [name for name in as_good if _closer(analysis, name).estimate <= EQUAL_WITHIN]
        also = f" and, in {', '.join(close)}, as close to blurred |∇Y|" if close else ""
        sure = all(changes[name].runs and changes[name].high <= EQUAL_WITHIN for name in as_good)
        words.append(
            "the u₁ of untrained networks is as stable as that of trained ones in"
            f" {_before_after(analysis, as_good)}{also}: there, stability is the image's and the"
            f" architecture's, and {'not' if sure else 'is not shown to be'} what was learned"
        )
    if more:
        words.append(f"training makes u₁ more stable in {_before_after(analysis, more)}")
    if rest:
        words.append(
            f"whether training makes u₁ more stable can't be told in {_before_after(analysis, rest)}"
        )
    own = ", ".join(
        f"{analysis.of_pairs('u1/pearson', rows).estimate:.2f} ({name})"
        for name in judged
        for rows in [analysis.between(name, _null(name, _UNTRAINED), same_seed=True)]
    )
    sentence = "; ".join(words)
    return (
        f"{sentence[0].upper()}{sentence[1:]}. A trained network's u₁ correlates by {own} with what the same"
        " network showed before its training."
    )


def _before_after(analysis: Analysis, names: Sequence[str]) -> str:
    """List networks with the correlation between seeds before and after the training."""
    found = []
    for name in names:
        before, after = (
            analysis.of_pairs("u1/pearson", analysis.within(group)).estimate
            for group in (_null(name, _UNTRAINED), name)
        )
        found.append(f"{name} ({before:.2f} before, {after:.2f} after training)")
    return ", ".join(found)


def _exhibits(
    stability: Sequence[Estimate], closeness: Sequence[Estimate], crossed: Sequence[Estimate]
) -> Iterator[Exhibit]:
    for name, estimates in (
        ("null_models", stability),
        ("null_models_closeness", closeness),
        ("null_models_before_and_after", crossed),
    ):
        if estimates:
            title = STUDY_CAPTIONS[name].title
            yield exhibit(name, interval_plot(interval_rows(estimates, _LABELS), title, "correlation"))
