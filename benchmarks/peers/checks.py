"""Checks of answers, and for each the wrong answers that it must refuse."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peers.table import WrongAnswer

Array = NDArray[Any]

# Of an image's largest value: what the project promises of its gradients.
BOUND = 1e-5


class Triplets(NamedTuple):
    """Singular triplets of one slice: u (rank, n), s (rank) and v (rank, C)."""

    u: Any
    s: Any
    v: Any


def on_host(array: Any) -> Array:
    """Return a NumPy array of what any library gave."""
    if hasattr(array, "get"):  # CuPy's
        array = array.get()
    elif hasattr(array, "cpu"):  # torch's
        array = array.cpu()
    return np.asarray(array)


class CloseTo:
    """Arrays that are known: none of the values may differ by more than a share of the largest.

    Parameters
    ----------
    expected
        One array an output.
    bound
        The share.
    """

    def __init__(self, *expected: Array, bound: float = BOUND) -> None:
        self.expected = expected
        self.bound = bound

    def __call__(self, answer: Any) -> None:
        """Raise `WrongAnswer` unless every array is close."""
        found = self._arrays(answer)
        if len(found) != len(self.expected):
            raise WrongAnswer(f"{len(found)} arrays where {len(self.expected)} were expected")
        for array, expected in zip(found, self.expected, strict=True):
            if array.shape != expected.shape:
                raise WrongAnswer(f"shape {array.shape} where {expected.shape} was expected")
            allowed = self.bound * float(np.abs(expected).max())
            worst = float(np.abs(array - expected).max())
            if not worst <= allowed:
                raise WrongAnswer(f"a value is {worst:.1e} off, and {allowed:.1e} is allowed")

    def wrong(self, answer: Any) -> Iterator[tuple[str, Any]]:
        """Yield each array with one value off, with a NaN, and of another shape."""
        found = self._arrays(answer)
        for k, expected in enumerate(self.expected):
            too_much = max(10 * self.bound, 1e-4) * float(np.abs(expected).max())
            for what, change in (("off", too_much), ("NaN", np.nan)):
                changed = np.array(found[k], np.float64)
                changed[(changed.ndim * (-1,))] += change
                yield f"array {k}: the last value is {what}", self._with(found, k, changed)
            yield f"array {k}: another shape", self._with(found, k, found[k][np.newaxis])

    @staticmethod
    def _arrays(answer: Any) -> list[Array]:
        several = answer if isinstance(answer, tuple | list) else [answer]
        return [on_host(array) for array in several]

    @staticmethod
    def _with(arrays: list[Array], k: int, changed: Array) -> Any:
        answer = [*arrays[:k], changed, *arrays[k + 1 :]]
        return answer if len(answer) > 1 else changed


class CloseUpToSign(CloseTo):
    """One array that is known up to its sign."""

    def __call__(self, answer: Any) -> None:
        """Raise `WrongAnswer` unless the array or its negative is close."""
        (found,) = self._arrays(answer)
        super().__call__(-found if np.vdot(found, self.expected[0]) < 0 else found)


class LeadingTriplets:
    """The leading singular triplets of each slice, to a tolerance.

    With X the slice's n × C matrix, an answer is right where ``‖X v − s u‖`` and ``‖Xᵀ u − s v‖``
    are at most ``tol · s₁``, left vectors are of unit norm and orthogonal, and each s is that of
    float64's LAPACK to ``tol · s₁``, which another triplet's isn't.

    Parameters
    ----------
    maps
        Responses ``(N, C, …)``.
    rank
        Number of triplets a slice.
    tol
        As above.
    """

    def __init__(self, maps: Array, rank: int, tol: float) -> None:
        self.matrices = maps.reshape(*maps.shape[:2], -1)
        self.rank = rank
        self.tol = tol
        # eigvalsh gives σ² to ε σ₁², hence σ to ε σ₁²/σ: far below the tolerance here.
        self.spectra = [_singular_values(x) for x in self.matrices]

    @property
    def gap(self) -> float:
        """σ₂/σ₁ of the first slice."""
        return float(self.spectra[0][1] / self.spectra[0][0])

    def __call__(self, answer: Sequence[Triplets]) -> None:
        """Raise `WrongAnswer` unless the triplets of every slice are right."""
        if len(answer) != len(self.matrices):
            raise WrongAnswer(f"{len(answer)} slices where {len(self.matrices)} were expected")
        for k, (triplets, x, values) in enumerate(zip(answer, self.matrices, self.spectra, strict=True)):
            try:
                self._check(Triplets(*(on_host(part).astype(np.float64) for part in triplets)), x, values)
            except WrongAnswer as error:
                raise WrongAnswer(f"slice {k}: {error}") from None

    def _check(self, found: Triplets, x: Array, values: Array) -> None:
        shapes = [part.shape for part in found]
        expected = [(self.rank, x.shape[1]), (self.rank,), (self.rank, x.shape[0])]
        if shapes != expected:
            raise WrongAnswer(f"shapes {shapes} where {expected} were expected")
        wide = x.astype(np.float64)
        along = np.linalg.norm(found.v @ wide - found.s[:, np.newaxis] * found.u, axis=1).max()
        across = np.linalg.norm(found.u @ wide.T - found.s[:, np.newaxis] * found.v, axis=1).max()
        overlap = np.abs(found.u @ found.u.T - np.eye(self.rank)).max()
        distance = np.abs(found.s - values[: self.rank]).max()
        errors = {
            "residual": (max(along, across) / values[0], self.tol),
            "left vectors' distance from orthonormal": (overlap, 10 * self.tol),
            "distance from the leading singular values": (distance / values[0], self.tol),
        }
        for what, (size, allowed) in errors.items():
            if not size <= allowed:
                raise WrongAnswer(f"{what} is {size:.1e}, and {allowed:.1e} is allowed")

    def wrong(self, answer: Sequence[Triplets]) -> Iterator[tuple[str, Any]]:
        """Yield answers whose last slice is wrong."""
        last = Triplets(*(on_host(part).astype(np.float64) for part in answer[-1]))
        u, s, v = last
        others = answer[:-1]
        turned = np.roll(u, 1, axis=1)
        turned = u + 20 * self.tol * (turned / np.linalg.norm(turned, axis=1, keepdims=True))
        yield "left vectors turned a little", [*others, last._replace(u=turned)]
        yield "singular values too large", [*others, last._replace(s=s * (1 + 10 * self.tol))]
        yield "right vectors mixed up", [*others, last._replace(v=np.roll(v, 1, axis=1))]
        yield "left vectors not of unit norm", [*others, Triplets(2 * u, s, v)]
        yield "NaN", [*others, last._replace(u=u * np.nan)]
        yield "a slice missing", others
        yield "the triplets after the leading ones", [*others, self._following()]

    def _following(self) -> Triplets:
        """Return true triplets of the last slice that aren't the leading ones."""
        right, s, left = np.linalg.svd(self.matrices[-1].astype(np.float64), full_matrices=False)
        following = slice(1, self.rank + 1)
        return Triplets(left[following], s[following], right.T[following])


def _singular_values(x: Array) -> Array:
    wide = x.astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(wide @ wide.T)[::-1]
    return np.sqrt(np.maximum(eigenvalues, 0.0))
