"""The decomposition that ends the first pass of a streaming SVD, and what the second one tells about it."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.eigen import eigenvectors
from eigenfeatures.kernels.moments import Moments

# Against the largest singular value: below it, the rounding of the Gram matrix would
# turn left vectors towards each other by more than 10⁻⁴.
_NOISE = 5e-6

# Powers of two of s_1 up to which products of a precision are made of the responses as they are.
_PLAIN = MappingProxyType({np.dtype(np.float32): 30, np.dtype(np.float64): 200})


@dataclass(frozen=True, eq=False)
class StreamedSVD:
    """The largest singular triplets of all responses of a stream, but for the left vectors.

    Attributes
    ----------
    s
        Singular values ``(rank,)``, descending; float64.
    v
        Right singular vectors ``(rank, C)``, the weights of the channels; float64.
    energy
        ``‖X‖²_F``: ``s[0]**2 / energy`` is the first triplet's share. Infinite where the squares
        exceed float64.
    pixels
        Rows of X: the pixels of all tiles or slices together.
    """

    s: NDArray[np.float64]
    v: NDArray[np.float64]
    energy: float
    pixels: int


class SecondPass(NamedTuple):
    """The decomposition, and what the left vectors given so far tell about it."""

    svd: StreamedSVD
    mean: NDArray[np.float64] | None  # to be subtracted, (C,)
    pixels: int
    squares: NDArray[np.float64]  # of X v_i / s_i as rounded, and of what rounding took from it; (rank, 2)
    across: NDArray[np.float64]  # Xᵀ u_i / s_1, (rank, C)

    def counting(
        self, pixels: int, squares: NDArray[np.float64], across: NDArray[np.float64]
    ) -> "SecondPass":
        """Return this with the measurements of more pixels."""
        return self._replace(
            pixels=self.pixels + pixels, squares=self.squares + squares, across=self.across + across
        )

    def residual(self) -> float:
        """Return the largest residual of all triplets, against s_1."""
        s, v = self.svd.s, self.svd.v
        if s[0] == 0:
            return 0.0
        relative = s / s[0]
        size, lost = np.sqrt(self.squares).T
        across = np.linalg.norm(self.across - relative[:, np.newaxis] * v, axis=1)
        return float(np.where(s > 0, np.maximum(across, relative * lost), size).max())


def begun(moments: Moments, rank: int, center: bool) -> SecondPass:
    """Decompose what the first pass gathered."""
    svd = _decompose(moments, rank, center)
    mean = np.ldexp(moments.mean, moments.exponent) if center else None
    return SecondPass(svd, mean, 0, np.zeros((rank, 2)), np.zeros(svd.v.shape))


def scaled_weights(svd: StreamedSVD, dtype: np.dtype[Any]) -> tuple[NDArray[np.float64], int, float]:
    """Return the weights (rank, C) of the channels in left vectors, where products are made in a precision.

    They are for responses in units of ``2**exponent``, which is returned too, and so is s_1 in these units.
    """
    s = svd.s
    exponent = int(np.frexp(s[0])[1])
    if abs(exponent) <= _PLAIN[dtype]:
        exponent = 0
    scale = np.ldexp(np.where(s > 0, s, s[0] if s[0] > 0 else 1.0), -exponent)
    return svd.v / scale[:, np.newaxis], exponent, float(scale[0])


def _decompose(moments: Moments, rank: int, center: bool) -> StreamedSVD:
    """Return the largest triplets from the eigenvectors of the Gram matrix."""
    gram = moments.gram + moments.lost
    values, vectors = eigenvectors(gram, rank)
    s = np.sqrt(np.maximum(values[:rank], 0))
    s[s <= _NOISE * s[0]] = 0
    v = vectors * (s[0] > 0)
    direction = (v * np.abs(v)).sum(axis=1)
    if moments.nonnegative and not center:
        direction[0] = v[0] @ moments.mean  # that of Σ u_1
    with np.errstate(over="ignore"):
        energy = float(np.ldexp(gram.trace(), 2 * moments.exponent))
    return StreamedSVD(
        s=np.ldexp(s, moments.exponent),
        v=np.where(direction < 0, -1.0, 1.0)[:, np.newaxis] * v,
        energy=energy,
        pixels=moments.pixels,
    )
