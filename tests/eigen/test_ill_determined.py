"""Eigenfeatures after a ReLU are not negative, unless the slice is flagged as ill-determined."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference
import scipy.linalg
import torch

from eigenfeatures.eigen import eigenfeature
from eigenfeatures.eigen.reliability import ILL_DETERMINED_RATIO

RATIOS = (0, 0.3, 0.9, 0.985, 0.989, 0.991, 0.995, 0.9999, 1, 1.005, 1.02)


def two_groups(seed, ratio):
    """Responses (C, h, w) of two groups that share no pixel, whose first singular values have this ratio."""
    rng = np.random.default_rng(seed)
    groups = [rng.random(shape) for shape in ((3, 60), (5, 100))]
    first, second = (group / np.linalg.norm(group, 2) for group in groups)
    return rng.permutation(scipy.linalg.block_diag(ratio * first, second)).reshape(8, 10, 16)


@pytest.fixture
def features(monkeypatch):
    """Give a function that returns u_1 and the flag of each slice, as if a network had so responded."""

    def of(maps):
        def respond(_network, _inputs, layers, _resolution="pooled"):
            return dict.fromkeys(layers, torch.from_numpy(maps))

        monkeypatch.setattr(eigenfeature, "responses", respond)
        model = SimpleNamespace(network=torch.nn.Identity(), preprocessing=lambda images: images)
        samples = SimpleNamespace(read=lambda indices: np.zeros((len(indices), 4, 4), np.float32))
        (block,) = eigenfeature.slice_features(
            model,
            samples,
            np.arange(len(maps)),
            "relu2",
            "pooled",
            device=torch.device("cpu"),
            seed=0,
            block=len(maps),
        )
        return block.svd.u[:, 0], block.flags

    return of


@pytest.mark.parametrize("seed", range(5))
def test_eigenfeatures_are_not_negative_unless_flagged(features, seed):
    maps = np.stack([two_groups(seed, ratio) for ratio in RATIOS]).astype(np.float32)
    u, flags = features(maps)
    ratios = [s[1] / s[0] for _, s, _ in map(reference.singular_triplets, maps)]
    assert flags == ["ill-determined" if ratio > ILL_DETERMINED_RATIO else "" for ratio in ratios]
    assert flags.count("ill-determined") == sum(0.99 < ratio < 1.01 for ratio in RATIOS)
    for vector, flag in zip(u, flags, strict=True):
        assert flag or vector.min() >= -1e-5


def test_one_channel_is_never_ill_determined(features):
    """It has no second singular value."""
    u, flags = features(np.stack([two_groups(seed, 1)[:1] for seed in range(3)]).astype(np.float32))
    assert flags == ["", "", ""]
    assert (u >= 0).all()
