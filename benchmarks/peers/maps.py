"""Work on response maps and pictures besides their decomposition."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.kernels import gram, stretch_contrast, strongest_channel
from peers import images, roofs, threads
from peers.checks import CloseTo
from peers.responses import real_responses
from peers.table import Check, Library, Operation, Work

Array = NDArray[Any]

# Slices, channels, side of a map.
POOLED = {"smallest": (2, 16, 13), "quick": (4, 128, 133), "full": (16, 128, 133)}
_PICTURES = {"smallest": (3, 19, 23), "quick": (16, 266, 266), "full": (128, 266, 266)}
# Share of the pixels that may saturate at either end.
SATURATE = 0.01


def check_of_strongest(maps: Array) -> Check:
    """Return the check of the strongest channel's index, maximum, mean and positive mean."""
    flat = maps.reshape(*maps.shape[:2], -1)
    maxima = flat.max(axis=2)
    index = maxima.argmax(axis=1)
    strongest = flat[np.arange(len(flat)), index].astype(np.float64)
    positive = [values[values > 0].mean() for values in strongest]
    return CloseTo(index, maxima.max(axis=1), strongest.mean(axis=1), np.array(positive))


def _strongest(size: tuple[int, ...]) -> Work:
    maps, source = real_responses("cement", *size)
    return Work(maps, check_of_strongest(maps), images.size_of(maps.shape), bytes=maps.nbytes, about=source)


def _our_strongest(maps: Array) -> Callable[[], tuple[Array, ...]]:
    def call() -> tuple[Array, ...]:
        found = strongest_channel(maps)
        return found.index, found.maximum, found.mean, found.positive_mean

    return call


def _numpy_strongest(maps: Array) -> Callable[[], tuple[Array, ...]]:
    results = np.empty((len(maps), 4))

    def one(_: int, i: int) -> None:
        maxima = maps[i].max(axis=(1, 2))
        index = maxima.argmax()
        strongest = maps[i, index]
        positive = strongest[strongest > 0]
        results[i] = index, maxima[index], strongest.mean(dtype=np.float64), positive.mean(dtype=np.float64)

    fill = threads.in_shares(len(maps), one)

    def call() -> tuple[Array, ...]:
        fill()
        return tuple(results.T)

    return call


def strongest_by_torch(tensor: Any) -> tuple[Any, ...]:
    """Return the strongest channel's index, maximum, mean and positive mean of a tensor of maps."""
    import torch

    maximum, index = tensor.amax(dim=(2, 3)).max(dim=1)
    strongest = tensor[torch.arange(len(tensor), device=tensor.device), index]
    positive = strongest > 0
    positive_mean = (strongest * positive).sum(dim=(1, 2)) / positive.sum(dim=(1, 2))
    return index, maximum, strongest.mean(dim=(1, 2)), positive_mean


def check_of_stretched(given: Array) -> Check:
    """Return the check of pictures that are stretched to `SATURATE`."""
    low, high = np.percentile(
        given.astype(np.float64), [100 * SATURATE, 100 * (1 - SATURATE)], axis=(1, 2), keepdims=True
    )
    return CloseTo(np.clip((given - low) / (high - low), 0, 1).astype(np.float32))


def _stretched(size: tuple[int, ...]) -> Work:
    given = images.noise(size).astype(np.float32)
    return Work(given, check_of_stretched(given), images.size_of(size), bytes=2 * given.nbytes)


def _numpy_stretched(given: Array) -> Callable[[], Array]:
    out = np.empty_like(given)

    def one(_: int, i: int) -> None:
        low, high = np.percentile(given[i], [100 * SATURATE, 100 * (1 - SATURATE)])
        np.subtract(given[i], np.float32(low), out=out[i])
        np.multiply(out[i], np.float32(1 / (high - low)), out=out[i])
        np.clip(out[i], 0, 1, out=out[i])

    fill = threads.in_shares(len(given), one)

    def call() -> Array:
        fill()
        return out

    return call


