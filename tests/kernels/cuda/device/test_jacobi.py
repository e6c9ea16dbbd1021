"""Eigenvectors by Jacobi rotations on a device against LAPACK's."""

import numpy as np
import pytest

from eigenfeatures.kernels.cuda import jacobi, memory
from eigenfeatures.kernels.cuda.compile import SIMULATED, WARP

# One row, odd and even numbers, more pairs than the two warps below.
SIZES = [1, 2, 3, 6] if SIMULATED else [1, 2, 3, 6, 33, 128, 301, 1024]


def positive(size, rank, dtype, seed=0):
    """A positive definite matrix of trace 1, whose eigenvalues beyond the rank are all but 0."""
    factor = np.random.default_rng(seed).standard_normal((size, rank)) * 0.7 ** np.arange(rank)
    matrix = factor @ factor.T
    matrix /= np.trace(matrix)
    return (matrix + 16 * np.finfo(dtype).eps * np.eye(size)).astype(dtype)


def solved(matrices, warps=2):
    """Eigenvalues, descending, and eigenvectors in rows, of a batch; and whether it converged."""
    rows, converged = memory.to_device(matrices), memory.to_device(np.zeros(len(matrices), np.bool_))
    threshold = matrices.dtype.type(np.sqrt(matrices.shape[1]) * np.finfo(matrices.dtype).eps)
    memory.launch(jacobi.eigenvectors, len(matrices), warps * WARP, rows, threshold, converged)
    rows = memory.to_host(rows).astype(np.float64)
    values = np.linalg.norm(rows, axis=2)
    order = np.argsort(-values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    vectors = np.take_along_axis(rows, order[..., np.newaxis], axis=1) / values[..., np.newaxis]
    return values, vectors, memory.to_host(converged)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_lapack(size, dtype):
    matrices = np.stack([positive(size, size, dtype), positive(size, (size + 1) // 2, dtype, 1)])
    values, vectors, converged = solved(matrices)
    assert converged.all()
    # Rounding of the rotations, each of a step of the precision.
    tol = 20 * np.sqrt(size) * np.finfo(dtype).eps
    for matrix, found, rows in zip(matrices.astype(np.float64), values, vectors, strict=True):
        np.testing.assert_allclose(found, np.linalg.eigvalsh(matrix)[::-1], atol=tol)
        np.testing.assert_allclose(rows @ rows.T, np.eye(size), atol=tol)
        np.testing.assert_allclose(rows @ matrix, found[:, np.newaxis] * rows, atol=tol)


def test_more_warps_than_pairs_and_ties():
    values, vectors, converged = solved(np.stack([np.eye(3), np.diag([1.0, 3.0, 1.0])]) / 5, warps=3)
    assert converged.all()
    np.testing.assert_allclose(values, np.array([[1, 1, 1], [3, 1, 1]]) / 5)
    np.testing.assert_allclose(vectors @ vectors.transpose(0, 2, 1), np.stack([np.eye(3)] * 2), atol=1e-15)


def test_each_pair_meets_once_a_sweep():
    for players in (2, 4, 10):
        met = set()
        for step in range(players - 1):
            pairs = [jacobi.opponents.py_func(pair, step, players) for pair in range(players // 2)]
            assert sorted(int(row) for pair in pairs for row in pair) == list(range(players))
            met |= {frozenset(pair) for pair in pairs}
        assert len(met) == players * (players - 1) // 2


def test_what_does_not_converge_is_told():
    """The negative control: no cosine is as small as this, for rounding."""
    matrices = positive(5, 5, np.float64)[np.newaxis]
    rows, converged = memory.to_device(matrices), memory.to_device(np.ones(1, np.bool_))
    memory.launch(jacobi.eigenvectors, 1, WARP, rows, 1e-30, converged)
    assert not memory.to_host(converged)[0]
