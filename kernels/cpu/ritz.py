"""What a Lanczos iteration computes between its passes, in the calling thread: float64, on vectors of C."""

from typing import Any

import numpy as np

from eigenfeatures.kernels.cpu.compile import helper, inlined
from eigenfeatures.kernels.cpu.eigen import copy, decompose, dot, largest_of, subtract

# Passes before the residuals tell how fast they fall.
TRIAL = 4

# How many times as many passes as a search takes may be expected early in it: convergence speeds up.
OVERESTIMATE = 1.5

# To which σ₂/σ₁ is sought.
RATIO = 1e-3

# Residual of the second approximation, against its distance to the third, from which on it is one singular
# vector's and no mixture of two. On responses to CT, a mixture of v_2 and v_3 had 0.06 and more.
APART = 0.03

# A direction left over that is this small against the largest eigenvalue is rounding.
NEGLIGIBLE = 1e-12

# Factor of the random weights of a start, whose mean square is 13/12: they are a twentieth of it, about
# twice as far as the vectors of neighbouring slices are apart.
RANDOM_PART = 0.048

# The same for the second start, whose residual then costs next to no pass; it only keeps a vector that was
# the second from being an exact one again, which nothing would lead away from.
SECOND_RANDOM_PART = 0.1 * RANDOM_PART

# Tolerance up to which a search goes on, whatever is asked for: with a looser one, what a start has of the
# leading vector passes for a residual of the second.
LOOSEST = 1e-5


def searched_to(tol: float) -> float:
    """Return the tolerance of a search; half of what is asked for is left to the rounding of results."""
    return min(tol / 2, LOOSEST)


@helper
def divide(vector: Any, number: Any) -> None:
    """Divide a vector by a number."""
    for c in range(vector.size):
        vector[c] /= number


@helper
def normalise(vector: Any) -> Any:
    """Divide a vector by its norm, which is returned, unless it is 0."""
    size = np.sqrt(dot(vector, vector))
    if size > 0:
        divide(vector, size)
    return size


@helper
def orthonormalise(vector: Any, basis: Any) -> Any:
    """Reduce a vector to its unit part outside the rows of the basis; tell whether one is left.

    Twice is enough (Kahan, Parlett).
    """
    size = normalise(vector)
    for _ in range(2):
        for i in range(len(basis)):
            subtract(vector, dot(basis[i], vector), basis[i])
        size = normalise(vector)
    return size > 0  # false for NaN


@helper
def extend(projected: Any, basis: Any, images: Any) -> None:
    """Add the last row of the basis to the projected matrix, made symmetric.

    `images` are the rows times XᵀX.
    """
    last = len(basis) - 1
    for i in range(last + 1):
        mean = (dot(basis[i], images[last]) + dot(basis[last], images[i])) / 2
        projected[i, last] = mean
        projected[last, i] = mean


@inlined
def leading_pairs(projected: Any, values: Any, weights: Any) -> None:
    """Fill `values` and `weights` (m, k) with the first eigenvalues and vectors of a projected matrix (k, k).

    Those beyond the k-th become zero. There may be more values than vectors.
    """
    count = len(projected)
    largest = 0.0
    for i in range(count):
        largest = max(largest, largest_of(projected[i]))
    values[:], weights[:] = 0.0, 0.0
    if largest == 0:  # X maps all of the basis to zero: any of it will do
        weights[0, 0] = 1.0
        return
    found, vectors = np.empty(count), np.empty((min(len(weights), count), count))
    scaled = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            scaled[i, j] = projected[i, j] / largest
    decompose(scaled, found, vectors)
    for i in range(len(vectors)):
        copy(vectors[i], weights[i, :count])
    for i in range(min(len(values), count)):
        values[i] = found[i] * largest


@helper
def ratio_is_known(values: Any, residual: Any) -> Any:
    """Tell whether √(θ_2 / θ_1) has an error of about `RATIO` at most, from three Ritz values.

    An eigenvalue is as near to θ_2 as its residual, and nearer than the residual's square over the
    distance to all others (Parlett 1998, theorem 11.7.1), for which θ_3 stands once it can: of a mixture of
    two vectors θ_2 is between their values, and θ_3 below both.
    """
    if values[0] == 0:
        return False
    off, apart = residual / values[0], (values[1] - values[2]) / values[0]
    if off < APART * apart:
        off *= off / apart
    ratio = np.sqrt(max(values[1] / values[0], 0.0))
    return off <= RATIO * max(2 * ratio, RATIO)


@helper
def combine(rows: Any, weights: Any, out: Any) -> None:
    """Fill `out` (C) with Σ_k weights[k] · rows[k]."""
    out[:] = 0.0
    for k in range(len(rows)):
        subtract(out, -weights[k], rows[k])


@helper
def falls_fast_enough(largest: Any, now: Any, since: Any, made: Any, tol: Any, limit: Any) -> Any:
    """Tell whether residuals that go on falling as they did from the largest meet `tol` within the limit.

    That one was `since` passes ago: of a start far from the leading vector they rise at first. So many
    passes are up to `OVERESTIMATE` times those that it takes.
    """
    if made < TRIAL:
        return True
    fall = np.log(largest / now) / max(since, 1)
    expected = made + np.log(now / tol) / max(fall, 1e-3)
    return expected <= OVERESTIMATE * limit
