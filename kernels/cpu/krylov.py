"""The leading singular triplet of one slice by a Krylov space."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu import passes, philox

# A direction left over that is this small against the largest eigenvalue is rounding.
_NEGLIGIBLE = 1e-12

# Size of the random part of a start: about twice as far as the vectors of neighbouring slices are apart.
_RANDOM_PART = 0.05

# Passes before the residuals tell how fast they fall.
_TRIAL = 3


class Survey(NamedTuple):
    """``‖X‖²_F``, and whether no value is below zero."""

    energy: float
    nonnegative: bool


class Leading(NamedTuple):
    """The leading eigenpair of XᵀX: v = Σ weights_k y_k, its image XᵀX v, and the products X y_k."""

    value: float
    v: NDArray[np.float64]
    image: NDArray[np.float64]
    weights: NDArray[np.float64]
    products: NDArray[Any]


def random_signs(count: int, seed: int, stream: int = 0) -> NDArray[np.float64]:
    """Return a vector of ±1 that depends only on the seed and the stream."""
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    signs = np.empty(count)
    philox.random_signs(key, stream, signs)
    return signs


def survey(x: NDArray[Any]) -> Survey:
    """Read the rows ``(C, n)`` for what is asked before the search."""
    tiles = np.empty((passes.tile_count(x.shape[1]), len(x), 2))
    passes.survey(x, tiles)
    return _surveyed(tiles)


def _surveyed(tiles: NDArray[np.float64]) -> Survey:
    return Survey(float(tiles[..., 0].sum()), not tiles[..., 1].any())


class Search:
    """Search the leading singular triplet of X by Lanczos iteration.

    Lanczos with full reorthogonalisation on A = XᵀX: the next basis vector is the residual of the
    best approximation so far (Rayleigh–Ritz), which spans the same space as the three-term
    recurrence and needs no further pass.

    A small residual tells that there is a singular vector, not that it is the first: a start from
    a neighbouring slice may have no part in another one that has overtaken it. So every start gets
    a random part. The largest Ritz value belongs to a space that holds the start; with a
    part in v₁ far above the tolerance, no other vector reaches a residual below it, unless the
    two singular values differ by about the tolerance over that part: some hundredths of s_1 at most.

    The vectors X y_k are kept, n numbers a pass, so that u needs no pass of its own.

    Parameters
    ----------
    x
        Rows ``(C, n)``.
    start
        A unit vector ``(C,)``.
    seed
        For the random direction to go on with where the space is exhausted.

    Attributes
    ----------
    survey
        Of x; the first pass looks along.
    """

    def __init__(self, x: NDArray[Any], start: NDArray[np.float64], seed: int) -> None:
        self._x, self._seed = x, seed
        self._tiles = passes.tile_count(x.shape[1])
        self._basis = np.empty((0, len(x)))
        self._images = np.empty((0, len(x)))
        self._products: list[NDArray[Any]] = []
        self._residuals: list[float] = []
        surveys = np.empty((self._tiles, len(x), 2))
        signs = random_signs(len(x), seed)
        self._read(orthonormal(start + _RANDOM_PART / np.sqrt(len(x)) * signs, self._basis), surveys)
        self.survey = _surveyed(surveys)

    @property
    def passes(self) -> int:
        """How often the pixels were read."""
        return len(self._products)

    def run(self, tol: float, limit: int) -> Leading | None:
        """Return the pair once ``‖A v − θ v‖ ≤ tol · θ``, or None where it takes more than `limit` passes."""
        while True:
            projected = self._basis @ self._images.T
            values, vectors = np.linalg.eigh((projected + projected.T) / 2)
            leading, largest = vectors[:, -1], values[-1]
            v, image = leading @ self._basis, leading @ self._images
            remainder = image - largest * v
            size = float(np.linalg.norm(remainder))
            if size <= tol * largest and self.passes > 1:
                return Leading(float(largest), v, image, leading, np.stack(self._products))
            self._residuals.append(size / largest if largest > 0 else 1.0)
            if self._expected(tol) > min(limit, len(self._x)):
                return None
            negligible = size <= _NEGLIGIBLE * largest
            direction = random_signs(len(self._x), self._seed, self.passes) if negligible else remainder
            self._read(orthonormal(direction, self._basis))

    def _read(self, y: NDArray[np.float64], surveys: NDArray[np.float64] | None = None) -> None:
        """Take a unit vector and its image into the space."""
        x = self._x
        product, shares = np.empty(x.shape[1], x.dtype), np.empty((self._tiles, len(x)))
        image = np.empty(len(x))
        given = (x, y.astype(x.dtype), product, shares, image)
        if surveys is None:
            passes.normal_product(*given)
        else:
            passes.surveyed_product(*given, surveys)
        self._basis = np.vstack([self._basis, y])
        self._images = np.vstack([self._images, image])
        self._products.append(product)

    def _expected(self, tol: float) -> float:
        """Return how many passes it takes if residuals go on falling as they did."""
        if self.passes < _TRIAL:
            return self.passes + 1
        fall = np.log(self._residuals[0] / self._residuals[-1]) / (self.passes - 1)
        left = np.log(self._residuals[-1] / tol)
        return float(self.passes + max(left / max(fall, 1e-3), 1.0))


def orthonormal(vector: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of a vector outside the basis, at unit length; twice is enough (Kahan, Parlett)."""
    unit = vector / np.linalg.norm(vector)
    for _ in range(2):
        unit = unit - (unit @ basis.T) @ basis
        unit /= np.linalg.norm(unit)
    return unit
