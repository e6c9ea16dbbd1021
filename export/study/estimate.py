"""How long a study will take, before it starts."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing, operator_named
from eigenfeatures.eigen.progress import Item
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.eigen.training import VALIDATION_INTERVAL, train
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.steps import split_of
from eigenfeatures.export.study.comparison_time import comparison_minutes
from eigenfeatures.export.study.plan import CORE, StudyPlan
from eigenfeatures.export.talk import Talk

_TIMED_ITERATIONS = 3


def announce_time(
    samples: SampleSet, settings: Settings, plan: StudyPlan, left: Mapping[str, Settings], talk: Talk
) -> None:
    """Say how long each plan will take, by a few iterations and a look at a few slices.

    Parameters
    ----------
    samples
        The open stacks, which the trainings fit.
    settings
        What all runs share.
    plan
        The study.
    left
        The trainings that are still to be done.
    talk
        Says it.
    """
    training = _training_minutes(samples, plan, left)
    comparing = comparison_minutes(samples, settings, plan)
    again = ", save what an earlier start has measured" if len(left) < len(plan.runs()) else ""
    for name in dict.fromkeys((*training, *comparing)):
        what = "the core" if name == CORE else f"the plan '{name}'"
        parts = {"training": training.get(name, 0.0), "comparing": comparing.get(name, 0.0)}
        words = " and ".join(f"{part} about {_in_words(minutes)}" for part, minutes in parts.items())
        talk.say(f"{what}: {words} minutes, one run at a time{again}")


def _in_words(minutes: float) -> str:
    return f"{max(minutes, 0.1):.1f}" if 0 < minutes < 10 else f"{minutes:.0f}"


def _training_minutes(samples: SampleSet, plan: StudyPlan, left: Mapping[str, Settings]) -> dict[str, float]:
    known: dict[tuple[str, int], float] = {}
    minutes: dict[str, float] = defaultdict(float)
    plan_of = plan.plan_of()
    for name, settings in left.items():
        kind = settings.preset, settings.plan.batch_size
        if kind not in known:
            known[kind] = _minutes(samples, settings)
        minutes[plan_of[name]] += known[kind]
    return minutes


def _minutes(samples: SampleSet, settings: Settings) -> float:
    """Return how long a training takes: the later of a few iterations, the first of which warms up."""
    times: list[float] = []

    def timed(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:  # noqa: ARG001
        for item in items:
            times.append(time.perf_counter())
            yield item

    split = split_of(samples, settings)
    network = build_network(settings.preset, len(samples.classes), samples.size)
    train(
        network,
        samples,
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
