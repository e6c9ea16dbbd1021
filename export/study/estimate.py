"""How long the trainings of a study will take, before they start."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing, operator_named
from eigenfeatures.eigen.progress import Item
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.split import TRAIN, VALIDATION, split_slices
from eigenfeatures.eigen.training import VALIDATION_INTERVAL, train
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.steps import Talk
from eigenfeatures.export.study.plan import CORE

_TIMED_ITERATIONS = 3


def announce_time(
    samples: Path, runs: Mapping[str, Settings], plan_of: Mapping[str, str], talk: Talk
) -> None:
    """Time a few iterations of each kind of training, and say how long all of each plan will take.

    Parameters
    ----------
    samples
        The folder of stacks.
    runs
        The trainings that are still to be done.
    plan_of
        Name of a run to its plan.
    talk
        Says it.

    Raises
    ------
    InputError
        Where the stacks can't be read, or a training does not fit them.
    """
    known: dict[tuple[str, int], float] = {}
    minutes: dict[str, float] = defaultdict(float)
    for name, settings in runs.items():
        kind = settings.preset, settings.plan.batch_size
        if kind not in known:
            known[kind] = _minutes(samples, settings)
        minutes[plan_of[name]] += known[kind]
    for plan, total in minutes.items():
        what = "the core" if plan == CORE else f"the plan '{plan}'"
        talk.say(f"training {what} will take about {max(total, 0.1):.1f} minutes, one run at a time")


def _minutes(samples: Path, settings: Settings) -> float:
    """Return how long a training takes: the later of a few iterations, the first of which warms up."""
    times: list[float] = []

    def timed(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:  # noqa: ARG001
        for item in items:
            times.append(time.perf_counter())
            yield item

    with open_samples(samples, size=settings.size, regions=settings.regions) as stacks:
        split = split_slices(stacks, settings.split, settings.seed)
        network = build_network(settings.preset, len(stacks.classes), stacks.size)
        network.check_layer(settings.layer)
        train(
            network,
            stacks,
            Preprocessing(operator_named(settings.operator)),
            np.flatnonzero(split == TRAIN),
            np.flatnonzero(split == VALIDATION),
            # Steps too small to diverge: that is for the training itself to find.
            replace(settings.plan, iterations=_TIMED_ITERATIONS, early_stop=None, learning_rate=1e-9),
            device=choose_device(settings.device),
            track=timed,
        )
    iteration, last = np.diff([*times[-2:], time.perf_counter()])  # the last one also validates
    validations = settings.iterations / VALIDATION_INTERVAL
    return float(settings.iterations * iteration + validations * max(0.0, last - iteration)) / 60
