"""A study whose trainings are done, opened to be looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.study.analysis import Analysis, Blocks
from eigenfeatures.eigen.study.measurement import all_pairs
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.passes import Passes
from eigenfeatures.export.study.plan import Group, StudyPlan
from eigenfeatures.export.study.subjects import StudyRun, Subject
from eigenfeatures.export.tables import read_table
from eigenfeatures.kernels import SliceStatistics

# Tables by layer, rank, resolution and iteration look at so-manyth slices.
SPARSE = 8


@dataclass(frozen=True)
class OpenStudy:
    """All that the parts of a study's page are made from.

    Attributes
    ----------
    base : Settings
        What all runs share.
    plan : StudyPlan
        What was trained.
    runs : dict
        Name of a run to it.
    samples : SampleSet
        The open stacks.
    statistics : SliceStatistics
        Of every slice.
    blocks : Blocks
        Of all slices.
    passes : Passes
        Measures.
    """

    base: Settings
    plan: StudyPlan
    runs: Mapping[str, StudyRun]
    samples: SampleSet
    statistics: SliceStatistics
    blocks: Blocks
    passes: Passes

    def runs_of(self, group: Group) -> list[StudyRun]:
        """Return all runs of a group."""
        return [self.runs[name] for name in group.runs]

    def accepted(self, group: Group) -> list[StudyRun]:
        """Return the runs of a group that count."""
        return [run for run in self.runs_of(group) if run.accepted]

    @cached_property
    def split(self) -> NDArray[np.str_]:
        """``train``, ``validation`` or ``guard`` of every slice, the same in all runs of the core."""
        first = next(iter(self.plan.core[0].runs))
        return np.array(read_table(self.runs[first].path / "slices.csv")["split"])

    @cached_property
    def untrained(self) -> Mapping[str, Subject]:
        """The networks of all runs before their first iteration, by the run's name."""
        return {name: run.untrained(self.samples) for name, run in self.runs.items()}

    @property
    def core(self) -> dict[str, list[StudyRun]]:
        """The accepted runs of every preset of the core that has any."""
        found = {group.name: self.accepted(group) for group in self.plan.core}
        return {name: runs for name, runs in found.items() if runs}

    def compare(
        self,
        name: str,
        groups: Mapping[str, Sequence[Subject]],
        between: Sequence[tuple[str, str]] | None = None,
        *,
        every: int = 1,
        **view: object,
    ) -> Analysis:
        """Compare networks in groups.

        Parameters
        ----------
        name
            Of the pass.
        groups
            Name to networks.
        between
            Which groups to compare with each other, beside the pairs within each; all by default.
        every, view
            As for `Passes.compare`.
        """
        positions: dict[str, list[int]] = {}
        subjects: list[Subject] = []
        for group, members in groups.items():
            positions[group] = list(range(len(subjects), len(subjects) + len(members)))
            subjects += members
        pairs = all_pairs(len(subjects))
        if between is not None:
            pairs = pairs[_wanted(pairs, positions, between)]
        measured = self.passes.compare(name, subjects, pairs, every=every, **view)
        return Analysis(measured, positions, self.blocks, tuple(subject.seed for subject in subjects))

    @cached_property
    def core_analysis(self) -> Analysis:
        """All accepted runs of the core, compared on every slice."""
        return self.compare("core", {name: [run.trained for run in runs] for name, runs in self.core.items()})


def _wanted(
    pairs: NDArray[np.int64], positions: Mapping[str, Sequence[int]], between: Sequence[tuple[str, str]]
) -> NDArray[np.bool_]:
    group_of = {run: group for group, runs in positions.items() for run in runs}
    allowed = {frozenset(both) for both in between} | {frozenset([group]) for group in positions}
    return np.array([frozenset((group_of[int(a)], group_of[int(b)])) in allowed for a, b in pairs], bool)
