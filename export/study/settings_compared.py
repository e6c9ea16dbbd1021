"""Which layer, resolution, centring, rank and operator give the most stable features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from eigenfeatures.eigen.figures import IntervalRow, interval_plot
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.bootstrap import Interval
from eigenfeatures.eigen.study.seed_pairs import SeedPairs, compare_seed_pairs, seed_pairs
from eigenfeatures.eigen.study.significance import significant
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.parts import Exhibit, Part, exhibit, in_words, interval_columns
from eigenfeatures.export.study.plan import NULLS, OPERATOR_PLAN
from eigenfeatures.export.study.subjects import StudyRun, Subject
from eigenfeatures.export.tables import Columns

_PEARSON, _BEYOND = "u1/pearson", "u1/beyond_image"
_OTHER = "u1/other_sample"
_MEASURES = {
    _PEARSON: "u₁",
    _OTHER: "u₁, slices of other samples",
    _BEYOND: "u₁, beyond the image",
    "u1/iou": "u₁, IoU of the top 10 %",
    "alpha/pearson": "α",
    **{f"overlap{rank}": f"shared part of {rank} leading image{'s' * (rank > 1)}" for rank in SUBSPACE_RANKS},
}
_TRAINED = "trained"
_STUDIED = "the study's own setting"


@dataclass(frozen=True)
class _Setting:
    """A way to look at the runs of a network, and how alike they are then.

    Attributes
    ----------
    network, label, state : str
        Which runs, what is looked at, and ``trained`` or ``untrained``.
    alike : dict
        Name of a measure to its mean over pairs of runs.
    distinct : SeedPairs
        What two seeds share on a slice beyond what any two slices share, such as a frame of padding;
        where these share less than nothing, all that the seeds share.
    """

    network: str
    label: str
    state: str
    alike: dict[str, Interval]
    distinct: SeedPairs

    @property
    def title(self) -> str:
        return self.label if self.state == _TRAINED else f"{self.label}, {self.state}"


def settings_part(study: OpenStudy) -> Part:
    """Compare ways to look at the trained networks, each on a few slices."""
    rows = [
        row
        for name, runs in study.core.items()
        if len(runs) > 1
        for label, view in _views(study, runs[0])
        for row in _rows(
            study.compare(f"{name} {label}", _subjects(study, runs), [], every=SPARSE, **view), name, label
        )
    ]
    rows += _operators(study)
    if not rows:
        return Part()
    return Part(
        _sentences(rows),
        _exhibits(rows),
        {"settings": _columns(rows)},
    )


def _subjects(study: OpenStudy, runs: Sequence[StudyRun]) -> dict[str, list[Subject]]:
    found = {_TRAINED: [run.trained for run in runs]}
    if study.plan.groups_of(NULLS):
        found["untrained"] = [study.untrained[run.name] for run in runs]
    return found


def _views(study: OpenStudy, run: StudyRun) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield what differs from the study's view, under a label."""
    own = study.passes.view
    network = build_network(run.settings.preset, len(study.samples.classes), study.samples.size)
    yield _STUDIED, {}
    for layer in network.response_layers:
        if layer != own.layer:
            yield layer, {"layer": layer}
    resolution = "dense" if own.resolution == "pooled" else "pooled"
    yield f"{own.layer}, {resolution}", {"resolution": resolution}
    yield f"{own.layer}, centred", {"center": True}


def _rows(analysis: Analysis, network: str, label: str) -> Iterator[_Setting]:
    for state in analysis.groups:
        pairs = analysis.within(state)
        if len(pairs):
            alike = {name: analysis.of_pairs(name, pairs) for name in _MEASURES}
            yield _Setting(network, label, state, alike, seed_pairs(analysis, state, _PEARSON, less=_OTHER))


