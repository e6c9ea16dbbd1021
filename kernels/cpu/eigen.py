"""Eigenvectors of a small symmetric matrix, in the calling thread.

LAPACK by way of NumPy would share the cores with Numba's threads, which still spin after a parallel
loop: on two cores, 128 × 128 took 6 ms in place of 1.2 ms.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import helper, inlined, reduction

# An element this small against the largest counts as zero: squares near it, and quotients by it, would
# leave the range of numbers.
_TINY = 1e-130

# Of float64; to ask for it in a loop takes longer to compile.
_EPS = float(np.finfo(np.float64).eps)


@reduction
def dot(a: Any, b: NDArray[np.float64]) -> float:
    """Return the inner product."""
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@helper
def copy(values: Any, out: Any) -> None:
    """Fill `out` with as many values.

    NumPy's assignment of an array brings a message with both shapes, for which Numba compiles its strings.
    """
    for j in range(out.size):
        out[j] = values[j]


@helper
def largest_of(row: Any) -> Any:
    """Return the largest magnitude."""
    largest = 0.0
    for j in range(row.size):
        largest = max(largest, abs(row[j]))
    return largest


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
def reflector(row: NDArray[np.float64], w: NDArray[np.float64]) -> Any:
    """Fill `w` with the unit vector whose reflection I − 2 w wᵀ turns `row` to its first axis.

    Return what the row's first component becomes. A row of zeros leaves `w` zero.
    """
    largest = largest_of(row)
    if largest == 0:
        w[:] = 0.0
        return 0.0
    for j in range(w.size):
        w[j] = row[j] / largest
    size = np.sqrt(dot(w, w))
    lead = size if w[0] >= 0 else -size
    w[0] += lead
    size = np.sqrt(dot(w, w))
    for j in range(w.size):
        w[j] /= size
    return -lead * largest


@inlined
def tridiagonalize(
    a: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    beside: NDArray[np.float64],
    reflectors: NDArray[np.float64],
) -> None:
    """Reduce `a` (n, n), which is overwritten, to a tridiagonal matrix by Householder's reflections.

    Golub, Van Loan 2013, algorithm 8.3.1, where a row is changed and at once multiplied by the next
    reflector, since the first row that is left decides that. Row k of `reflectors` (n, n) holds w_k
    from column k + 1 on.
    """
    n = len(a)
    product, following = np.zeros(n), np.zeros(n)
    if n > 2:
        beside[0] = reflector(a[0, 1:], reflectors[0, 1:])
        for i in range(1, n):
            product[i] = 2 * dot(a[i, 1:], reflectors[0, 1:])
    for k in range(n - 2):
        w, p = reflectors[k, k + 1 :], product[k + 1 :]
        subtract(p, dot(p, w), w)
        subtract_two(a[k + 1, k + 1 :], w[0], p, p[0], w)
        more = k + 3 < n
        if more:
            beside[k + 1] = reflector(a[k + 1, k + 2 :], reflectors[k + 1, k + 2 :])
        for i in range(k + 2, n):
            subtract_two(a[i, k + 1 :], w[i - k - 1], p, p[i - k - 1], w)
            if more:
                following[i] = 2 * dot(a[i, k + 2 :], reflectors[k + 1, k + 2 :])
        copy(following, product)
    for k in range(n):
        diagonal[k] = a[k, k]
    if n > 1:
        beside[n - 2] = a[n - 2, n - 1]
    beside[n - 1] = 0.0


@helper
def grown(rotations: Any, rows: Any) -> Any:
    """Return the same with room for twice as many."""
    count = len(rows)
    more, more_rows = np.empty((2 * count, 2)), np.empty(2 * count, np.int32)
    for t in range(count):
        more[t, 0], more[t, 1], more_rows[t] = rotations[t, 0], rotations[t, 1], rows[t]
    return more, more_rows


@inlined
def diagonalize(diagonal: NDArray[np.float64], beside: NDArray[np.float64]) -> Any:
    """Turn a tridiagonal matrix into its eigenvalues; return the rotations that did so, and their rows.

    Its largest element is about 1.

    Implicit QL iteration: Bowdler, Martin, Reinsch, Wilkinson 1968, procedure tql2. A rotation
    (cosine, sine) is of a row and the next.
    """
    n = len(diagonal)
    rotations, rows = np.empty((n * n + n, 2)), np.empty(n * n + n, np.int32)
    made = 0
    shift, scale = 0.0, _TINY
    for first in range(n):
        scale = max(scale, abs(diagonal[first]) + abs(beside[first]))
        last = first
        while last < n - 1 and abs(beside[last]) > _EPS * scale:
            last += 1
        while last > first and abs(beside[first]) > _EPS * scale:
            if made + n > len(rows):
                rotations, rows = grown(rotations, rows)
            shift += ql_step(diagonal, beside, rotations[made:], rows[made:], first, last)
            made += last - first
        diagonal[first] += shift
        beside[first] = 0.0
    return rotations[:made], rows[:made]


@helper
def ql_step(
    diagonal: NDArray[np.float64],
    beside: NDArray[np.float64],
    rotations: NDArray[np.float64],
    rows: NDArray[np.int32],
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
    for i in range(first + 2, len(diagonal)):
        diagonal[i] -= step
    p = diagonal[last]
    cosine = cosine1 = cosine2 = 1.0
    sine = sine1 = 0.0
    for i in range(last - 1, first - 1, -1):
        cosine2, cosine1, sine1 = cosine1, cosine, sine
        g, h = cosine * beside[i], cosine * p
        r = np.sqrt(p * p + beside[i] * beside[i])
        beside[i + 1] = sine * r
        sine, cosine = (beside[i] / r, p / r) if r > _TINY else (0.0, 1.0)
        p = cosine * diagonal[i] - sine * g
        diagonal[i + 1] = h + sine * (cosine * g + sine * diagonal[i])
        made = last - 1 - i
        rotations[made, 0], rotations[made, 1] = cosine, sine
        rows[made] = i
    p = -sine * sine1 * cosine2 * beyond * beside[first] / second
    beside[first] = sine * p
    diagonal[first] = cosine * p
    return step


@inlined
def descending(values: Any, order: Any) -> None:
    """Fill `order` with the places of values from the largest on, equal ones as they come."""
    for i in range(len(values)):
        k = i
        while k > 0 and values[order[k - 1]] < values[i]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = i


@inlined
def turn_back(rotations: NDArray[np.float64], rows: NDArray[np.int32], turned: NDArray[np.float64]) -> None:
    """Apply rotations, the last one first, to the columns of `turned` (n, k)."""
    for t in range(len(rows) - 1, -1, -1):
        cosine, sine = rotations[t, 0], rotations[t, 1]
        upper, lower = turned[rows[t]], turned[rows[t] + 1]
        for j in range(turned.shape[1]):
            above, below = upper[j], lower[j]
            upper[j] = cosine * above + sine * below
            lower[j] = cosine * below - sine * above


@helper
def decompose(a: NDArray[np.float64], values: NDArray[np.float64], vectors: NDArray[np.float64]) -> None:
    """Fill `values` (n), descending, and the first eigenvectors as rows (k, n); `a` is overwritten.

    An eigenvector is a row of the product of all rotations and reflections. To follow a few rows
    back through them takes k n² operations, where all rows take n³ several times.
    """
    n = len(a)
    beside, reflectors = np.empty(n), np.zeros((n, n))
    tridiagonalize(a, values, beside, reflectors)
    rotations, rows = diagonalize(values, beside)
    order = np.empty(n, np.int64)
    descending(values, order)
    turned = np.zeros((n, len(vectors)))
    for j in range(len(vectors)):
        turned[order[j], j] = 1.0
    turn_back(rotations, rows, turned)
    for j in range(len(vectors)):
        copy(turned[:, j], vectors[j])
        for k in range(n - 3, -1, -1):
            part, w = vectors[j, k + 1 :], reflectors[k, k + 1 :]
            subtract(part, 2 * dot(part, w), w)
    for i in range(n):
        beside[i] = values[order[i]]
    copy(beside, values)


def eigenvectors(
    symmetric: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the eigenvalues (n) of a finite matrix, descending, and the first vectors as rows (count, n)."""
    values, vectors = np.empty(len(symmetric)), np.empty((count, len(symmetric)))
    exponent = int(np.frexp(np.abs(symmetric).max())[1])  # so that squares stay in range
    decompose(np.ldexp(symmetric, -exponent), values, vectors)
    return np.ldexp(values, exponent), vectors
