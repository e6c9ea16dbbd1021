"""The trainings of a study: each a run's folder of its own, finished ones kept, several at once if asked."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Thread

import torch

from eigenfeatures.eigen.progress import Item, silent
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.snapshots import save_snapshot
from eigenfeatures.eigen.training import TrainingDivergedError
from eigenfeatures.export.run_folder import RunFolder, check_same_inputs, check_same_settings
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.steps import check_training, split_of, start, train_step
from eigenfeatures.export.talk import Talk

SNAPSHOTS = "snapshots"


def unfinished(folder: Path, runs: dict[str, Settings], inputs: dict[str, str]) -> dict[str, Settings]:
    """Return the runs that are still to be trained on the stacks whose files are `inputs`.

    Raises
    ------
    InputError
        When one that is there was made with other settings or from other stacks.
    """
    left = {}
    for name, settings in runs.items():
        if (folder / name / "run.toml").is_file():
            check_same_settings(folder / name, settings)
            run = RunFolder.open(folder / name)
            check_same_inputs(run, inputs)
            if run.has_model:
                continue
        left[name] = settings
    return left


def check_trainings(samples: SampleSet, runs: Mapping[str, Settings], jobs: int) -> None:
    """Refuse trainings that do not fit the slices, or `jobs` of which do not fit the memory.

    Raises
    ------
    InputError
        For the first of them.
    """
    kinds = {(each.preset, each.plan.batch_size, each.split): each for each in runs.values()}
    for settings in kinds.values():
        check_training(samples, split_of(samples, settings), settings, _SILENT, min(jobs, len(runs)))


def train_runs(
    samples: Path, folder: Path, runs: dict[str, Settings], layer: str, jobs: int, threads: int, talk: Talk
) -> dict[str, str]:
    """Train runs, `jobs` at once, each below `folder` under its name.

    Each computes with `threads` threads however many run at once, since their number decides how
    sums are rounded.

    Returns
    -------
    dict
        Name of a run whose training diverged to what was the matter.

    Raises
    ------
    InputError
        For any other mistake in the stacks, the settings or the folders.
    """
    diverged = {}
    for number, (name, problem) in enumerate(
        _outcomes(samples, folder, runs, layer, jobs, threads, talk), start=1
    ):
        if problem:
            diverged[name] = problem
        talk.say(
            f"training {number} of {len(runs)}: {name} {f'diverged: {problem}' if problem else 'is done'}"
        )
    return diverged


def _outcomes(
    samples: Path, folder: Path, runs: dict[str, Settings], layer: str, jobs: int, threads: int, talk: Talk
) -> Iterator[tuple[str, str | None]]:
    if jobs == 1:
        torch.set_num_threads(threads)
        for name, settings in runs.items():
            quiet = Talk(partial(_renamed, talk, name), _say_nothing)
            yield name, train_one(samples, folder / name, settings, layer, quiet)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_prepare_process, initargs=(threads,)) as pool:
        try:
            waiting = {
                pool.submit(train_one, samples, folder / name, settings, layer): name
                for name, settings in runs.items()
            }
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare_process(threads: int) -> None:
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Let no training outlive a study that is killed: it would write beside the one that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _renamed(talk: Talk, name: str, items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    return talk.track(items, f"{name}: {description}", total)


def _say_nothing(text: str) -> None:
    """Keep what every training repeats, such as how stacks are cropped, off the terminal."""


_SILENT = Talk(silent, _say_nothing)


def train_one(samples: Path, out: Path, settings: Settings, layer: str, talk: Talk = _SILENT) -> str | None:
    """Train one run, or go on with it; return what was the matter if it diverged."""
    with start(samples, out, settings, True, talk) as run:
        try:
            train_step(run, talk, partial(save_snapshot, out / SNAPSHOTS, layer))
        except TrainingDivergedError as error:
            return str(error)
    return None