def _operators(study: OpenStudy) -> list[_Setting]:
    """Compare the runs of each gradient operator among themselves."""
    groups = study.plan.groups_of(OPERATOR_PLAN)
    if not groups:
        return []
    members = {study.base.operator: study.accepted(study.plan.reference)}
    members |= {next(iter(group.runs.values())).operator: study.accepted(group) for group in groups}
    subjects = {name: [run.trained for run in runs] for name, runs in members.items()}
    analysis = study.compare("operators", subjects, [], every=SPARSE)
    # What is beyond the image is measured with the study's operator, whatever a run's own is.
    nothing = Interval(np.nan, np.nan, np.nan, 0, np.nan, np.nan)
    network = f"{study.plan.reference.preset} by operator"
    return [
        replace(
            row,
            network=network,
            label=_operator_label(study, row.state),
            state=_TRAINED,
            alike={**row.alike, _BEYOND: nothing},
        )
        for row in _rows(analysis, "", "")
    ]


def _operator_label(study: OpenStudy, operator: str) -> str:
    return f"{operator} gradient{study.plan.reference_seeds if operator == study.base.operator else ''}"


def _sentences(rows: Sequence[_Setting]) -> list[str]:
    """Name the most stable setting of each network, and those that can't be told from it."""
    found = []
    for network in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == network and row.state == _TRAINED]
        best = max(own, key=_score)
        others = _not_told_from(best, own)
        sentence = (
            f"{network}: u₁ is the most stable at {best.label}, by how much more two seeds agree on a slice"
            f" ({in_words(best.alike[_PEARSON])}) than on slices of different samples"
            f" ({in_words(best.alike[_OTHER])}; under 0 counts as 0)"
        )
        told = f"; not told from it: {', '.join(others)}" if others else ""
        found.append(f"{sentence}{told}. {_rank_sentence(own)}".rstrip())
    return found


def _score(row: _Setting) -> float:
    return float(np.nan_to_num(row.distinct.mean(row.distinct.values), nan=-2.0))


def _not_told_from(best: _Setting, settings: Sequence[_Setting]) -> list[str]:
    """Name the settings of which it isn't shown that the same seeds share less, on the same slices.

    Which one is the best is seen in the data, so that any two could have been compared: all pairs of
    settings are corrected for, and not only those that the best one is in.
    """
    tests = {
        frozenset((one.label, other.label)): compare_seed_pairs(one.distinct, other.distinct)
        for one, other in combinations(settings, 2)
    }
    shown = significant(tests)
    return [
        row.label for row in settings if row is not best and frozenset((best.label, row.label)) not in shown
    ]


def _rank_sentence(rows: Sequence[_Setting]) -> str:
    """Say how much of the leading images two seeds share at the layer of the study."""
    row = next((row for row in rows if row.label == _STUDIED), None)
    if row is None:
        return ""
    shared = ", ".join(f"{rank}: {in_words(row.alike[f'overlap{rank}'])}" for rank in SUBSPACE_RANKS)
    return f"Of its leading images two seeds share {shared}."


def _exhibits(rows: Sequence[_Setting]) -> list[Exhibit]:
    """Draw a figure a network; the table of all stands below the first."""
    found: list[Exhibit] = []
    for network in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == network]
        states = list(dict.fromkeys(row.state for row in own))
        groups = [(state, _PEARSON, f"between seeds, {state}") for state in states]
        groups.append((_TRAINED, _OTHER, f"slices of other samples, {_TRAINED}"))
        plotted = [
            IntervalRow(row.label, group, *_ends(row.alike[measure]))
            for state, measure, group in groups
            for row in own
            if row.state == state
        ]
        figure = interval_plot(
            plotted, f"Similarity of u₁ between seeds by setting: {network}", "Pearson correlation"
        )
        found.append(exhibit("settings_compared", figure, None if found else _table(rows), network))
    return found


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _table(rows: Sequence[_Setting]) -> Table:
    body: list[list[Cell]] = [
        [f"{row.network}: {row.title}", *(in_words(row.alike[name]) for name in _MEASURES)] for row in rows
    ]
    return Table(["setting", *_MEASURES.values()], body)


def _columns(rows: Sequence[_Setting]) -> Columns:
    cells = [(row, name) for row in rows for name in _MEASURES]
    return {
        "network": [row.network for row, _ in cells],
        "setting": [row.label for row, _ in cells],
        "state": [row.state for row, _ in cells],
        "quantity": [name for _, name in cells],
        **interval_columns([row.alike[name] for row, name in cells]),
    }
