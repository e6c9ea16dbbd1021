"""Eigenvectors of a small symmetric matrix, in the calling thread.

LAPACK by way of NumPy would share the cores with Numba's threads, which still spin after a parallel
loop: on two cores, 128 × 128 took 6 ms in place of 1.2 ms.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import helper, reduction


@reduction
def dot(a: Any, b: NDArray[np.float64]) -> float:
    """Return the inner product."""
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@helper
def subtract(row: NDArray[np.float64], factor: float, other: NDArray[np.float64]) -> None:
    """Subtract a multiple of another row."""
    for j in range(row.size):
        row[j] -= factor * other[j]


@helper
def subtract_two(row: Any, factor: float, other: Any, factor2: float, other2: Any) -> None:
    """Subtract multiples of two other rows."""
    for j in range(row.size):
        row[j] -= factor * other[j] + factor2 * other2[j]


@helper
def tridiagonalize(
    a: NDArray[np.float64], diagonal: NDArray[np.float64], beside: NDArray[np.float64], q: NDArray[np.float64]
) -> None:
    """Reduce `a` (n, n), which is overwritten, to a tridiagonal matrix T = Qᵀ A Q, with Qᵀ in `q`.

    Householder's reflections I − 2 w wᵀ (Golub, Van Loan 2013, algorithm 8.3.1).
    """
    n = len(a)
    reflectors = np.zeros((n, n))
    product = np.empty(n)
    for k in range(n - 2):
        w = reflectors[k, k + 1 :]
        w[:] = a[k, k + 1 :]
        largest = np.abs(w).max()
        if largest == 0:
            continue
        w /= largest
        size = np.sqrt(dot(w, w))
        lead = size if w[0] >= 0 else -size
        w[0] += lead
        w /= np.sqrt(dot(w, w))
        p = product[k + 1 :]
        for i in range(n - k - 1):
            p[i] = 2 * dot(a[k + 1 + i, k + 1 :], w)
        subtract(p, dot(p, w), w)
        for i in range(n - k - 1):
            subtract_two(a[k + 1 + i, k + 1 :], w[i], p, p[i], w)
        a[k, k + 1] = -lead * largest
    q[:] = np.eye(n)
    for k in range(n - 3, -1, -1):
        w = reflectors[k, k + 1 :]
        for i in range(k + 1, n):
            subtract(q[i, k + 1 :], 2 * dot(q[i, k + 1 :], w), w)
    for k in range(n):
        diagonal[k] = a[k, k]
        beside[k] = a[k, k + 1] if k + 1 < n else 0.0


@helper
def rotate(row: NDArray[np.float64], other: NDArray[np.float64], cosine: float, sine: float) -> None:
    """Rotate two rows."""
    for j in range(row.size):
        upper, lower = row[j], other[j]
        other[j] = sine * upper + cosine * lower
        row[j] = cosine * upper - sine * lower


@helper
def diagonalize(
    diagonal: NDArray[np.float64], beside: NDArray[np.float64], vectors: NDArray[np.float64]
) -> None:
    """Turn a tridiagonal matrix into its eigenvalues and rotate the rows `vectors` along.

    Implicit QL iteration: Bowdler, Martin, Reinsch, Wilkinson 1968, procedure tql2.
    """
    n = len(diagonal)
    shift, scale = 0.0, 0.0
    for first in range(n):
        scale = max(scale, abs(diagonal[first]) + abs(beside[first]))
        last = first
        while last < n - 1 and abs(beside[last]) > np.finfo(np.float64).eps * scale:
            last += 1
        while last > first and abs(beside[first]) > np.finfo(np.float64).eps * scale:
            shift += ql_step(diagonal, beside, vectors, first, last)
        diagonal[first] += shift
        beside[first] = 0.0


@helper
def ql_step(
    diagonal: NDArray[np.float64],
    beside: NDArray[np.float64],
    vectors: NDArray[np.float64],
    first: int,
    last: int,
) -> Any:
    """Do one QL step on rows `first` to `last` and return the shift that it took off the diagonal."""
    start = diagonal[first]
    p = (diagonal[first + 1] - start) / (2 * beside[first])
    r = np.sqrt(p * p + 1.0) if p >= 0 else -np.sqrt(p * p + 1.0)
    diagonal[first] = beside[first] / (p + r)
    diagonal[first + 1] = beside[first] * (p + r)
    second, step, beyond = diagonal[first + 1], start - diagonal[first], beside[first + 1]
    diagonal[first + 2 :] -= step
    p = diagonal[last]
    cosine = cosine1 = cosine2 = 1.0
    sine = sine1 = 0.0
    for i in range(last - 1, first - 1, -1):
        cosine2, cosine1, sine1 = cosine1, cosine, sine
        g, h = cosine * beside[i], cosine * p
        r = np.sqrt(p * p + beside[i] * beside[i])
        beside[i + 1] = sine * r
        sine, cosine = beside[i] / r, p / r
        p = cosine * diagonal[i] - sine * g
        diagonal[i + 1] = h + sine * (cosine * g + sine * diagonal[i])
        rotate(vectors[i], vectors[i + 1], cosine, sine)
    p = -sine * sine1 * cosine2 * beyond * beside[first] / second
    beside[first] = sine * p
    diagonal[first] = cosine * p
    return step


@helper
def decompose(
    a: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    beside: NDArray[np.float64],
    vectors: NDArray[np.float64],
) -> None:
    """Fill `diagonal` (n) with eigenvalues and the rows of `vectors` (n, n); `a` is overwritten."""
    tridiagonalize(a, diagonal, beside, vectors)
    diagonalize(diagonal, beside, vectors)


def eigenvectors(symmetric: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the eigenvalues (n), descending, and the eigenvectors as rows (n, n) of a finite matrix."""
    n = len(symmetric)
    values, beside, vectors = np.empty(n), np.empty(n), np.empty((n, n))
    exponent = int(np.frexp(np.abs(symmetric).max())[1])  # so that squares stay in range
    decompose(np.ldexp(symmetric, -exponent), values, beside, vectors)
    order = np.argsort(-values, kind="stable")
    return np.ldexp(values[order], exponent), vectors[order]
