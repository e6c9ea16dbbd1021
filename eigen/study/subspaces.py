"""Angles between the subspaces that the leading singular vectors of two runs span.

Single vectors can change places, or mix, where their singular values are close; the space that
they span together does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.similarity import ROUNDING, Array, Maps

SUBSPACE_RANKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Subspaces:
    """What `angles_between` needs of a run's vectors.

    Attributes
    ----------
    shape : tuple of int
        Slices, height, width.
    basis : ndarray
        ``(slices, pixels, k)`` float64: orthonormal; the first r columns span what the first r vectors do.
    independent : ndarray
        ``(slices,)`` int64: so many leading vectors are finite and independent of each other.
    """

    shape: tuple[int, int, int]
    basis: Array
    independent: NDArray[np.int64]


def prepare_subspaces(vectors: Maps) -> Subspaces:
    """Orthonormalise a run's singular vectors once for all comparisons.

    Parameters
    ----------
    vectors
        As maps, ``(slices, k, h, w)``, strongest first; after resampling they need not be orthonormal.
    """
    slices, count, height, width = vectors.shape
    columns = vectors.reshape(slices, count, height * width).astype(np.float64).mT
    columns = np.where(np.isfinite(columns).all(1, keepdims=True), columns, 0)
    basis, triangle = np.linalg.qr(columns)
    # The diagonal holds the distance of each vector from the space of those before it.
    distance = np.abs(np.diagonal(triangle, axis1=1, axis2=2))
    length = np.linalg.norm(columns, axis=1)[:, : distance.shape[1]]
    leading = np.logical_and.accumulate(np.asarray(distance > ROUNDING * length), axis=1)
    return Subspaces((slices, height, width), basis, np.count_nonzero(leading, axis=1))


def angles_between(a: Subspaces, b: Subspaces, rank: int) -> Array:
    """Measure the principal angles between leading subspaces, slice by slice.

    Parameters
    ----------
    a, b
        Of two runs.
    rank
        Dimension of the subspaces: how many vectors of each slice are taken.

    Returns
    -------
    ndarray
        ``(slices, rank)`` float64, degrees from 0 to 90, ascending. NaN where a slice has fewer
        than `rank` independent vectors in either run.

    Raises
    ------
    ValueError
        Where the maps have different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {a.shape} and {b.shape} can't be compared; resample them first")
    angles = np.full((a.shape[0], rank), np.nan)
    good = np.minimum(a.independent, b.independent) >= rank
    if not good.any():
        return angles
    basis_a, basis_b = a.basis[good, :, :rank], b.basis[good, :, :rank]
    overlap = basis_a.mT @ basis_b
    cosine = np.clip(np.linalg.svd(overlap, compute_uv=False), 0, 1)
    # Where an angle is small its cosine is blind to it: take its sine, from what is outside the other space.
    outside = basis_b - basis_a @ overlap
    sine = np.clip(np.linalg.svd(outside, compute_uv=False), 0, 1)[:, ::-1]
    angles[good] = np.degrees(np.where(cosine**2 >= 0.5, np.arcsin(sine), np.arccos(cosine)))
    return angles


def subspace_overlap(angles: Array) -> Array:
    """Return the mean squared cosine of angles in degrees ``(slices, rank)``: 1 the same space, 0 orthogonal.

    Two random spaces of n pixels overlap by rank / n.
    """
    return np.asarray((np.cos(np.radians(angles)) ** 2).mean(-1))
