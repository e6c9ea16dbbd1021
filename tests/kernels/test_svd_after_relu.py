"""Eigenfeatures after a ReLU: none is negative, unless the gap tells that it is ill-determined."""

import numpy as np
import pytest
import reference
import scipy.linalg
from spectra import measured

from eigenfeatures.kernels import truncated_svd

TOL = 1e-5

# Above this ratio s_2 / s_1 an eigenfeature is flagged.
FLAGGED = 0.99


def sparse(seed, share):
    """Maps after a ReLU of which few pixels respond, and channels seldom at the same ones."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((16, 25, 24)) < share, rng.random((16, 25, 24)), 0).astype(np.float32)


def disjoint(seed, ratio):
    """Two groups of maps that share no pixel, whose largest singular values have this ratio."""
    rng = np.random.default_rng(seed)
    groups = [rng.random(shape) for shape in ((2, 100), (7, 400))]
    groups = [group / np.linalg.norm(group, 2) for group in groups]
    maps = scipy.linalg.block_diag(groups[0] * ratio, groups[1])
    return rng.permutation(maps).reshape(9, 20, 25).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.005])
def test_eigenfeatures_after_a_relu_are_not_negative(share):
    """Up to what the residual and the gap allow: none where two maps lead together."""
    for seed in range(10):
        maps = sparse(seed, share)
        for svd in (truncated_svd(maps), truncated_svd(maps, 2)):
            s = reference.singular_triplets(maps)[1]
            allowed = 2 * max(svd.residual, 2e-7) / (1 - s[1] / s[0])
            assert svd.u[0].min() >= -allowed
            assert svd.u[0].sum() >= 0


MADE = [(sparse, share) for share in (0.5, 0.1, 0.02, 0.005)]
MADE += [(disjoint, ratio) for ratio in (0.5, 0.98, 0.999, 1, 1.05)]


@pytest.mark.parametrize("options", [{"gap": True}, {"gap": True, "max_passes": 16}, {"rank": 2}])
def test_eigenfeatures_are_not_negative_unless_the_gap_tells(options):
    """As every slice is told, from Gram matrices, and by searches that start from other slices."""
    told = set()
    for make, how in MADE:
        svd = truncated_svd(np.stack([make(seed, how) for seed in range(20)]), **options)
        negative, flagged = svd.u[:, 0].min(axis=(-2, -1)) < -TOL, svd.gap > FLAGGED
        assert (flagged | ~negative).all()
        assert make is sparse or (flagged == (0.99 < how < 1.01)).all()
        told |= set(zip(negative.tolist(), flagged.tolist(), strict=True))
    # The negative control: searches do find negative ones, where two maps lead together.
    assert ((True, True) in told) == ("max_passes" in options)
    assert told >= {(False, False), (False, True)}


def test_maps_that_share_no_pixel_lead_together():
    """Two equal singular values: any mixture is right, so u_1 may be negative, and its sum is not."""
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0, :5], maps[1, 5:] = 1, 1
    svd = truncated_svd(maps, 2)
    assert svd.s[1] / svd.s[0] == pytest.approx(1, abs=1e-6)
    assert measured(maps, svd.u, svd.s, svd.v)[0] <= TOL
    assert svd.u[0].sum() >= 0
