"""Linear classifiers find what is there, and nothing where labels mean nothing."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.study.discrimination import block_folds, discriminate

SAMPLES, BLOCKS, LENGTH = 4, 10, 8
SLICES = SAMPLES * BLOCKS * LENGTH

labels = np.repeat(np.arange(SAMPLES), BLOCKS * LENGTH)
blocks = np.repeat(np.arange(SAMPLES * BLOCKS), LENGTH)
train = np.arange(SLICES) % (BLOCKS * LENGTH) < 50
validation = np.arange(SLICES) % (BLOCKS * LENGTH) >= 60


def block_features(seed: int, columns: int = 6) -> np.ndarray:
    """Draw features that say which block a slice is of, and nothing of its sample."""
    draw = np.random.default_rng(seed)
    return draw.standard_normal((SAMPLES * BLOCKS, columns))[blocks] + 0.01 * draw.standard_normal(
        (SLICES, columns)
    )


def test_samples_that_stand_apart_are_told_apart():
    features = block_features(0)
    features[:, 0] += 20 * labels
    features[:, 1] += 20 * (labels % 2)
    scores = discriminate(features, labels, blocks, train=train, validation=validation)
    assert scores.cross_validated == 1
    assert scores.folds == (1,) * 5
    assert scores.held_out == 1


def test_features_of_blocks_alone_stay_at_chance_where_random_folds_do_not():
    runs = [
        discriminate(block_features(seed), labels, blocks, train=train, validation=validation)
        for seed in range(20)
    ]
    assert np.mean([run.cross_validated for run in runs]) == pytest.approx(0.25, abs=0.06)
    assert np.mean([run.held_out for run in runs]) == pytest.approx(0.25, abs=0.08)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    shuffled = KFold(5, shuffle=True, random_state=0)
    leaking = cross_val_score(classifier, block_features(0, 40), labels, cv=shuffled)
    assert np.mean(leaking) > 0.95  # the negative control: each block was seen in training


def test_labels_at_random_stay_at_chance():
    features = np.random.default_rng(0).standard_normal((SLICES, 6))
    features[:, 0] += 20 * labels
    scores = []
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(np.repeat(np.arange(SAMPLES), BLOCKS))[blocks]
        run = discriminate(features, shuffled, blocks, train=train, validation=validation)
        scores.append(run.cross_validated)
    assert np.mean(scores) == pytest.approx(0.25, abs=0.06)


def test_folds_hold_out_runs_of_blocks_behind_half_a_block():
    judgements = np.zeros(SLICES, int)
    for trained, judged in block_folds(labels, blocks):
        judgements += judged
        assert not np.any(trained & judged)
        for label in range(SAMPLES):
            here = np.flatnonzero(judged & (labels == label))
            assert len(here) == 2 * LENGTH
            assert np.all(np.diff(here) == 1)
            assert here[0] % LENGTH == 0
            others = np.flatnonzero(trained & (labels == label))
            assert np.abs(others[:, None] - here).min() == LENGTH // 2 + 1
    assert np.all(judgements == 1)


def test_regions_of_one_stack_are_held_out_at_the_same_depths():
    """Slices at one depth of two regions resemble each other: one would be recognised by the other."""
    one_stack = np.repeat(np.arange(BLOCKS), LENGTH)
    regions = np.concatenate([one_stack, one_stack, one_stack + BLOCKS])
    depths = np.tile(np.arange(BLOCKS * LENGTH), 3)
    of_sample = np.repeat([0, 0, 1], BLOCKS * LENGTH)
    alone = block_folds(of_sample[BLOCKS * LENGTH :], regions[BLOCKS * LENGTH :])
    for (trained, judged), (trained_alone, judged_alone) in zip(
        block_folds(of_sample, regions), alone, strict=True
    ):
        for label in (0, 1):
            known, new = (depths[part & (of_sample == label)] for part in (trained, judged))
            assert np.abs(known[:, None] - new).min() == LENGTH // 2 + 1
        for both, one in ((trained, trained_alone), (judged, judged_alone)):
            first, second, rest = np.split(both, 3)
            assert np.array_equal(first, second)
            assert np.array_equal(np.concatenate([second, rest]), one)


def test_two_blocks_make_two_folds():
    two = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
    first, second = block_folds(two // 2, two)
    assert np.flatnonzero(first[1]).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert np.flatnonzero(first[0]).tolist() == [6, 7, 14, 15]
    assert np.flatnonzero(second[0]).tolist() == [0, 1, 8, 9]


def test_held_out_is_scored_on_the_validation_slices_alone():
    features = np.zeros((SLICES, 1))
    features[:, 0] = np.where(validation, (labels + 1) % 2, labels % 2)
    scores = discriminate(features, labels % 2, blocks, train=train, validation=validation)
    assert scores.held_out == 0
    nothing = np.zeros(SLICES, bool)
    for masks in ({"train": train, "validation": nothing}, {"train": nothing, "validation": validation}):
        assert discriminate(features, labels, blocks, **masks).held_out is None


def test_slices_without_descriptors_are_left_out():
    features = block_features(0)
    features[:, 0] += 20 * labels
    broken = features.copy()
    broken[5] = np.nan
    kept = np.arange(SLICES) != 5
    expected = discriminate(
        features[kept], labels[kept], blocks[kept], train=train[kept], validation=validation[kept]
    )
    assert discriminate(broken, labels, blocks, train=train, validation=validation) == expected


def test_too_little_is_refused():
    for few_labels, few_blocks in ((labels * 0, blocks), (labels, labels)):
        with pytest.raises(InputError, match="two samples of at least two blocks"):
            discriminate(block_features(0), few_labels, few_blocks, train=train, validation=validation)
