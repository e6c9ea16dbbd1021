"""Every run of a study: what it reached, and whether it counts."""

from collections.abc import Iterator

from eigenfeatures.export.html import Cell, Table
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import Exhibit, Part
from eigenfeatures.export.study.plan import NULLS, Group
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY, StudyRun
from eigenfeatures.export.tables import Columns


def runs_part(study: OpenStudy) -> Part:
    """List all runs, and name those that are left out."""
    listed = list(_listed(study))
    left_out = [run for group, run in listed if not run.accepted and group.plan != NULLS]
    findings = []
    if left_out:
        names = ", ".join(f"{run.name} ({_accuracy(run)})" for run in left_out)
        findings.append(
            "Left out of every figure of similarity, their validation accuracy being under"
            f" {ACCEPTED_ACCURACY}: {names}."
        )
        if advised := advice(study):
            findings.append(advised)
    else:
        findings.append(
            f"All trainings but null models reached a validation accuracy of {ACCEPTED_ACCURACY}."
        )
    rows: list[list[Cell]] = [
        [run.name, group.plan, group.label, _accuracy(run), _counts(group, run)] for group, run in listed
    ]
    table = Table(["run", "plan", "group", "validation accuracy", "counts"], rows)
    text = (
        "A run counts in figures of similarity where its validation accuracy is at least"
        f" {ACCEPTED_ACCURACY}. Each is a folder below runs/ that the other commands take too."
    )
    columns: Columns = {
        "run": [run.name for _, run in listed],
        "plan": [group.plan for group, _ in listed],
        "preset": [run.settings.preset for _, run in listed],
        "seed": [run.settings.seed for _, run in listed],
        "group": [group.label for group, _ in listed],
        "validation_accuracy": [run.accuracy for _, run in listed],
        "counts": [_counts(group, run) for group, run in listed],
    }
    answer = None if study.core else advice(study)
    return Part(findings, [Exhibit("runs", "All runs", text, table=table)], {"runs": columns}, answer)


def advice(study: OpenStudy) -> str | None:
    """Say what helps where trainings of the core ended without having learned the task."""
    core = [run for group in study.plan.core for run in study.runs_of(group)]
    short = [run for run in core if run.ended and not run.accepted]
    if not short:
        return None
    return (
        f"{len(short)} of {len(core)} core runs do not count, their validation accuracy being under"
        f" {ACCEPTED_ACCURACY} after {short[0].settings.iterations} iterations; give more --iterations, and"
        " another --out."
    )


def _listed(study: OpenStudy) -> Iterator[tuple[Group, StudyRun]]:
    groups = [*study.plan.core, *study.plan.further]
    if study.plan.further:
        groups.insert(len(study.plan.core), study.plan.reference)
    listed = set()
    for group in groups:
        for run in study.runs_of(group):
            if run.name not in listed:  # the first seeds of the reference may be the core's
                listed.add(run.name)
                yield group, run


def _accuracy(run: StudyRun) -> str:
    return "diverged" if run.accuracy is None else f"{run.accuracy:.4f}"


def _counts(group: Group, run: StudyRun) -> str:
    if group.plan == NULLS:
        return "null model"
    return "yes" if run.accepted else "left out"
