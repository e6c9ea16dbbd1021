"""What a page says of known numbers: it announces what is shown, and no more."""

from types import SimpleNamespace

import numpy as np
import pytest
import studies

from eigenfeatures.eigen.study.analysis import Analysis, Blocks
from eigenfeatures.eigen.study.bootstrap import Interval, Paired
from eigenfeatures.eigen.study.measurement import Measured, all_pairs
from eigenfeatures.eigen.study.seed_pairs import seed_pairs
from eigenfeatures.export.study import agreement, factors, nulls, settings_compared, stability
from eigenfeatures.export.study.changes import Change, changes
from eigenfeatures.export.study.plan import make_plan

SLICES = 16
BLOCKS = Blocks(2, np.arange(SLICES) // 2, np.arange(SLICES) // 8)


def paired(estimate, low, high, p=0.5, runs=5):
    return Paired(Interval(estimate, low, high, runs, 0.1, 4.0), 1.0, 0.9, p)


@pytest.mark.parametrize(
    ("test", "change"),
    [
        (paired(0.2, 0.1, 0.3, p=0.001), Change.MORE),
        (paired(-0.2, -0.3, -0.1, p=0.001), Change.LESS),
        (paired(0.0, -0.04, 0.04), Change.SAME),
        (paired(0.02, 0.01, 0.03, p=0.001), Change.SAME),
        (paired(-0.1, -0.24, 0.04), Change.NOT_MORE),
        (paired(-0.05, -0.56, 0.47), Change.UNKNOWN),
        (paired(0.2, -0.02, 0.35), Change.UNKNOWN),
        (paired(0.2, 0.19, 0.21, p=1e-9, runs=0), Change.UNKNOWN),
        (paired(np.nan, np.nan, np.nan, p=np.nan, runs=0), Change.UNKNOWN),
    ],
)
def test_a_change_is_named_by_its_interval_and_not_by_its_mean(test, change):
    assert changes({"one": test}) == {"one": change}


def test_changes_are_corrected_for_their_number():
    test = paired(0.2, 0.01, 0.4, p=0.04)
    assert changes({"a": test}) == {"a": Change.MORE}
    assert set(changes(dict.fromkeys("abc", test)).values()) == {Change.UNKNOWN}


def compared(seeds_of, of_pairs, of_runs=None):
    """Groups of runs with given seeds; each measure of a pair is made from the runs' groups and seeds."""
    groups, runs = {}, []
    for group, seeds in seeds_of.items():
        groups[group] = list(range(len(runs), len(runs) + len(seeds)))
        runs += [(group, seed) for seed in seeds]
    pairs = all_pairs(len(runs))
    noise = 0.002 * np.random.default_rng(0).standard_normal(SLICES)
    values = {
        name: np.array([make(runs[a], runs[b]) for a, b in pairs])[:, None] + noise
        for name, make in of_pairs.items()
    }
    alone = {
        name: np.array([make(*run) for run in runs])[:, None] + noise
        for name, make in (of_runs or {}).items()
    }
    measured = Measured(tuple(map(str, runs)), pairs, np.arange(SLICES), values, alone)
    return Analysis(measured, groups, BLOCKS, tuple(seed for _, seed in runs))


def null_models(trained, untrained, shuffled=None, seeds=5, shuffled_seeds=3):
    """An analysis whose pairs of seeds of a state correlate as the function of the two says."""
    of_state = {"reduced": trained, "reduced, untrained": untrained, "reduced, shuffled labels": shuffled}

    def alike(first, second):
        (group, a), (other, b) = first, second
        return of_state[group](a, b) if group == other else 0.9

    seeds_of = {"reduced": range(seeds), "reduced, untrained": range(seeds)}
    if shuffled is not None:
        seeds_of["reduced, shuffled labels"] = range(shuffled_seeds)
    return compared(
        seeds_of,
        {"u1/pearson": alike, "u1/beyond_image": alike},
        {"u1/image": lambda _, seed: 0.6 + 0.01 * seed},
    )


def verdict(*states, **counts):
    analysis = null_models(*states, **counts)
    found = nulls._comparisons(analysis, ["reduced"])
    sentences = [nulls._sentence(analysis, comparison) for comparison in found]
    return nulls._answer(analysis, ["reduced"], found), sentences


def flat(value):
    return lambda a, b: value + 0.01 * (a + b)


def test_a_wide_interval_does_not_make_untrained_networks_as_stable():
    """The means say that training makes u₁ less stable, and the interval that it can't be told."""
    answer, (sentence,) = verdict(lambda a, b: 0.55 + 0.3 * (-1) ** a * (b == a + 1), flat(0.6))
    assert "as stable as" not in answer
    assert "It is not shown that training makes u₁ more stable in reduced (0." in answer
    assert "By its mean, a null model is at least as stable: reduced, untrained." in answer
    assert "training is not shown to make it more or less stable" in sentence


def test_what_training_does_is_said_alike_in_both_sentences():
    answer, (sentence,) = verdict(flat(0.6), flat(0.6))
    assert "The u₁ of untrained networks is at least as stable as that of trained ones in reduced" in answer
    assert "as close to blurred |∇Y|: there, stability is the image's" in answer
    assert "training makes it neither more nor less stable" in sentence
    answer, (sentence,) = verdict(flat(0.8), flat(0.6))
    assert answer.startswith("Training makes u₁ more stable in reduced")
    assert "By its mean" not in answer
    assert "training makes it more stable" in sentence
    answer, (sentence,) = verdict(flat(0.4), flat(0.6))
    assert "The u₁ of untrained networks is at least as stable" in answer
    assert "training makes it less stable" in sentence


def test_networks_of_shuffled_labels_take_part_in_the_verdict():
    """Compared on the seeds that both have: the trained networks' other seeds agree by much more."""
    answer, (_, sentence) = verdict(
        lambda a, b: 0.6 + 0.2 * (max(a, b) > 2), flat(0.4), lambda a, b: 0.8 + 0.001 * (a + b)
    )
    assert "The u₁ of networks trained on shuffled labels" not in answer
    assert "training makes u₁ more stable in reduced" in answer.lower()
    assert (
        "the u₁ of networks trained on shuffled labels is at least as stable as that of trained ones in"
        " reduced (0.80" in answer
    )
    assert "0.60 with the true ones, difference -0.20" in answer
    assert "By its mean, a null model is at least as stable: reduced, shuffled labels." in answer
    assert "Having the true labels makes it less stable" in sentence
    answer, _ = verdict(flat(0.8), flat(0.4), flat(0.5))
    assert "the true labels make u₁ more stable than shuffled ones in reduced" in answer


def test_two_seeds_of_shuffled_labels_are_one_pair_that_shows_nothing():
    answer, (_, sentence) = verdict(flat(0.6), flat(0.4), flat(0.9), shuffled_seeds=2)
    assert "it is not shown that the true labels make u₁ more stable than shuffled ones in reduced" in answer
    assert "over slices only" in sentence
    assert "reduced, shuffled labels." in answer


def clearer(runs, repeatability=0.2, contrast=1.0):
    def measure(gain):
        return lambda _, seed: 0.5 + gain + 0.01 * seed

    analysis = compared(
        {"paper": range(runs)},
        {},
        {
            "u1/repeatability": measure(repeatability),
            "alpha/repeatability": measure(0),
            "u1/contrast_to_noise": lambda _, seed: 2 + contrast * (1 + 0.1 * seed),
            "alpha/contrast_to_noise": lambda *_: 2,
            "agreement/pearson": measure(0),
        },
    )
    return agreement._answer(analysis)


def test_u1_is_clearer_where_both_measures_show_it_for_several_runs():
    assert "it is clearer by both measures in paper." in clearer(5)
    assert "it is not shown to be clearer." in clearer(1)  # of slices only
    assert "it is not shown to be clearer." in clearer(5, contrast=-1.0)


def claims(across):
    def alike(first, second):
        (group, a), (other, b) = first, second
        return flat(0.6)(a, b) if group == other else across(a, b)

    analysis = compared({"standard": range(5), "batches of 64": range(3)}, {"u1/pearson": alike})
    return factors._answer(analysis, "reduced", [("standard", "batches of 64")])


def test_a_factor_is_judged_by_what_two_seeds_share_across_it():
    assert "between seeds less than without the change for batches of 64 (0.40 [" in claims(flat(0.2))
    assert "between seeds no less than without the change for batches of 64" in claims(flat(0.6))
    unlike = claims(lambda a, b: 0.5 + 0.3 * (-1) ** (a + b))
    assert "between seeds by an amount that can't be told from that without the change for batches" in unlike


def test_a_factor_of_which_no_training_counts_has_no_verdict():
    analysis = compared({"standard": range(3)}, {"u1/pearson": lambda *_: 0.5})
    assert factors._answer(analysis, "reduced", []) is None


def test_the_level_is_that_away_from_the_border():
    def likeness(inside):
        analysis = compared({"a": range(3)}, {"u1/pearson": lambda *_: 0.54, "u1/inside": lambda *_: inside})
        return stability._likeness(analysis, analysis.within("a"))

    assert likeness(0.46) == (pytest.approx(0.54, abs=0.005), "different", ", by 0.46 away from the border")
    assert likeness(np.nan) == (pytest.approx(0.54, abs=0.005), "alike", "")


def test_samples_whose_blocks_are_too_short_are_named():
    blocks = Blocks(2, BLOCKS.block_of, BLOCKS.sample_of, (1,))
    samples = SimpleNamespace(classes=("cement", "nerve"))
    words = stability._too_short(SimpleNamespace(samples=samples, blocks=blocks))
    assert words.startswith(" Slices of nerve still resemble each other a block apart")
    assert stability._too_short(SimpleNamespace(samples=samples, blocks=BLOCKS)) == ""


def setting(label, pearson, other=0.0):
    analysis = compared(
        {"trained": range(5)}, {"same": lambda a, b: pearson(a[1], b[1]), "other": lambda *_: other}
    )
    alike = {"u1/pearson": None, "u1/other_sample": None}
    return settings_compared._Setting(
        "paper", label, "trained", alike, seed_pairs(analysis, "trained", "same", less="other")
    )


def test_slices_of_other_samples_that_are_opposites_make_no_setting_the_best():
    opposite, plain = setting("conv3", flat(0.6), -0.4), setting("conv1", flat(0.7))
    assert max((opposite, plain), key=settings_compared._score).label == "conv1"


def test_the_best_setting_is_told_from_others_corrected_for_all_pairs_of_settings():
    """What differs from the best by p of some 0.01 counts among two settings, and not among ten."""

    def worse(a, b):
        return 0.44 + 0.01 * (a + b) + 0.05 * (a * b % 3)

    best, doubtful = setting("best", flat(0.6)), setting("doubtful", worse)
    p = settings_compared.compare_seed_pairs(best.distinct, doubtful.distinct).p
    assert 0.05 / 45 < p < 0.05
    assert settings_compared._not_told_from(best, [best, doubtful]) == []
    alike = [
        setting(f"like {k}", lambda a, b, k=k: flat(0.6)(a, b) - 0.05 * ((a + b + k) % 4)) for k in range(8)
    ]
    assert "doubtful" in settings_compared._not_told_from(best, [best, doubtful, *alike])


@pytest.mark.parametrize(
    ("seeds", "also", "words"),
    [(5, 3, " (the first 3 of 5 seeds)"), (3, 3, ""), (2, 3, " (3 seeds, not 2)")],
)
def test_a_plan_says_where_its_reference_has_other_seeds_than_the_core(seeds, also, words):
    assert make_plan(studies.BASE, ["small"], seeds, ["claims"], "small", also).reference_seeds == words
    assert make_plan(studies.BASE, ["reduced"], seeds, ["claims"], "small", also).reference_seeds == ""
