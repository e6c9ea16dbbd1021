"""Principal angles, against SciPy and where they are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from eigenfeatures.eigen.study.subspaces import (
    SUBSPACE_RANKS,
    angles_between,
    prepare_subspaces,
    subspace_overlap,
)


def vectors(seed, slices=3, k=8, shape=(9, 7)):
    return np.random.default_rng(seed).normal(size=(slices, k, *shape)).astype(np.float32)


def columns(maps, rank):
    return maps[:rank].reshape(rank, -1).T.astype(np.float64)


def principal_angles(a, b, rank):
    return angles_between(prepare_subspaces(a[:, :rank]), prepare_subspaces(b[:, :rank]), rank)


@pytest.mark.parametrize("rank", SUBSPACE_RANKS)
@pytest.mark.parametrize("apart", [1, 1e-1, 1e-4])
def test_angles_equal_scipys(rank, apart):
    a = vectors(0)
    b = a + np.float32(apart) * vectors(1)
    found = principal_angles(a, b, rank)
    assert found.shape == (3, rank)
    for k in range(3):
        expected = np.degrees(subspace_angles(columns(a[k], rank), columns(b[k], rank)))[::-1]
        np.testing.assert_allclose(found[k], expected, rtol=1e-6)


def test_angles_by_construction():
    """Planes turned out of each other by 10 and 80 degrees, in directions that share nothing."""
    first, second, third, fourth = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 4)))[0].T
    small, large = np.radians([10, 80])
    turned = [np.cos(small) * first + np.sin(small) * third, np.cos(large) * second + np.sin(large) * fourth]
    a = np.stack([first, second]).reshape(1, 2, 6, 8)
    b = np.stack([turned[1], -3 * turned[0] + turned[1]]).reshape(1, 2, 6, 8)
    angles = principal_angles(a, b, 2)
    np.testing.assert_allclose(angles, [[10, 80]], atol=1e-9)
    expected = (np.cos(small) ** 2 + np.cos(large) ** 2) / 2
    np.testing.assert_allclose(subspace_overlap(angles), [expected])


def test_the_space_counts_and_not_its_vectors():
    a = vectors(0)
    mixed = np.einsum("ij,sjhw->sihw", np.random.default_rng(1).normal(size=(8, 8)), a.astype(np.float64))
    np.testing.assert_allclose(principal_angles(a, mixed, 8), 0, atol=1e-9)
    np.testing.assert_allclose(principal_angles(a, -a, 1), 0, atol=1e-9)
    # Negative control: of fewer mixed vectors the space is another one.
    assert (principal_angles(a, mixed, 2)[:, -1] > 10).all()


def test_orthogonal_and_independent_spaces():
    basis = np.eye(36).reshape(1, 36, 6, 6)
    np.testing.assert_allclose(principal_angles(basis[:, :4], basis[:, 4:8], 4), 90)
    overlap = subspace_overlap(principal_angles(vectors(0, 200), vectors(1, 200), 8))
    assert overlap.mean() == pytest.approx(8 / 63, abs=0.01)


def test_slices_with_fewer_vectors_have_no_angles():
    a, b = vectors(0, slices=5), vectors(1, slices=5)
    a[1, 3] = 0
    a[2, 3] = a[2, 0] + 2 * a[2, 1]
    b[3, 2, 0, 0] = np.nan
    for found in (principal_angles(a, b, 4), principal_angles(b, a, 4)):
        assert np.isfinite(found).all(1).tolist() == [True, False, False, False, True]
        assert np.isnan(found[1:4]).all()
    assert np.isfinite(principal_angles(a, b, 2)).all()
    assert np.isnan(principal_angles(a[:, :2], b, 4)).all()
    assert np.isnan(principal_angles(a[..., :1, :3], b[..., :1, :3], 4)).all()


def test_a_basis_serves_all_ranks():
    a, b = prepare_subspaces(vectors(0)), prepare_subspaces(vectors(1))
    assert a.independent.tolist() == [8, 8, 8]
    for rank in SUBSPACE_RANKS:
        expected = principal_angles(vectors(0), vectors(1), rank)
        np.testing.assert_allclose(angles_between(a, b, rank), expected, rtol=1e-9)


def test_vectors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="resample them first"):
        principal_angles(vectors(0), vectors(0, shape=(7, 9)), 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SUBSPACE_RANKS), st.floats(0, 10))
def test_angles_are_symmetric_ascending_and_bounded(seed, rank, apart):
    a = vectors(seed, slices=2)
    b = a + apart * vectors(seed + 1, slices=2)
    angles = principal_angles(a, b, rank)
    np.testing.assert_allclose(angles, principal_angles(b, a, rank), atol=1e-6)
    assert (np.diff(angles, axis=1) >= -1e-9).all()
    assert (angles >= 0).all()
    assert (angles <= 90 + 1e-9).all()
