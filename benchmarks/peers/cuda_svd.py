"""Truncated SVD of many slices on a GPU, peers in batches that fit its memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from eigenfeatures.kernels import truncated_svd
from peers import cuda, images
from peers.checks import LeadingTriplets, Triplets, on_host
from peers.cuda_gradients import READ
from peers.cuda_responses import SIZES, responses_on_device
from peers.svd import TOL
from peers.table import EVERY_PEER, Library, Operation, Target, Work

_ONE = {effort: (1, *size[1:]) for effort, size in SIZES.items()}

_CHECKED = 16

# Slices that gesvda takes at once: of 1,064 it reports an invalid value.
_FEW = 128

# What a peer in float32 reaches where it doesn't reach `TOL`: the worst of 1,064 slices was 2.8·10⁻⁵ off.
_LOOSE = 1e-4


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
        if len(u) > 1:
            yield "left vectors of other slices", (np.roll(u, 1, axis=0), s, v)
        yield "left vectors moved by a pixel", (np.roll(u, 1, axis=2), s, v)
        yield "left vectors not of unit norm", (2 * u, s, v)
        yield "singular values too large", (u, s * (1 + 10 * self.tol), v)
        yield "NaN", (u * np.nan, s, v)


def _work(rank: int) -> Callable[[tuple[int, ...]], Work]:
    def prepare(size: tuple[int, ...]) -> Work:
        maps, responses, transfer = responses_on_device(size)
        check = SomeTriplets(maps, rank, TOL)
        return Work(
            maps,
            check,
            images.size_of(maps.shape),
            bytes=maps.nbytes,
            flops=4 * maps.size * rank,
            about=f"{responses.source}, σ₂/σ₁ = {check.gap:.2f}",
            transfer=transfer,
        )

    return prepare


def _ours(rank: int) -> Library:
    def prepare(maps: Any) -> Callable[[], Any]:
        def call() -> tuple[Any, Any, Any]:
            found = truncated_svd(maps, rank, tol=TOL, backend="cuda")
            return found.u.reshape(len(maps), rank, -1), found.s, found.v

        return cuda.Queued(call)

    return cuda.our_library(prepare)


def _batch(maps: Any) -> int:
    """Return how many slices leave room for copies of them and for workspace."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    return max(1, min(len(maps), int(free / 6) // maps[0].nbytes))


def _in_batches(solve: Callable[[Any], tuple[Any, Any, Any]]) -> Callable[[Any], Callable[[], Any]]:
    """Return the set-up of a function of tensors (B, C, n) that gives u, s and v."""

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


def gram_eigh(
    batch: Any, rank: int = 1, gram: str = "float32", eigh: str = "float32"
) -> tuple[Any, Any, Any]:
    """Solve by `torch.bmm` and `torch.linalg.eigh`, each in a precision."""
    import torch

    wide = batch.to(getattr(torch, gram))
    products = torch.bmm(wide, wide.mT).to(getattr(torch, eigh))
    v = torch.linalg.eigh(products).eigenvectors[:, :, -rank:].flip(2).mT.to(wide.dtype)
    u = torch.bmm(v, wide)
    s = torch.linalg.vector_norm(u, dim=2)
    return (u / s[:, :, None]).float(), s, v


def lowrank(batch: Any, rank: int = 1) -> tuple[Any, Any, Any]:
    """Solve by `torch.svd_lowrank` with as many vectors and iterations as meet the tolerance."""
    import torch

    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(batch.mT, q=min(3 * rank + 1, batch.shape[1]), niter=6)
    return u[:, :, :rank].mT, s[:, :rank], v[:, :, :rank].mT


def _gesvda(rank: int) -> Library:
    def prepare(maps: Any) -> Callable[[], Any]:
        import cupy
        from cupyx.cusolver import gesvda

        flat = maps.reshape(*maps.shape[:2], -1)

        def call() -> Any:
            parts = []
            for first in range(0, len(flat), _FEW):
                u, s, v = gesvda(flat[first : first + _FEW].swapaxes(1, 2))
                parts.append((u[:, :, :rank].swapaxes(1, 2), s[:, :rank], v[:, :, :rank].swapaxes(1, 2)))
            return tuple(cupy.concatenate(part) for part in zip(*parts, strict=True))

        return cuda.Queued(call)

    return Library("CuPy", "gesvda", "cupy", prepare, heavy=True)


def _gram_eigh(rank: int, gram: str, eigh: str) -> Library:
    by = partial(gram_eigh, rank=rank, gram=gram, eigh=eigh)
    setting = f"bmm Gram in {gram} + eigh in {eigh}"
    return Library("torch", setting, "torch", _in_batches(by))


def _lowrank(rank: int) -> Library:
    by = partial(lowrank, rank=rank)
    # Searched for at rank 1.
    setting = "best setting" if rank == 1 else "as many vectors and iterations for each"
    return Library("torch", f"svd_lowrank, {setting}", "torch", _in_batches(by), heavy=True)


_LOOSE_GRAM_EIGH = Library(
    "torch",
    f"bmm Gram + eigh in float32, to {_LOOSE:.0e}",
    "torch",
    _in_batches(gram_eigh),
    check=lambda maps: SomeTriplets(maps, 1, _LOOSE),
)
_FIVE_TIMES = tuple(
    Target(f"torch, {setting}", 5, f"≥ 5 × {setting}")
    for setting in (_LOOSE_GRAM_EIGH.setting, "bmm Gram in float32 + eigh in float64")
)
_NOT_SLOWER = Target(EVERY_PEER, 1.0, "not slower than any peer")
_RANK_1 = (_ours(1), _gram_eigh(1, "float32", "float64"), _LOOSE_GRAM_EIGH, _lowrank(1), _gesvda(1), READ)

OPERATIONS = (
    Operation(
        "CUDA truncated_svd rank 1 along a stack, pooled maps",
        SIZES,
        _work(1),
        _RANK_1,
        (*_FIVE_TIMES, _NOT_SLOWER),
        "cuda",
    ),
    Operation(
        "CUDA truncated_svd rank 1, one slice, pooled maps", _ONE, _work(1), _RANK_1, (_NOT_SLOWER,), "cuda"
    ),
    Operation(
        "CUDA truncated_svd rank 8 along a stack, pooled maps",
        SIZES,
        _work(8),
        (_ours(8), _gram_eigh(8, "float64", "float64"), _lowrank(8), _gesvda(8), READ),
        (_NOT_SLOWER,),
        "cuda",
    ),
)
