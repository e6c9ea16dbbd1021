"""Truncated SVD of a whole stack's responses, which come a slice at a time and are never held side by side.

scikit-learn's `IncrementalPCA` centres and can't be told not to, so it is a peer of the centred form alone.
It keeps as many components as there are channels: with the wanted one alone it drops the others after
each slice, and misses the tolerance two hundredfold.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels import StreamingSVD
from peers import images, roofs, threads
from peers.checks import LeadingTriplets, Triplets
from peers.maps import POOLED
from peers.responses import real_responses
from peers.svd import TOL
from peers.table import Library, Operation, Work

Array = NDArray[Any]
Prepare = Callable[[Array], Callable[[], list[Triplets]]]

_RANK = 1

# Of `svd_compressed`: the fewest that met the tolerance.
_POWER_ITERATIONS = 3


def _work(center: bool) -> Callable[[tuple[int, ...]], Work]:
    def prepare(size: tuple[int, ...]) -> Work:
        maps, source = real_responses("cement", *size)
        side_by_side = np.concatenate(list(map(_rows, maps)), axis=1)
        if center:
            side_by_side = side_by_side - side_by_side.mean(axis=1, dtype=np.float64, keepdims=True)
        check = LeadingTriplets(side_by_side[np.newaxis], _RANK, TOL)
        return Work(
            maps,
            check,
            images.size_of(maps.shape),
            bytes=maps.nbytes,
            flops=4 * maps.size * _RANK,
            about=f"{source}, σ₂/σ₁ = {check.gap:.2f}",
        )

    return prepare


def _rows(responses: Array) -> Array:
    """Return maps (C, h, w) as rows (C, n)."""
    return responses.reshape(len(responses), -1)


def _joined(parts: Iterable[Array], s: Array, v: Array) -> list[Triplets]:
    """Return the triplets whose left vectors (rank, …) came in parts."""
    return [Triplets(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1), s, v)]


def _ours(center: bool) -> Library:
    def prepare(maps: Array) -> Callable[[], list[Triplets]]:
        def call() -> list[Triplets]:
            stream = StreamingSVD(_RANK, center=center)
            for responses in maps:
                stream.add(responses)
            found = stream.finish()
            return _joined(map(stream.left, maps), found.s, found.v)

        return call

    # Of a quick run, which has its promise to keep, one of the two forms.
    return Library("eigenfeatures", "", "numba", prepare, "ours", in_quick=not center)


def _gram_eigh(dtype: str, center: bool) -> Library:
    """Return sums in float64 of each slice's products by BLAS, and a second pass."""

    def prepare(maps: Array) -> Callable[[], list[Triplets]]:
        channels, pixels = maps.shape[1], maps[:, 0].size
        limit = threads.blas_limiter()

        def call() -> list[Triplets]:
            gram, total = np.zeros((channels, channels)), np.zeros(channels)
            for rows in map(_rows, maps):
                wide = rows.astype(dtype, copy=False)
                gram += wide @ wide.T
                if center:
                    total += rows.sum(axis=1, dtype=np.float64)
            # More threads don't make so small a matrix faster.
            with limit(1):
                values, vectors = np.linalg.eigh(gram - np.outer(total, total / pixels))
            v, s = vectors[:, : -_RANK - 1 : -1].T, np.sqrt(values[: -_RANK - 1 : -1])
            weights = v / s[:, np.newaxis]
            offset = (weights @ total / pixels)[:, np.newaxis].astype(maps.dtype)
            weights = weights.astype(maps.dtype)
            return _joined((weights @ rows - offset for rows in map(_rows, maps)), s, v)

        return call

    return Library("BLAS Gram + eigh", dtype, "numpy", prepare)


def _dask(setting: str, solve: Callable[[Any], tuple[Any, Any, Any]], **options: Any) -> Library:
    """Return one of dask's ways, of pixels by channels with a block a slice; each block has a thread."""

    def prepare(maps: Array) -> Callable[[], list[Triplets]]:
        import dask
        import dask.array

        limit = threads.blas_limiter()
        parts = [dask.array.from_array(rows.T, rows.T.shape, name=False) for rows in map(_rows, maps)]
        whole = dask.array.concatenate(parts)

        def call() -> list[Triplets]:
            with limit(1):
                u, s, vt = dask.compute(*solve(whole), scheduler="threads", num_workers=threads.count())
            return [Triplets(u.T[:_RANK], s[:_RANK], vt[:_RANK])]

        return call

    return Library("dask", setting, "dask", prepare, **options)


def _svd_compressed(whole: Any) -> tuple[Any, Any, Any]:
    import dask.array

    u, s, vt = dask.array.linalg.svd_compressed(whole, _RANK, n_power_iter=_POWER_ITERATIONS, seed=0)
    return u, s, vt


def _tall_skinny(whole: Any) -> tuple[Any, Any, Any]:
    import dask.array

    u, s, vt = dask.array.linalg.svd(whole)
    return u[:, :_RANK], s, vt


def _incremental_pca(maps: Array) -> Callable[[], list[Triplets]]:
    from sklearn.decomposition import IncrementalPCA

    def call() -> list[Triplets]:
        found = IncrementalPCA(maps.shape[1])
        for rows in map(_rows, maps):
            found.partial_fit(rows.T)
        v, s = found.components_[:_RANK], found.singular_values_[:_RANK]
        weights = (v / s[:, np.newaxis]).astype(maps.dtype)
        offset = (weights @ found.mean_)[:, np.newaxis].astype(maps.dtype)
        return _joined((weights @ rows - offset for rows in map(_rows, maps)), s, v)

    return call


# They take whole decompositions of each slice, ten times as long as all others.
_SLOW = {"in_quick": False, "heavy": True}

OPERATIONS = (
    Operation(
        "StreamingSVD rank 1, a stack slice by slice, pooled maps",
        POOLED,
        _work(center=False),
        (
            _ours(center=False),
            _gram_eigh("float32", center=False),
            _gram_eigh("float64", center=False),
            _dask("svd_compressed, best setting", _svd_compressed),
            _dask("svd of tall and skinny blocks", _tall_skinny, **_SLOW),
            roofs.READ,
        ),
    ),
    Operation(
        "StreamingSVD rank 1 centred, a stack slice by slice, pooled maps",
        POOLED,
        _work(center=True),
        (
            _ours(center=True),
            _gram_eigh("float32", center=True),
            _gram_eigh("float64", center=True),
            Library("scikit-learn", "IncrementalPCA", "sklearn", _incremental_pca, **_SLOW),
            roofs.READ,
        ),
    ),
)
