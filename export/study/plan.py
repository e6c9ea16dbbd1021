"""Which networks a study trains: the core plan, and further plans that each vary one thing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eigenfeatures.eigen.choices import PRESETS
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.settings import Settings
from eigenfeatures.kernels import OPERATORS

CORE = "core"
NULLS, SPLITS, OPERATOR_PLAN, CLAIMS = "nulls", "splits", "operators", "claims"
FURTHER_PLANS = (NULLS, SPLITS, OPERATOR_PLAN, CLAIMS)


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only.

    Attributes
    ----------
    plan : str
        ``core`` or one of `FURTHER_PLANS`.
    name : str
        As folders are named: ``paper``, ``reduced-prewitt``.
    label : str
        For people: what tells the group from the core runs of its preset.
    runs : dict
        Folder name to the settings of a run, in the order of the seeds.
    """

    plan: str
    name: str
    label: str
    runs: dict[str, Settings]

    @property
    def preset(self) -> str:
        """The network of all runs."""
        return next(iter(self.runs.values())).preset


@dataclass(frozen=True)
class StudyPlan:
    """All that a study trains.

    Attributes
    ----------
    core : tuple of Group
        One a preset.
    further : tuple of Group
        Those of further plans. Each is compared with `reference`.
    reference : Group
        The unchanged runs of the further plans' preset: as many seeds of a core group as
        they have, or a group of its own where the preset is not in the core.
    """

    core: tuple[Group, ...]
    further: tuple[Group, ...]
    reference: Group

    def runs(self) -> dict[str, Settings]:
        """Return every run by its folder's name, the core first, each once."""
        groups = (*self.core, *((self.reference, *self.further) if self.further else ()))
        return {name: settings for group in groups for name, settings in group.runs.items()}

    def plan_of(self) -> dict[str, str]:
        """Return the plan that each run is first needed by."""
        groups = (*self.further[::-1], self.reference, *self.core)
        return {name: group.plan for group in groups for name in group.runs}

    @property
    def reference_seeds(self) -> str:
        """Say which seeds the reference has, where the core has more or fewer of the same network."""
        count = len(self.reference.runs)
        core = next((len(group.runs) for group in self.core if group.name == self.reference.name), count)
        if count < core:
            return f" (the first {count} of {core} seeds)"
        return f" ({count} seeds, not {core})" if count > core else ""

    def groups_of(self, plan: str) -> tuple[Group, ...]:
        """Return the groups of a further plan."""
        return tuple(group for group in self.further if group.plan == plan)


def make_plan(
    base: Settings, presets: Sequence[str], seeds: int, also: Sequence[str], also_preset: str, also_seeds: int
) -> StudyPlan:
    """Lay out a study.

    Parameters
    ----------
    base
        What all runs share; its seed is that of the first run, and that of the split of all runs.
    presets, seeds
        The networks of the core plan, and how often each is trained.
    also, also_preset, also_seeds
        Further plans, and the network that they train, how often.

    Raises
    ------
    InputError
        For an unknown name, a repeated one, or less than two seeds.
    """
    _check_names("--presets", presets, PRESETS)
    _check_names("--also", also, FURTHER_PLANS)
    _check_names("--also-preset", [also_preset], PRESETS)
    if not presets:
        raise InputError("--presets is empty; name at least one network")
    for option, count in (("--seeds", seeds), ("--also-seeds", also_seeds)):
        if count < 2:
            raise InputError(f"{option} is {count}; stability needs at least 2 trainings of a network")
    base = replace(base, split_seed=base.seed if base.split_seed is None else base.split_seed)
    core = tuple(_group(base, CORE, preset, preset, {"preset": preset}, seeds) for preset in presets)
    base = replace(base, preset=also_preset)
    reference = _group(base, CORE, also_preset, f"as in the core ({also_preset})", {}, also_seeds)
    further = tuple(
        _group(base, plan, f"{also_preset}-{name}", label, changes, also_seeds)
        for plan in also
        for name, label, changes in _variations(plan, base)
    )
    return StudyPlan(core, further, reference)


def _check_names(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{option} '{name}' is unknown; choose from {', '.join(known)}")
        if list(names).count(name) > 1:
            raise InputError(f"{option} names '{name}' twice")


def _group(base: Settings, plan: str, name: str, label: str, changes: dict[str, Any], seeds: int) -> Group:
    runs = {
        f"{name}-seed{seed}": replace(base, **changes, seed=seed)
        for seed in range(base.seed, base.seed + seeds)
    }
    return Group(plan, name, label, runs)


def _variations(plan: str, base: Settings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, label and changed settings of what a plan varies."""
    if plan == NULLS:
        yield "shuffled", "trained on shuffled labels", {"labels": "shuffled"}
    elif plan == SPLITS:
        other = "block" if base.split == "random" else "random"
        yield other, f"split by {other}", {"split": other}
    elif plan == OPERATOR_PLAN:
        for operator in OPERATORS:
            if operator != base.operator and operator != "central":
                yield operator, f"{operator} gradient", {"operator": operator}
    else:
        augment = "none" if base.augment == "flips" else "flips"
        yield f"augment-{augment}", f"augmentation: {augment}", {"augment": augment}
        batch = 32 if base.plan.batch_size == 64 else 64
        yield f"batch{batch}", f"batches of {batch}", {"batch_size": batch}
        normalise = "dataset" if base.normalise == "slice" else "slice"
        yield f"normalise-{normalise}", f"standardised by {normalise}", {"normalise": normalise}
