"""How other libraries find singular triplets of one slice, from its maps as rows X (C, n).

Each takes the rows, the rank and the v₁ of the slice before (None for the first), which
only those methods use that can start from one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import threads
from peers.checks import Triplets

Array = NDArray[Any]


# From rows, rank and start to the triplets.
Method = Callable[[Array, int, Array | None], Triplets]


def along_stack(
    prepare: Callable[[], Method], rank: int, *, warm: bool
) -> Callable[[Array], Callable[[], Any]]:
    """Return the set-up of a method for maps (N, C, h, w), one slice after the other."""

    def set_up(maps: Array) -> Callable[[], list[Triplets]]:
        method = prepare()
        stack = maps.reshape(*maps.shape[:2], -1)

        def call() -> list[Triplets]:
            found: list[Triplets] = []
            for rows in stack:
                start = found[-1].v[0] if warm and found else None
                found.append(method(rows, rank, start))
            return found

        return call

    return set_up


def svds(**options: Any) -> Callable[[], Method]:
    """`scipy.sparse.linalg.svds` of the n × C matrix, by ARPACK or another solver."""

    def prepare() -> Method:
        from scipy.sparse.linalg import svds as solve

        def method(rows: Array, rank: int, start: Array | None) -> Triplets:
            u, s, vt = solve(rows.T, k=rank, v0=start, rng=0, **options)
            return Triplets(u.T[::-1], s[::-1], vt[::-1])

        return method

    return prepare


def eigsh(tol: float, vectors: int) -> Callable[[], Method]:
    """ARPACK on the C × C operator XᵀX, which skips what `svds` does around it."""

    def prepare() -> Method:
        from scipy.sparse.linalg import LinearOperator
        from scipy.sparse.linalg import eigsh as solve

        def method(rows: Array, rank: int, start: Array | None) -> Triplets:
            channels = len(rows)
            operator = LinearOperator(
                (channels, channels), matvec=lambda y: rows @ (y @ rows), dtype=rows.dtype
            )
            if start is None:
                start = np.random.default_rng(0).choice([-1.0, 1.0], channels).astype(rows.dtype)
            found = solve(operator, k=rank, tol=tol, ncv=vectors, v0=start)[1]
            return _completed(rows, found.T[::-1])

        return method

    return prepare


def lobpcg(tol: float) -> Callable[[], Method]:
    """LOBPCG on XᵀX: its tolerance is absolute, so one pass estimates the eigenvalue first."""

    def prepare() -> Method:
        from scipy.sparse.linalg import LinearOperator
        from scipy.sparse.linalg import lobpcg as solve

        def method(rows: Array, rank: int, _start: Array | None) -> Triplets:
            channels = len(rows)

            def product(vectors: Array) -> Array:
                return rows @ (rows.T @ vectors)

            operator = LinearOperator((channels, channels), product, matmat=product, dtype=rows.dtype)
            start = np.random.default_rng(0).choice([-1.0, 1.0], (channels, rank)).astype(rows.dtype)
            scale = float(np.linalg.norm(product(start)) / np.linalg.norm(start))
            vectors = solve(operator, start, tol=tol * scale, maxiter=60, largest=True)[1]
            return _completed(rows, vectors.T)

        return method

    return prepare


def gram_eigh(dtype: str, driver: str | None) -> Callable[[], Method]:
    """BLAS's Gram matrix and LAPACK's eigenvectors: all by NumPy, or by SciPy only those wanted."""

    def prepare() -> Method:
        import scipy.linalg

        limit = threads.blas_limiter()

        def method(rows: Array, rank: int, _start: Array | None) -> Triplets:
            wide = rows.astype(dtype, copy=False)
            gram = wide @ wide.T
            if driver is None:
                vectors = np.linalg.eigh(gram).eigenvectors[:, : -rank - 1 : -1]
            else:
                # More threads slow down eigenvectors of so small a matrix.
                with limit(1):
                    last = len(gram) - 1
                    vectors = scipy.linalg.eigh(
                        gram,
                        subset_by_index=[last - rank + 1, last],
                        driver=driver,
                        check_finite=False,
                        overwrite_a=True,
                    )[1][:, ::-1]
            return _completed(rows, vectors.T)

        return method

    return prepare


def _completed(rows: Array, vectors: Array) -> Triplets:
    """Return the triplets whose right vectors (rank, C) are known."""
    v = np.ascontiguousarray(vectors, rows.dtype)
    u = v @ rows
    s = np.linalg.norm(u, axis=1)
    u /= s[:, np.newaxis]
    return Triplets(u, s, v)


def randomized_svd(**options: Any) -> Callable[[], Method]:
    """scikit-learn's randomised SVD."""

    def prepare() -> Method:
        from sklearn.utils.extmath import randomized_svd as solve

        def method(rows: Array, rank: int, _start: Array | None) -> Triplets:
            u, s, vt = solve(rows.T, rank, random_state=0, **options)
            return Triplets(u.T, s, vt)

        return method

    return prepare


def svd_lowrank(sketch: int, iterations: int) -> Callable[[], Method]:
    """torch's randomised SVD."""

    def prepare() -> Method:
        import torch

        def method(rows: Array, rank: int, _start: Array | None) -> Triplets:
            torch.manual_seed(0)
            with torch.inference_mode():
                u, s, v = torch.svd_lowrank(
                    torch.from_numpy(rows).T, q=min(sketch, len(rows)), niter=iterations
                )
            return Triplets(u.T[:rank], s[:rank], v.T[:rank])

        return method

    return prepare


def thin_svd() -> Method:
    """LAPACK's whole thin SVD by NumPy."""

    def method(rows: Array, rank: int, _start: Array | None) -> Triplets:
        u, s, vt = np.linalg.svd(rows.T, full_matrices=False)
        return Triplets(u.T[:rank], s[:rank], vt[:rank])

    return method
