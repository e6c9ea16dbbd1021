"""The command ``study``: train, measure, write."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
import torch

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import write_text
from eigenfeatures.eigen.preprocessing import operator_named, sample_statistics
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.study.analysis import blocks_of
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.properties import read_properties
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.export.html import Cell
from eigenfeatures.export.run_folder import check_empty, check_outside, hash_inputs, repeats
from eigenfeatures.export.settings import Settings, read_config
from eigenfeatures.export.steps import check_range
from eigenfeatures.export.study.agreement import agreement_part
from eigenfeatures.export.study.curve import curve_part
from eigenfeatures.export.study.discrimination import discrimination_part
from eigenfeatures.export.study.estimate import announce_time
from eigenfeatures.export.study.factors import claims_part, leakage_part
from eigenfeatures.export.study.gradient_image import image_part
from eigenfeatures.export.study.methods import methods_text
from eigenfeatures.export.study.nulls import nulls_part
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.ordering import ordering_part
from eigenfeatures.export.study.page import Chapter, write_study
from eigenfeatures.export.study.passes import Passes
from eigenfeatures.export.study.pictures import pictures_part
from eigenfeatures.export.study.plan import StudyPlan, make_plan
from eigenfeatures.export.study.runs_table import advice, runs_part
from eigenfeatures.export.study.settings_compared import settings_part
from eigenfeatures.export.study.stability import stability_part
from eigenfeatures.export.study.study_folder import StudyFolder
from eigenfeatures.export.study.subjects import study_runs
from eigenfeatures.export.study.trainings import check_trainings, train_runs, unfinished
from eigenfeatures.export.talk import Talk
from eigenfeatures.export.versions import versions
from eigenfeatures.kernels import SliceStatistics

# Settings that the plan chooses for each run.
CHOSEN_BY_PLAN = ("preset", "labels", "rank")


@dataclass(frozen=True)
class StudyOptions:
    """What a study is asked for, beside the settings that all runs share.

    Attributes
    ----------
    presets, seeds
        Of the core plan.
    also, also_preset, also_seeds
        Further plans.
    jobs : int
        Trainings at once.
    threads : int
        Of each training, and of the comparisons.
    properties : Path or None
        A table of properties of the samples.
    resume : bool
        Whether the folder may hold a study to go on with.
    """

    presets: tuple[str, ...] = ("paper", "reduced", "alexnet")
    seeds: int = 5
    also: tuple[str, ...] = ()
    also_preset: str = "reduced"
    also_seeds: int = 3
    jobs: int = 1
    threads: int = 2
    properties: Path | None = None
    resume: bool = False


def run_study(
    samples: Path, out: Path, settings: Settings, options: StudyOptions, talk: Talk
) -> dict[str, Any]:
    """Do a whole study.

    Returns
    -------
    dict
        The main facts, and where the page is.

    Raises
    ------
    InputError
        For any mistake in the stacks, the options or the folder.
    """
    plan = make_plan(
        settings, options.presets, options.seeds, options.also, options.also_preset, options.also_seeds
    )
    folder = StudyFolder(out.absolute())
    _check(samples, folder, options)
    torch.set_num_threads(options.threads)
    with open_samples(samples, size=settings.size, regions=settings.regions) as opened:
        for note in opened.notes:
            talk.say(note)
        # Reads every slice, so that a damaged one is found before anything is written.
        statistics = sample_statistics(opened, operator_named(settings.operator), talk.track)
        check_range(opened, statistics)
        inputs = hash_inputs(opened, talk.track)
        for note in repeats(opened, inputs):
            talk.say(note)
        left = unfinished(folder.runs, plan.runs(), inputs)
        talk.say(f"{len(left)} of {len(plan.runs())} trainings are to be done")
        check_trainings(opened, left, options.jobs)
        announce_time(opened, settings, plan, left, talk)
    _write_record(folder, samples, settings, options)
    diverged = train_runs(samples, folder.runs, left, settings.layer, options.jobs, options.threads, talk)
    with _opened(samples, folder, settings, plan, inputs, statistics, talk) as study:
        chapters = _chapters(study, options)
        facts = _facts(study)
        if advised := advice(study):
            talk.say(advised)
        title = f"Stability of eigenfeatures of {', '.join(study.samples.classes)}"
        write_study(folder, title, facts, chapters, methods_text(study), talk)
    return {
        **{label.replace(" ", "_"): value for label, value in facts},
        "diverged": len(diverged),
        "summary": str(folder.summary),
        "page": str(folder.page),
    }


def quick_settings(settings: Settings) -> Settings:
    """Return what ``--quick`` trains with: few iterations, where these settings are still the usual ones."""
    usual = Settings()
    quick: dict[str, Any] = {"iterations": 60, "learning_rate": 0.02}
    return replace(
        settings,
        **{name: value for name, value in quick.items() if getattr(settings, name) == getattr(usual, name)},
    )


def _check(samples: Path, folder: StudyFolder, options: StudyOptions) -> None:
    """Find mistakes before any work."""
    for option, value in (("--jobs", options.jobs), ("--threads", options.threads)):
        if value < 1:
            raise InputError(f"{option} is {value}; give at least 1")
    check_outside(folder.path, samples)
    if folder.record.is_file():
        if not options.resume:
            raise InputError(
                f"{folder.path} holds another study; add --resume to go on with it, or choose another folder"
                " for --out"
            )
        _check_same_threads(folder, options.threads)
    else:
        check_empty(folder.path)
    if options.properties is not None:
        with open_samples(samples) as opened:
            read_properties(options.properties, opened.classes)


def _check_same_threads(folder: StudyFolder, threads: int) -> None:
    """Refuse to go on with other threads: trainings, and so tables, would round otherwise."""
    before = read_config(folder.record).get("study", {}).get("threads")
    if before != threads:
        raise InputError(
            f"{folder.path} was made with --threads {before}, and now it is {threads}; go on with the same"
        )


def _write_record(folder: StudyFolder, samples: Path, settings: Settings, options: StudyOptions) -> None:
    asked = {name: value for name, value in asdict(options).items() if value is not None and name != "resume"}
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
    record = {
        "samples": str(samples.absolute()),
        "study": asked,
        "settings": {k: v for k, v in settings.to_toml().items() if k not in CHOSEN_BY_PLAN},
        "versions": versions(),
    }
    write_text(folder.record, tomli_w.dumps(record))


@contextmanager
def _opened(
    stacks: Path,
    folder: StudyFolder,
    settings: Settings,
    plan: StudyPlan,
    inputs: dict[str, str],
    statistics: SliceStatistics,
    talk: Talk,
) -> Iterator[OpenStudy]:
    with open_samples(stacks, size=settings.size, regions=settings.regions) as samples:
        groups = (*plan.core, plan.reference, *plan.further)
        runs = {run.name: run for group in groups for run in study_runs(folder.runs, group)}
        passes = Passes(
            samples=samples,
            inputs=inputs,
            folder=folder.measured,
            view=View(settings.layer, settings.resolution, False, max(SUBSPACE_RANKS)),
            operator=operator_named(settings.operator),
            device=choose_device(settings.device),
            talk=talk,
        )
        yield OpenStudy(settings, plan, runs, samples, statistics, blocks_of(samples), passes)


def _chapters(study: OpenStudy, options: StudyOptions) -> list[Chapter]:
    """Answer the questions in the order in which a reader asks them."""
    return [
        Chapter("Are the features stable?", [stability_part(study), agreement_part(study)]),
        Chapter("Are they the network's, or the image's?", [nulls_part(study), image_part(study)]),
        Chapter("What do they look like per sample?", [pictures_part(study)]),
        Chapter(
            "Which settings are the best?", [settings_part(study), curve_part(study), claims_part(study)]
        ),
        Chapter("Do they tell the samples apart by themselves?", [discrimination_part(study)]),
        Chapter("How do the samples rank?", [ordering_part(study, options.properties)]),
        Chapter(
            "Which runs count, and what does a random split leak?", [runs_part(study), leakage_part(study)]
        ),
    ]


def _facts(study: OpenStudy) -> list[tuple[str, Cell]]:
    core = [run for group in study.plan.core for run in study.runs_of(group)]
    return [
        ("samples", len(study.samples.classes)),
        ("slices", f"{len(study.samples)} of {study.samples.size[0]}×{study.samples.size[1]}"),
        ("networks", ", ".join(group.name for group in study.plan.core)),
        ("core runs that count", f"{sum(run.accepted for run in core)} of {len(core)}"),
        ("split", study.base.split),
        ("operator", study.base.operator),
        ("slices counted as one observation", f"up to about {study.blocks.length} neighbours"),
    ]
