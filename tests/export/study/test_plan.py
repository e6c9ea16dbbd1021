"""What a study trains: every variation differs from the unchanged runs in one setting, and in no other."""

from dataclasses import asdict

import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.plan import (
    CLAIMS,
    CORE,
    FURTHER_PLANS,
    NULLS,
    OPERATOR_PLAN,
    SPLITS,
    make_plan,
)

USUAL = Settings()


def plan_of(
    base=USUAL, presets=("paper", "reduced"), seeds=3, also=FURTHER_PLANS, preset="reduced", also_seeds=2
):
    return make_plan(base, presets, seeds, also, preset, also_seeds)


def differences(settings, other):
    """What differs, with the size of a batch as it is trained with."""
    first, second = ({**asdict(each), "batch_size": each.plan.batch_size} for each in (settings, other))
    return {name: (first[name], second[name]) for name in first if first[name] != second[name]}


def test_the_core_trains_every_network_with_every_seed():
    plan = plan_of(also=())
    assert list(plan.runs()) == [
        f"{preset}-seed{seed}" for preset in ("paper", "reduced") for seed in (0, 1, 2)
    ]
    assert [(group.plan, group.name, group.preset) for group in plan.core] == [
        (CORE, "paper", "paper"),
        (CORE, "reduced", "reduced"),
    ]
    for name, settings in plan.runs().items():
        preset, _, seed = name.partition("-seed")
        unchanged = Settings(preset=preset, seed=int(seed), split_seed=0)
        assert settings == unchanged


def test_all_runs_share_the_split_of_the_first_seed():
    runs = plan_of(Settings(seed=5)).runs()
    assert {settings.seed for settings in runs.values()} == {5, 6, 7}
    assert {settings.split_seed for settings in runs.values()} == {5}
    assert {name.partition("-seed")[2] for name in runs} == {"5", "6", "7"}


def test_a_seed_of_the_split_that_was_asked_for_is_kept():
    assert {settings.split_seed for settings in plan_of(Settings(split_seed=9)).runs().values()} == {9}


# Settings that all runs share -> per further plan, what each of its groups changes.
VARIATIONS = {
    Settings(): {
        NULLS: [{"labels": ("true", "shuffled")}],
        SPLITS: [{"split": ("block", "random")}],
        OPERATOR_PLAN: [{"operator": ("sobel", other)} for other in ("forward", "prewitt", "scharr")],
        CLAIMS: [
            {"augment": ("flips", "none")},
            {"batch_size": (32, 64)},
            {"normalise": ("slice", "dataset")},
        ],
    },
    Settings(split="random", operator="prewitt", augment="none", batch_size=64, normalise="dataset"): {
        NULLS: [{"labels": ("true", "shuffled")}],
        SPLITS: [{"split": ("random", "block")}],
        OPERATOR_PLAN: [{"operator": ("prewitt", other)} for other in ("forward", "sobel", "scharr")],
        CLAIMS: [
            {"augment": ("none", "flips")},
            {"batch_size": (64, 32)},
            {"normalise": ("dataset", "slice")},
        ],
    },
    Settings(split="specimen", operator="central", batch_size=48): {
        NULLS: [{"labels": ("true", "shuffled")}],
        SPLITS: [{"split": ("specimen", "random")}],
        OPERATOR_PLAN: [
            {"operator": ("central", other)} for other in ("forward", "prewitt", "sobel", "scharr")
        ],
        CLAIMS: [
            {"augment": ("flips", "none")},
            {"batch_size": (48, 64)},
            {"normalise": ("slice", "dataset")},
        ],
    },
}


@pytest.mark.parametrize("also", FURTHER_PLANS)
@pytest.mark.parametrize("base", VARIATIONS, ids=["usual", "turned round", "unusual"])
def test_a_variation_differs_in_just_the_named_setting(base, also):
    plan = plan_of(base, also=(also,))
    found = []
    for group in plan.groups_of(also):
        changes = [
            differences(unchanged, changed)
            for unchanged, changed in zip(plan.reference.runs.values(), group.runs.values(), strict=True)
        ]
        assert changes[0] == changes[1], "the same for every seed"
        found.append(changes[0])
    order = [sorted(found, key=str), sorted(VARIATIONS[base][also], key=str)]
    assert order[0] == order[1]


def test_labels_name_what_is_changed():
    plan = plan_of(Settings())
    for group in plan.further:
        settings, unchanged = (next(iter(each.runs.values())) for each in (group, plan.reference))
        ((_, changed),) = differences(unchanged, settings).values()
        assert str(changed) in group.label
        assert str(changed) in group.name
        assert group.name.startswith("reduced-")
    labels = [group.label for group in (*plan.core, plan.reference, *plan.further)]
    assert len(set(labels)) == len(labels)


def test_the_batch_of_the_claims_is_that_of_the_network_that_they_train():
    """64 slices an iteration, and 32 for 'reduced': what is not given is not the same for all networks."""
    for preset, other in (("reduced", 64), ("small", 32)):
        (group,) = [group for group in plan_of(preset=preset).groups_of(CLAIMS) if "batch" in group.name]
        assert {settings.batch_size for settings in group.runs.values()} == {other}


def test_the_reference_is_a_part_of_the_core_where_its_network_is_there():
    plan = plan_of(also=(CLAIMS,))
    core = plan.core[1].runs
    assert plan.reference.runs == {name: core[name] for name in ("reduced-seed0", "reduced-seed1")}
    assert sum("reduced-seed" in name for name in plan.runs()) == 3


def test_the_reference_is_trained_too_where_its_network_is_not_in_the_core():
    plan = plan_of(presets=("paper",), also=(CLAIMS,), preset="small")
    assert [name for name in plan.runs() if name.startswith("small-seed")] == ["small-seed0", "small-seed1"]
    alone = plan_of(presets=("paper",), also=(), preset="small")
    assert all(name.startswith("paper") for name in alone.runs())


def test_each_run_is_told_the_plan_that_first_needs_it():
    plan = plan_of(seeds=2, also_seeds=3)
    found = plan.plan_of()
    assert found.keys() == plan.runs().keys()
    assert {name for name, of in found.items() if of == CORE} == {
        f"{preset}-seed{seed}" for preset, seeds in (("paper", 2), ("reduced", 3)) for seed in range(seeds)
    }
    for group in plan.further:
        assert {found[name] for name in group.runs} == {group.plan}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"presets": ()}, "--presets is empty"),
        (
            {"presets": ("paper", "huge")},
            "--presets 'huge' is unknown; choose from paper, reduced, alexnet, small",
        ),
        ({"presets": ("paper", "paper")}, "--presets names 'paper' twice"),
        ({"also": ("null",)}, "--also 'null' is unknown; choose from nulls, splits, operators, claims"),
        ({"also": ("nulls", "nulls")}, "--also names 'nulls' twice"),
        ({"preset": "huge"}, "--also-preset 'huge' is unknown"),
        ({"seeds": 1}, "--seeds is 1; stability needs at least 2"),
        ({"seeds": -3}, "--seeds is -3"),
        ({"also_seeds": 1}, "--also-seeds is 1"),
        ({"base": Settings(seed=2**32 - 2)}, "--seed is 4294967296; give at most"),
    ],
)
def test_a_mistake_is_named(changes, reason):
    with pytest.raises(InputError, match=reason):
        plan_of(**changes)
