"""EigenCAM's projection: responses centred, on their first right singular vector."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels import truncated_svd
from peers import images, roofs
from peers import svd_methods as methods
from peers.checks import CloseUpToSign
from peers.responses import real_responses
from peers.svd import TOL, sizes
from peers.table import Library, Operation, Target, Work

Array = NDArray[Any]


def _work(size: tuple[int, ...]) -> Work:
    maps, source = real_responses("cement", 1, *size[1:])
    rows = maps[0].reshape(maps.shape[1], -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    expected = (s[0] * vt[0]).reshape(maps.shape[2:])
    # The tolerance for residuals allows an error of tol / (1 − σ₂/σ₁) in the vector.
    check = CloseUpToSign(expected, bound=1e-4)
    return Work(
        maps[0],
        check,
        images.size_of(maps.shape[1:]),
        bytes=maps.nbytes,
        about=f"{source}, centred, σ₂/σ₁ = {s[1] / s[0]:.2f}",
    )


def _ours(maps: Array) -> Callable[[], Array]:
    def call() -> Array:
        found = truncated_svd(maps, tol=TOL, center=True)
        return found.u[0] * np.float32(found.s[0])

    return call


def _eigencam(maps: Array) -> Callable[[], Array]:
    """Project on the first right vector of the whole SVD of the centred matrix, as that package does."""

    def call() -> Array:
        matrix = maps.reshape(len(maps), -1).transpose()
        matrix = matrix - matrix.mean(axis=0)
        _, _, vt = np.linalg.svd(matrix, full_matrices=True)
        return (matrix @ vt[0]).reshape(maps.shape[1:])

    return call


def _projected(method: Callable[[], methods.Method]) -> Callable[[Array], Callable[[], Array]]:
    def prepare(maps: Array) -> Callable[[], Array]:
        solve = method()
        rows = maps.reshape(len(maps), -1)

        def call() -> Array:
            found = solve(rows - rows.mean(axis=1, keepdims=True), 1, None)
            return (found.u[0] * found.s[0]).reshape(maps.shape[1:])

        return call

    return prepare


OPERATIONS = (
    Operation(
        "EigenCAM's projection, pooled maps",
        sizes("pooled"),
        _work,
        (
            Library("eigenfeatures", "", "numba", _ours, "ours"),
            Library(
                "pytorch-grad-cam",
                "its formula, numpy's full SVD",
                "numpy",
                _eigencam,
                in_quick=False,
                heavy=True,
            ),
            Library("ARPACK", "svds(k=1)", "scipy", _projected(methods.svds())),
            Library("BLAS Gram + eigh", "float32", "scipy", _projected(methods.gram_eigh("float32", "evx"))),
            Library("NumPy", "thin SVD", "numpy", _projected(methods.thin_svd)),
            roofs.READ,
        ),
        (Target("pytorch-grad-cam", 5000, "≥ 5,000 × EigenCAM's own SVD"),),
    ),
)