def _skimage_stretched(given: Array) -> Callable[[], Array]:
    import skimage.exposure

    out = np.empty_like(given)

    def one(_: int, i: int) -> None:
        low, high = np.percentile(given[i], [100 * SATURATE, 100 * (1 - SATURATE)])
        out[i] = skimage.exposure.rescale_intensity(given[i], (low, high), (0.0, 1.0))

    fill = threads.in_shares(len(given), one)

    def call() -> Array:
        fill()
        return out

    return call


def stretched_by_torch(pictures: Any) -> Any:
    """Return stretched pictures of a tensor."""
    import torch

    levels = torch.tensor([SATURATE, 1 - SATURATE], device=pictures.device)
    low, high = torch.quantile(pictures.flatten(1), levels, dim=1)[..., None, None]
    return ((pictures - low) / (high - low)).clamp_(0, 1)


def _gram(size: tuple[int, ...]) -> Work:
    maps, source = real_responses("cement", 1, *size[1:])
    matrix = maps[0].reshape(maps.shape[1], -1).astype(np.float64)
    channels, pixels = matrix.shape
    return Work(
        maps[0],
        CloseTo(matrix @ matrix.T, bound=1e-6),
        images.size_of(maps.shape[1:]),
        bytes=maps.nbytes,
        flops=pixels * channels * (channels + 1),
        about=source,
    )


def _blas_gram(dtype: type[np.floating[Any]]) -> Callable[[Array], Callable[[], Array]]:
    def prepare(maps: Array) -> Callable[[], Array]:
        matrix = maps.reshape(len(maps), -1)

        def call() -> Array:
            wide = matrix.astype(dtype, copy=False)
            return wide @ wide.T

        return call

    return prepare


def gram_by_torch(maps: Any) -> Any:
    """Return XᵀX of a tensor of maps (..., C, h, w)."""
    matrix = maps.flatten(-2)
    return matrix @ matrix.mT


def _by_torch(function: Callable[[Any], Any]) -> Callable[[Array], Callable[[], Any]]:
    def prepare(given: Array) -> Callable[[], Any]:
        import torch

        tensor = torch.from_numpy(given)

        def call() -> Any:
            with torch.inference_mode():
                return function(tensor)

        return call

    return prepare


OPERATIONS = (
    Operation(
        "strongest_channel, float32",
        POOLED,
        _strongest,
        (
            Library("eigenfeatures", "", "numba", _our_strongest, "ours"),
            Library("NumPy", "a slice a thread", "numpy", _numpy_strongest),
            Library("torch", "", "torch", _by_torch(strongest_by_torch)),
            roofs.READ,
        ),
    ),
    Operation(
        "stretch_contrast, float32",
        _PICTURES,
        _stretched,
        (
            # By NumPy and threads of Python's: nothing of it is compiled.
            Library(
                "eigenfeatures",
                "",
                "numpy",
                lambda given: partial(stretch_contrast, given, SATURATE),
                "ours",
            ),
            Library("NumPy", "a slice a thread", "numpy", _numpy_stretched),
            Library("scikit-image", "a slice a thread", "skimage", _skimage_stretched),
            Library("torch", "quantile", "torch", _by_torch(stretched_by_torch)),
            roofs.COPY,
        ),
    ),
    *(
        Operation(
            f"gram, {resolution} maps",
            {"smallest": (1, 16, 13), "quick": (1, 128, side), "full": (1, 128, side)},
            _gram,
            (
                Library("eigenfeatures", "", "numba", lambda given: partial(gram, given), "ours"),
                Library("BLAS", "float32", "numpy", _blas_gram(np.float32)),
                Library("BLAS", "float64", "numpy", _blas_gram(np.float64)),
                Library("torch", "float32", "torch", _by_torch(gram_by_torch)),
                roofs.READ,
            ),
        )
        for resolution, side in (("pooled", 133), ("dense", 266))
    ),
)
