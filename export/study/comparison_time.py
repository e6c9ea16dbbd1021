"""How long the comparisons of a study will take, before they start."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing, operator_named
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import slices_by_source
from eigenfeatures.eigen.study.chunks import StudiedNetwork, look_at
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measures import pair_measures, run_measures
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS
from eigenfeatures.eigen.training import VALIDATION_INTERVAL
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.opened import SPARSE
from eigenfeatures.export.study.plan import CLAIMS, CORE, NULLS, OPERATOR_PLAN, StudyPlan

_TIMED_SLICES = 4


@dataclass(frozen=True)
class _Work:
    """What a plan has to compare, in slices.

    Attributes
    ----------
    plan, preset : str
        Which plan, and which networks.
    looks, pairs : float
        How often a network looks at a slice, and how often two are compared on one.
    """

    plan: str
    preset: str
    looks: float
    pairs: float


def comparison_minutes(samples: SampleSet, settings: Settings, plan: StudyPlan) -> dict[str, float]:
    """Time a look at a few slices by each network, and return how long each plan's comparisons take.

    Parameters
    ----------
    samples
        The open stacks.
    settings
        What all runs share.
    plan
        What is to be compared.

    Returns
    -------
    dict
        Name of a plan to minutes. They are about right: deeper layers take longer than the one that is
        timed, and pairs of unlike networks; runs that don't count are left out later.
    """
    works = list(_work(samples, settings, plan))
    presets = dict.fromkeys(work.preset for work in works)
    known = {preset: _seconds(samples, settings, preset) for preset in presets}
    minutes: dict[str, float] = defaultdict(float)
    for work in works:
        look, pair = known[work.preset]
        minutes[work.plan] += len(samples) * (work.looks * look + work.pairs * pair) / 60
    return minutes


def _work(samples: SampleSet, settings: Settings, plan: StudyPlan) -> Iterator[_Work]:
    """Count what the parts of the page measure, as shares of all slices."""
    sparse = sum(-(-len(members) // SPARSE) for members in slices_by_source(samples).values()) / len(samples)
    snapshots = 1 + -(-settings.iterations // VALIDATION_INTERVAL)
    total = sum(len(group.runs) for group in plan.core)
    for group in plan.core:
        layers = len(build_network(group.preset, len(samples.classes), samples.size).response_layers)
        runs, pairs = len(group.runs), comb(len(group.runs), 2)
        views = (layers + 2) * sparse  # of the study's own layer also dense and centred
        seen = views + snapshots * sparse
        # Every run with every other, and its descriptors; then by setting and by iteration.
        yield _Work(CORE, group.preset, runs * (2 + seen), comb(total, 2) * runs / total + pairs * seen)
        if plan.groups_of(NULLS):
            # Trained and untrained with each other, untrained ones described, and by setting.
            yield _Work(NULLS, group.preset, runs * (3 + views), pairs * (2 + views) + runs**2)
    for name, share, across in ((NULLS, 1.0, True), (OPERATOR_PLAN, sparse, False), (CLAIMS, 1.0, True)):
        groups = plan.groups_of(name)
        if groups and name != NULLS:  # there the reference is one of the core's
            groups = (plan.reference, *groups)
        for group in groups:
            runs = len(group.runs)
            with_reference = runs**2 if across and group is not plan.reference else 0
            yield _Work(name, group.preset, share * runs, share * (comb(runs, 2) + with_reference))


def _seconds(samples: SampleSet, settings: Settings, preset: str) -> tuple[float, float]:
    """Return how long a network's look at a slice takes, and a comparison of two networks there."""
    device = choose_device(settings.device)
    operator = operator_named(settings.operator)
    network = build_network(preset, len(samples.classes), samples.size).up_to(settings.layer).eval()
    entries = [StudiedNetwork(preset, network.to(device), Preprocessing(operator))] * 2
    indices = np.arange(min(_TIMED_SLICES, len(samples)))
    view = View(settings.layer, settings.resolution, False, max(SUBSPACE_RANKS))
    look = partial(look_at, entries, samples, indices, view, operator, device)
    pairs = np.array([[0, 1]])
    pair_measures(look(), pairs)  # compiles what is to be compiled
    start = time.perf_counter()
    chunk = look()
    run_measures(chunk)
    middle = time.perf_counter()
    pair_measures(chunk, pairs)
    end = time.perf_counter()
    return (middle - start) / len(entries) / len(indices), (end - middle) / len(indices)
