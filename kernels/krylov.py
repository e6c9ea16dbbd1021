"""The leading right singular vector by a Krylov space, with proof that it leads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu import philox
from eigenfeatures.kernels.cpu import svd as loops

# A direction left over that is this small against the largest eigenvalue is rounding.
_NEGLIGIBLE = 1e-12


def random_signs(count: int, seed: int, stream: int = 0) -> NDArray[np.float64]:
    """Return a vector of ±1 that depends only on the seed and the stream."""
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    signs = np.empty(count)
    philox.random_signs(key, stream, signs)
    return signs


def normal_product(x: NDArray[Any], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Xᵀ X y in one pass over X, held as rows ``(C, n)``."""
    shares = np.empty((loops.tile_count(x.shape[1]), len(x)))
    loops.normal_product(x, y.astype(x.dtype), shares)
    total: NDArray[np.float64] = shares.sum(axis=0)
    return total


def leading_vector(
    x: NDArray[Any], energy: float, start: NDArray[np.float64], tol: float, max_passes: int, seed: int
) -> tuple[NDArray[np.float64] | None, int]:
    """Search the leading right singular vector of X by Lanczos iteration.

    Lanczos with full reorthogonalisation on A = XᵀX: the next basis vector is the
    residual of the best approximation so far (Rayleigh–Ritz), which spans the same
    space as the three-term recurrence and needs no further pass.

    A small residual tells that there is a singular vector, not that it is the first: a
    start from a neighbouring slice can miss another that has overtaken it. The pair
    (θ₁, v) leads for certain where θ₁ ≥ θ₂ + (‖X‖²_F − Σθ): A is positive, so nothing
    outside the space can exceed the trace that is left for it.

    Parameters
    ----------
    x
        Rows ``(C, n)``.
    energy
        ``‖X‖²_F``.
    start
        Any vector ``(C,)`` but zero.
    tol
        Bound for ``‖A v − θ v‖ / θ``.
    max_passes
        Passes over X after which the search ends.
    seed
        For the random direction to go on with where the space is exhausted.

    Returns
    -------
    v, passes
        A unit vector ``(C,)``, or None where the search ended without one; and the passes made.
    """
    channels = len(x)
    basis = np.empty((0, channels))
    images = np.empty((0, channels))
    direction = start
    for passes in range(1, min(max_passes, channels) + 1):
        direction = _orthonormal(direction, basis)
        basis = np.vstack([basis, direction])
        images = np.vstack([images, normal_product(x, direction)])
        projected = basis @ images.T
        values, vectors = np.linalg.eigh((projected + projected.T) / 2)
        v = vectors[:, -1] @ basis
        remainder = vectors[:, -1] @ images - values[-1] * v
        size = float(np.linalg.norm(remainder))
        second = values[-2] if passes > 1 else 0.0
        outside = max(energy - values.sum(), 0.0)
        if size <= tol * values[-1] and values[-1] >= second + outside:
            return v / np.linalg.norm(v), passes
        negligible = size <= _NEGLIGIBLE * values[-1]
        direction = random_signs(channels, seed, stream=passes) if negligible else remainder
    return None, min(max_passes, channels)


def _orthonormal(vector: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of a vector outside the basis, at unit length; twice is enough (Kahan, Parlett)."""
    unit = vector / np.linalg.norm(vector)
    for _ in range(2):
        unit = unit - (unit @ basis.T) @ basis
        unit /= np.linalg.norm(unit)
    return unit
