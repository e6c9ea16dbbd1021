"""Truncated SVD of many slices on a GPU, peers in batches that fit its memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from eigenfeatures.kernels import truncated_svd
from peers import cuda, images
from peers.checks import LeadingTriplets, Triplets, on_host
from peers.cuda_gradients import READ
from peers.responses import real_responses
from peers.svd import TOL
from peers.table import EVERY_PEER, Library, Operation, Target, Work

_SIZES = {"smallest": (5, 16, 13), "quick": (64, 128, 133), "full": (1064, 128, 133)}

# Slices that are different; the others are these again with fresh noise.
_DISTINCT = 8
_NOISE = 0.01
_CHECKED = 16


class SomeTriplets(LeadingTriplets):
    """The check of the triplets of some slices, spread evenly over the stack."""

    def __init__(self, maps: Any, rank: int, tol: float) -> None:
        self.chosen = np.unique(np.linspace(0, len(maps) - 1, _CHECKED).astype(int))
        super().__init__(np.stack([maps[i].get() for i in self.chosen]), rank, tol)

    def __call__(self, answer: Sequence[Any]) -> None:
        """Raise `WrongAnswer` unless the triplets of the chosen slices are right."""
        u, s, v = answer
        super().__call__([Triplets(u[i], s[i], v[i]) for i in self.chosen.tolist()])

    def wrong(self, answer: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Yield answers of which the chosen slices are wrong."""
        u, s, v = (on_host(part) for part in answer)
        yield "left vectors of other slices", (np.roll(u, 1, axis=0), s, v)
        yield "left vectors not of unit norm", (2 * u, s, v)
        yield "singular values too large", (u, s * (1 + 10 * self.tol), v)
        yield "NaN", (u * np.nan, s, v)


def _work(size: tuple[int, ...]) -> Work:
    """Return maps on the GPU; the transfer is timed on the slices that differ and scaled to all."""
    import cupy

    count, channels, side = size
    distinct = min(count, _DISTINCT)
    responses = real_responses("cement", distinct, channels, side)
    base, seconds = cuda.to_device(responses.maps)
    draw = cupy.random.default_rng(0)
    deviation = float(responses.maps.std())
    maps = cupy.empty((count, *base.shape[1:]), np.float32)
    for i in range(count):
        noise = draw.standard_normal(base.shape[1:], dtype=np.float32)
        cupy.maximum(base[i % distinct] + np.float32(_NOISE * deviation) * noise, 0, out=maps[i])
    check = SomeTriplets(maps, 1, TOL)
    return Work(
        maps,
        check,
        images.size_of(maps.shape),
        bytes=maps.nbytes,
        flops=4 * maps.size,
        about=f"{responses.source}, σ₂/σ₁ = {check.gap:.2f}",
        transfer=seconds * count / distinct,
    )


def _ours(maps: Any) -> Callable[[], Any]:
    def call() -> tuple[Any, Any, Any]:
        found = truncated_svd(maps, tol=TOL, backend="cuda")
        return found.u.reshape(len(maps), 1, -1), found.s, found.v

    return cuda.Queued(call)


def _batch(maps: Any) -> int:
    """Return how many slices leave room for copies of them and for workspace."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    return max(1, min(len(maps), int(free / 6) // maps[0].nbytes))


def _in_batches(solve: Callable[[Any], tuple[Any, Any, Any]]) -> Callable[[Any], Callable[[], Any]]:
    """Return the set-up of a function of tensors (B, C, n) that gives u, s and v of rank 1."""

    def prepare(maps: Any) -> Callable[[], Any]:
        import torch

        tensor = torch.from_dlpack(maps).flatten(2)
        batches = tensor.split(_batch(maps))

        def call() -> Any:
            with torch.inference_mode():
                parts = [solve(batch) for batch in batches]
                return tuple(torch.cat(part) for part in zip(*parts, strict=True))

        return cuda.Queued(call)

    return prepare


def gram_eigh(batch: Any) -> tuple[Any, Any, Any]:
    """Solve by `torch.bmm` and `torch.linalg.eigh`."""
    import torch

    v = torch.linalg.eigh(torch.bmm(batch, batch.mT)).eigenvectors[:, :, -1:].mT
    u = torch.bmm(v, batch)
    s = torch.linalg.vector_norm(u, dim=2)
    return u / s[:, :, None], s, v


def lowrank(batch: Any) -> tuple[Any, Any, Any]:
    """Solve by `torch.svd_lowrank` with as many iterations as meet the tolerance."""
    import torch

    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(batch.mT, q=min(4, batch.shape[1]), niter=6)
    return u[:, :, :1].mT, s[:, :1], v[:, :, :1].mT


def _gesvda(maps: Any) -> Callable[[], Any]:
    import cupy
    from cupyx.cusolver import gesvda

    flat = maps.reshape(*maps.shape[:2], -1)
    step = _batch(maps)

    def call() -> Any:
        parts = []
        for first in range(0, len(flat), step):
            u, s, v = gesvda(flat[first : first + step].swapaxes(1, 2))
            parts.append((u[:, :, :1].swapaxes(1, 2), s[:, :1], v[:, :, :1].swapaxes(1, 2)))
        return tuple(cupy.concatenate(part) for part in zip(*parts, strict=True))

    return cuda.Queued(call)


OPERATIONS = (
    Operation(
        "CUDA truncated_svd rank 1 along a stack, pooled maps",
        _SIZES,
        _work,
        (
            Library("eigenfeatures", "", "numba", _ours, "ours"),
            Library("torch", "bmm Gram + eigh", "torch", _in_batches(gram_eigh)),
            Library("torch", "svd_lowrank, best setting", "torch", _in_batches(lowrank), heavy=True),
            Library("CuPy", "gesvda", "cupy", _gesvda, heavy=True),
            READ,
        ),
        (
            Target("torch, bmm Gram + eigh", 5, "≥ 5 × bmm + eigh"),
            Target(EVERY_PEER, 1.0, "not slower than any peer"),
        ),
        "cuda",
    ),
)
