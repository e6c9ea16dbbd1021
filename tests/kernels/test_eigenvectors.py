"""Eigenvectors of small symmetric matrices against LAPACK."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eigenfeatures.kernels.cpu.eigen import eigenvectors

EPS = np.finfo(np.float64).eps


def with_values(values, seed=0):
    """A symmetric matrix with these eigenvalues, its vectors random."""
    n = len(values)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return (q * values) @ q.T


ORDINARY = with_values(np.arange(1.0, 8))

SPECTRA = {
    "a single number": np.array([[3.0]]),
    "two": np.array([[1.0, 2.0], [2.0, 1.0]]),
    "three": with_values([3.0, 2.0, -1.0]),
    "zero": np.zeros((9, 9)),
    "all equal": np.eye(12) * 5,
    "diagonal, ascending": np.diag(np.arange(20.0)),
    "rank one": np.ones((10, 10)),
    "half of them zero": with_values(np.r_[np.ones(32), np.zeros(32)]),
    "clustered": with_values(1 + 1e-12 * np.arange(40)),
    "polynomial": with_values(1 / np.arange(1.0, 129) ** 2),
    "exponential": with_values(10.0 ** -np.arange(60)),
    "both signs": with_values(np.linspace(-1, 1, 101)),
    "tiny": with_values(np.linspace(0, 1e-300, 17)),
    "huge": with_values(np.linspace(0, 1e300, 17)),
    "wide": with_values(np.linspace(1, 2, 300)),
    "a small block first": scipy.linalg.block_diag(1e-165 * with_values(np.arange(1.0, 6)), ORDINARY),
    "a small block last": scipy.linalg.block_diag(ORDINARY, 1e-165 * with_values(np.arange(1.0, 6))),
    "three blocks": scipy.linalg.block_diag(1e-300 * ORDINARY, 1e-150 * ORDINARY, ORDINARY),
    "a weak channel first": ORDINARY * np.outer(weakened := np.r_[1e-160, np.ones(6)], weakened),
    "a weak channel last": ORDINARY * np.outer(weakened[::-1], weakened[::-1]),
    "graded": ORDINARY * np.outer(graded := 1e-40 ** np.arange(7.0), graded),
    "graded, ascending": ORDINARY * np.outer(graded[::-1], graded[::-1]),
}


def assert_eigenvectors(matrix, count, solve=eigenvectors):
    """Residuals, orthogonality and values within LAPACK's error, a few n units of rounding."""
    values, vectors = solve(matrix, count)
    n = len(matrix)
    largest = np.abs(matrix).max()
    scaled, found = (matrix / largest, values / largest) if largest else (matrix, values)
    bound = 20 * max(n, 10) * EPS
    assert values.shape == (n,)
    assert vectors.shape == (count, n)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(scaled)[::-1], rtol=0, atol=bound)
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(scaled @ vectors.T, vectors.T * found[:count], rtol=0, atol=bound)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(count), rtol=0, atol=bound)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_values_and_the_first_vectors_are_lapacks(name, share):
    matrix = SPECTRA[name]
    assert_eigenvectors(matrix, max(1, round(share * len(matrix))))


@given(arrays(np.float64, (7, 7), elements=st.floats(-1e3, 1e3, width=32)), st.integers(1, 7))
def test_any_matrix(matrix, count):
    assert_eigenvectors(matrix + matrix.T, count)


def test_fewer_vectors_are_the_first_of_all():
    matrix = SPECTRA["polynomial"]
    values, every = eigenvectors(matrix, 128)
    few, first = eigenvectors(matrix, 3)
    np.testing.assert_array_equal(values, few)
    np.testing.assert_array_equal(every[:3], first)


def test_the_matrix_is_left_as_it_is():
    matrix = with_values(np.arange(1.0, 9))
    before = matrix.copy()
    eigenvectors(matrix, 2)
    np.testing.assert_array_equal(matrix, before)


def test_the_check_can_fail():
    def slightly_wrong(matrix, count):
        values, vectors = eigenvectors(matrix, count)
        return values, vectors + 1e-12

    with pytest.raises(AssertionError):
        assert_eigenvectors(SPECTRA["both signs"], 2, slightly_wrong)
