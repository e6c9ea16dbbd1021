"""The truncated SVD of response maps as a torch module, so that it can stand inside an exported graph.

It is made of products of small matrices that become standard ONNX operators, without
branches and loops. X is n × C with the maps as columns. Its right singular vectors are
the eigenvectors of XᵀX, found one after the other: repeated squaring reaches the
1024th power in ten products, of which the strongest column is the dominant eigenvector;
the matrix is then projected off that vector and the next one is sought.

All of it is float32. The errors that count are those of XᵀX, a sum over n pixels: an
error of ε‖X‖² turns v_1 by up to ε / (1 − (s_2/s_1)²), 50 ε at a ratio of 0.99. ONNX
Runtime on the CPU adds blocks of 128 products, which keeps ε at 4e-8 for 133² and 9e-8 for 266²
pixels; splitting the sum into longer blocks was seen to gain a factor of 4 to 8, and to double the
time. Where a device sums otherwise, or with the 10 bits of TF32, the residual tells: it is
measured on X.
"""

import numpy as np
import torch
from torch import Tensor, nn

from eigenfeatures.kernels.arrays import NOISE

_SQUARINGS = 10
# From a norm of 1 on, the eighth power's is at least C⁻⁴, far from the smallest float32.
_UNSCALED = 3

# Divisors are at least this: what is smaller is divided to zero, never to NaN.
_TINY = 1e-30
_NOISE = NOISE[np.dtype(np.float32)]


class SvdLayer(nn.Module):
    """Response maps to their largest singular triplets, as `eigenfeatures.kernels.truncated_svd` has them.

    What holds where the maps' energy ``‖X‖²`` lies within 10⁻²⁵ and 10³⁵: the sine of
    the angle between u_1 and the true one is at most 10⁻⁴ for ``gap <= 0.99``, and that of a further vector
    at most 10⁻³ where the ratios to its neighbours' singular values are at most 0.95 and its own is at
    least 0.05 of s_1. For any maps it is about ``residual / (1 - gap²)`` for u_1, and for u_k at most
    ``residual · max_j s_1 s_j / |s_k² - s_j²|`` over all other j. The squares of
    ``gap`` and of ``s / s_1`` are known to 10⁻⁶, so that what is below 10⁻³ is not told from 0. Singular
    values up to 2·10⁻⁶ of s_1 are given as 0, with ``u_i = 0``; a slice of zeros gives zeros, and one with
    NaN or infinity gives NaN without harm to others.

    Parameters
    ----------
    rank
        Number of triplets, from 1 to the number of maps and of pixels.
    nonnegative
        Whether the maps are at least 0, as after a ReLU: u_1 then has ``sum(u_1) >= 0``. All other
        vectors point the way of most of the data's energy: see `truncated_svd`.
    """

    def __init__(self, rank: int, nonnegative: bool) -> None:
        super().__init__()
        self.rank, self.nonnegative = rank, nonnegative

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decompose maps ``(N, C, h, w)``, float32.

        Returns
        -------
        u
            ``(N, rank, h, w)``, each of unit norm.
        s
            Singular values ``(N, rank)``, descending.
        gap
            s_2 / s_1, ``(N,)``; 0 for a single map.
        residual
            ``max_i ‖Xᵀ u_i − s_i v_i‖ / s_1`` over the rank vectors, ``(N,)``, measured;
            ``X v_i = s_i u_i`` holds up to rounding since u_i is made so. A value near 10⁻⁷ is rounding.
        """
        channels, height, width = maps.shape[1:]
        x = maps.flatten(2)
        # One more than asked for, for the gap.
        v = _eigenvectors(x @ x.mT, min(self.rank + 1, channels))
        products = v @ x
        # Norms by rows first, since one long float32 sum loses digits.
        s, order = _sorted(_norms(_norms(torch.unflatten(products, 2, (height, width)), 3), 2))
        v, products = order @ v, order @ products

        largest = s[:, :1]
        noise = s <= _NOISE * largest
        scale = torch.where(noise, 1.0, s)[:, : self.rank, None]
        u = torch.where(noise[:, : self.rank, None], 0.0, products[:, : self.rank] / scale)
        v = v[:, : self.rank]
        lost = _norms(u @ x.mT - s[:, : self.rank, None] * v, 2)
        lost = torch.where(noise[:, : self.rank], s[:, : self.rank], lost)
        s = torch.where(noise, 0.0, s)

        ratios = s / largest.clamp_min(_TINY)
        gap = ratios[:, 1] if ratios.shape[1] > 1 else torch.zeros_like(ratios[:, 0])
        residual = lost.amax(1) / largest[:, 0].clamp_min(_TINY)
        u = u * self._sign(u, v)
        return torch.unflatten(u, 2, (height, width)), s[:, : self.rank], gap, residual

    def _sign(self, u: Tensor, v: Tensor) -> Tensor:
        direction = (v * v.abs()).sum(2, keepdim=True) + (u * u.abs()).sum(2, keepdim=True)
        if self.nonnegative:
            direction = torch.cat([u[:, :1].sum(2, keepdim=True), direction[:, 1:]], 1)
        return torch.where(direction < 0, -1.0, 1.0)


def _eigenvectors(gram: Tensor, count: int) -> Tensor:
    """Find the dominant eigenvectors of symmetric ``(N, C, C)``: unit rows ``(N, count, C)``, or zero."""
    rest = gram / gram.amax((1, 2), keepdim=True).clamp_min(_TINY)
    found = _unit(rest @ _dominant(rest))
    for _ in range(1, count):
        # Projected off the last vector, which leaves the rest right even where that is a mixture.
        last = found[:, :, -1:]
        rest = rest - last @ (last.mT @ rest)
        vector = rest @ _dominant(rest)
        vector = vector - found @ (found.mT @ vector)
        found = torch.cat([found, _unit(vector)], 2)
    return found.mT


def _dominant(matrix: Tensor) -> Tensor:
    """Return the strongest column ``(N, C, 1)`` of the 1024th power of a matrix with real eigenvalues."""
    power = matrix
    for squaring in range(_SQUARINGS):
        if squaring % _UNSCALED == 0:
            power = power / torch.linalg.matrix_norm(power, keepdim=True).clamp_min(_TINY)
        power = power @ power
    # Chosen, since any fixed combination of columns can be orthogonal to the eigenvector.
    strongest = _norms(power, 1).argmax(1)
    chosen = strongest[:, None] == torch.arange(matrix.shape[1])
    return power @ chosen[:, :, None].to(matrix.dtype)


def _unit(vector: Tensor) -> Tensor:
    """Scale a column ``(N, C, 1)`` to unit length unless it is zero."""
    unit: Tensor = vector / torch.linalg.matrix_norm(vector, keepdim=True).clamp_min(_TINY)
    return unit


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort ``(N, k)`` downwards; return them and the permutation matrices ``(N, k, k)`` that do so."""
    count = values.shape[1]
    ordered, index = torch.topk(values, count)
    return ordered, (index[:, :, None] == torch.arange(count)).to(values.dtype)


def _norms(vectors: Tensor, axis: int) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=axis)
    return norms
