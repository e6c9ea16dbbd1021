"""Are the features the network's, or the image's? Trained networks against null models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eigenfeatures.eigen.figures import STUDY_CAPTIONS, interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Interval
from eigenfeatures.eigen.study.chunks import KINDS
from eigenfeatures.eigen.study.seed_pairs import compare_seed_pairs, seed_pairs
from eigenfeatures.export.study.changes import Change, changes, not_above
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

_UNTRAINED, _SHUFFLED = "untrained", "shuffled labels"
# How a network is called in the null model, and without it.
_STATES = {
    _UNTRAINED: ("before", "after training"),
    _SHUFFLED: ("with shuffled labels", "with the true ones"),
}
# What a null model is, what it lacks, and what follows where it does as well.
_SAID = {
    _UNTRAINED: (
        "untrained networks",
        "training makes u₁ more stable",
        "stability is the image's and the architecture's, and not what was learned",
    ),
    _SHUFFLED: (
        "networks trained on shuffled labels",
        "the true labels make u₁ more stable than shuffled ones",
        "stability does not come from what tells the samples apart",
    ),
}
_VERDICTS = {
    Change.MORE: "makes it more stable",
    Change.LESS: "makes it less stable",
    Change.SAME: "makes it neither more nor less stable",
    Change.NOT_MORE: "does not make it more stable",
    Change.UNKNOWN: "is not shown to make it more or less stable",
}
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
    found = _comparisons(analysis, judged)
    return Part(
        [_sentence(analysis, comparison) for comparison in found],
        list(_exhibits(stability, closeness, crossed)),
        {"nulls": estimate_columns([*stability, *closeness, *crossed])},
        _answer(analysis, judged, found),
    )


@dataclass(frozen=True)
class _Comparison:
    """How stable u₁ is in trained networks and in a null model of them, the seeds being the same.

    Attributes
    ----------
    name, kind : str
        The network and the null model.
    trained, null : float
        Mean correlation between two seeds.
    difference : Interval
        Of trained less null.
    change : Change
        What it shows, all comparisons considered.
    """

    name: str
    kind: str
    trained: float
    null: float
    difference: Interval
    change: Change

    @property
    def null_name(self) -> str:
        return _null(self.name, self.kind)

    def __str__(self) -> str:
        before, after = _STATES[self.kind]
        return (
            f"{self.name} ({self.null:.2f} {before}, {self.trained:.2f} {after}, difference"
            f" {in_words(self.difference)})"
        )


def _comparisons(analysis: Analysis, judged: Sequence[str]) -> list[_Comparison]:
    """Compare networks with the null models of which two seeds are theirs too."""
    pairs = {
        (name, kind): [seed_pairs(analysis, group, "u1/pearson") for group in (name, _null(name, kind))]
        for name in judged
        for kind in (_UNTRAINED, _SHUFFLED)
        if _null(name, kind) in analysis.groups
    }
    tests = {key: compare_seed_pairs(*both) for key, both in pairs.items()}
    found = []
    for (name, kind), change in changes(tests).items():
        own, null = pairs[name, kind]
        common = sorted(own.values.keys() & null.values.keys())
        if common:
            difference = tests[name, kind].difference
            found.append(_Comparison(name, kind, own.mean(common), null.mean(common), difference, change))
    return found


def _sentence(analysis: Analysis, comparison: _Comparison) -> str:
    """Compare a network's runs with a null model."""
    name, null, verdict = comparison.name, comparison.null_name, _VERDICTS[comparison.change]
    alike, null_alike = (analysis.of_pairs("u1/pearson", analysis.within(group)) for group in (name, null))
    near, null_near = (analysis.of_runs("u1/image", group) for group in (name, null))
    if comparison.kind == _SHUFFLED:
        return (
            f"{name}: trained on shuffled labels, u₁ of two seeds correlates by {in_words(null_alike)}, and"
            f" blurred |∇Y| fits it by {in_words(null_near)}. Having the true labels {verdict} (difference of"
            f" the same seeds {in_words(comparison.difference)})."
        )
    beyond = compare_seed_pairs(
        *(seed_pairs(analysis, group, "u1/beyond_image") for group in (name, null))
    ).difference
    own = analysis.of_pairs("u1/pearson", analysis.between(name, null, same_seed=True))
    return (
        f"{name}: u₁ of two seeds correlates by {in_words(null_alike)} before the training and by"
        f" {in_words(alike)} after it (difference {in_words(comparison.difference)}; beyond the image"
        f" {in_words(beyond)}): training {verdict}. Blurred |∇Y| fits u₁ by {in_words(null_near)} before and"
        f" {in_words(near)} after (difference {in_words(_closer(analysis, name))}). A network's u₁ correlates"
        f" by {in_words(own)} with what it showed before its training."
    )


def _closer(analysis: Analysis, name: str) -> Interval:
    return analysis.paired_groups_of_runs(
        ("u1/image", name), ("u1/image", _null(name, _UNTRAINED))
    ).difference


def _answer(analysis: Analysis, judged: Sequence[str], found: Sequence[_Comparison]) -> str:
    """Say plainly where null models do as well."""
    if not judged:
        return (
            "Fewer than two trainings of a network learned the task, so that null models have nothing to be"
            " compared with."
        )
    words = "; ".join(part for kind in _STATES for part in _verdict(analysis, kind, found))
    own = ", ".join(
        f"{analysis.of_pairs('u1/pearson', rows).estimate:.2f} ({name})"
        for name in judged
        for rows in [analysis.between(name, _null(name, _UNTRAINED), same_seed=True)]
    )
    return (
        f"{words[0].upper()}{words[1:]}.{_ahead(found)} A trained network's u₁ correlates by {own} with what"
        " the same network showed before its training."
    )


def _verdict(analysis: Analysis, kind: str, found: Sequence[_Comparison]) -> Iterator[str]:
    """Sort the networks by what is shown of them against a null model."""
    own = [comparison for comparison in found if comparison.kind == kind]
    more = [comparison for comparison in own if comparison.change is Change.MORE]
    unknown = [comparison for comparison in own if comparison.change is Change.UNKNOWN]
    as_good = [comparison for comparison in own if comparison not in more and comparison not in unknown]
    networks, cause, meaning = _SAID[kind]
    if as_good:
        close = [
            comparison.name
            for comparison in as_good
            if kind == _UNTRAINED and not_above(_closer(analysis, comparison.name))
        ]
        also = f" and, in {', '.join(close)}, as close to blurred |∇Y|" if close else ""
        yield (
            f"the u₁ of {networks} is at least as stable as that of trained ones in {_listed(as_good)}"
            f"{also}: there, {meaning}"
        )
    if more:
        yield f"{cause} in {_listed(more)}"
    if unknown:
        yield f"it is not shown that {cause} in {_listed(unknown)}"


def _ahead(found: Sequence[_Comparison]) -> str:
    """Name the null models whose mean is at or above that of the trained networks, whatever is shown."""
    ahead = [comparison.null_name for comparison in found if comparison.null >= comparison.trained]
    return f" By its mean, a null model is at least as stable: {'; '.join(ahead)}." if ahead else ""


def _listed(comparisons: Sequence[_Comparison]) -> str:
    return ", ".join(map(str, comparisons))


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
