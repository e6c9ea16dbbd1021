"""Work on response maps and pictures besides their decomposition, on a GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from eigenfeatures.kernels import gram, stretch_contrast, strongest_channel
from peers import cuda, images, maps
from peers.checks import CloseTo
from peers.cuda_gradients import COPY, READ, OfSome, every_so_many
from peers.cuda_gradients import SIZES as PICTURES
from peers.cuda_responses import SIZES, responses_on_device
from peers.table import EVERY_PEER, Check, Library, Operation, Target, Work


def _work(check: Callable[[Any], Check], flops_of: Callable[[Any], int]) -> Callable[[tuple[int, ...]], Work]:
    def prepare(size: tuple[int, ...]) -> Work:
        given, responses, transfer = responses_on_device(size)
        return Work(
            given,
            OfSome(check(every_so_many(given).get())),
            images.size_of(given.shape),
            bytes=given.nbytes,
            flops=flops_of(given),
            about=responses.source,
            transfer=transfer,
        )

    return prepare


def _pictures(shape: tuple[int, ...]) -> Work:
    host = images.noise(shape).astype(np.float32)
    given, transfer = cuda.to_device(host)
    check = OfSome(maps.check_of_stretched(every_so_many(host)))
    return Work(given, check, images.size_of(shape), bytes=2 * host.nbytes, transfer=transfer)


def _check_of_gram(given: Any) -> Check:
    rows = given.reshape(*given.shape[:2], -1).astype(np.float64)
    return CloseTo(rows @ rows.swapaxes(1, 2))


def _our_strongest(given: Any) -> Callable[[], tuple[Any, ...]]:
    def call() -> tuple[Any, ...]:
        found = strongest_channel(given, backend="cuda")
        return found.index, found.maximum, found.mean, found.positive_mean

    return cuda.Queued(call)


def _cupy_strongest(given: Any) -> tuple[Any, ...]:
    import cupy

    maxima = given.max(axis=(2, 3))
    index = maxima.argmax(axis=1)
    strongest = given[cupy.arange(len(given)), index]
    positive = strongest > 0
    positive_mean = (strongest * positive).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    return index, maxima.max(axis=1), strongest.mean(axis=(1, 2)), positive_mean


def _cupy_stretched(given: Any) -> Any:
    import cupy

    levels = [100 * maps.SATURATE, 100 * (1 - maps.SATURATE)]
    low, high = cupy.percentile(given, levels, axis=(1, 2), keepdims=True)
    return cupy.clip((given - low) / (high - low), 0, 1)


def _cupy_gram(given: Any) -> Any:
    rows = given.reshape(*given.shape[:2], -1)
    return rows @ rows.swapaxes(1, 2)


def _torch(function: Callable[[Any], Any]) -> tuple[Library, ...]:
    return (
        Library("torch", "eager", "torch", cuda.by_torch(function)),
        Library("torch", "compiled", "torch", cuda.by_torch(function, compiled=True)),
    )


_NOT_SLOWER = (Target(EVERY_PEER, 1.0, "not slower than any peer"),)

OPERATIONS = (
    Operation(
        "CUDA strongest_channel, float32",
        SIZES,
        _work(maps.check_of_strongest, lambda _: 0),
        (
            cuda.our_library(_our_strongest),
            *_torch(maps.strongest_by_torch),
            Library("CuPy", "", "cupy", cuda.by_cupy(_cupy_strongest)),
            READ,
        ),
        _NOT_SLOWER,
        "cuda",
    ),
    Operation(
        "CUDA gram, pooled maps",
        SIZES,
        _work(_check_of_gram, lambda given: 2 * given.size * given.shape[1]),
        (
            cuda.our_library(cuda.ours(gram)),
            Library("torch", "bmm", "torch", cuda.by_torch(maps.gram_by_torch)),
            Library("CuPy", "matmul", "cupy", cuda.by_cupy(_cupy_gram)),
            READ,
        ),
        _NOT_SLOWER,
        "cuda",
    ),
    Operation(
        "CUDA stretch_contrast, float32",
        PICTURES,
        _pictures,
        (
            Library("eigenfeatures", "", "cupy", cuda.ours(stretch_contrast, maps.SATURATE), "ours"),
            Library("torch", "quantile", "torch", cuda.by_torch(maps.stretched_by_torch)),
            Library("CuPy", "percentile", "cupy", cuda.by_cupy(_cupy_stretched)),
            COPY,
        ),
        _NOT_SLOWER,
        "cuda",
    ),
)
