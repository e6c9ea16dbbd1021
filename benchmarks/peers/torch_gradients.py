"""Gradients by torch and kornia, on the device of the given tensor."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[], Any]

# Slices a call on the CPU: as many as were seen to be fastest.
_BATCH = 16


def magnitude_by_conv2d(images: Any) -> Any:
    """Return |∇Y| of slices (N, H, W)."""
    import torch
    from torch.nn.functional import conv2d, pad

    mask = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device)
    masks = torch.stack([mask, mask.T])[:, None]
    components = conv2d(pad(images.float()[:, None], (1, 1, 1, 1), mode="replicate"), masks)
    return torch.hypot(components[:, 0], components[:, 1])


def components_by_shifts(images: Any) -> tuple[Any, Any]:
    """Return (gy, gx) of slices (N, H, W) by differences and sums of shifted slices."""
    from torch.nn.functional import pad

    padded = pad(images.float()[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down = padded[:, 2:] - padded[:, :-2]
    along = padded[:, :, 2:] - padded[:, :, :-2]
    gy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return gy, along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:]


def magnitude_by_shifts(images: Any) -> Any:
    """Return |∇Y| of slices (N, H, W)."""
    gy, gx = components_by_shifts(images)
    return (gy * gy + gx * gx).sqrt()


def standardized_by_shifts(images: Any) -> Any:
    """Return |∇Y| of slices (N, H, W), each less its mean, over its deviation."""
    import torch

    size = magnitude_by_shifts(images)
    deviation, mean = torch.std_mean(size, dim=(1, 2), correction=0, keepdim=True)
    return (size - mean) / deviation


def statistics_by_shifts(images: Any) -> tuple[Any, ...]:
    """Return mean and deviation of the grey values, then mean, sum and deviation of |∇Y|."""
    import torch

    size = magnitude_by_shifts(images)
    deviation, mean = torch.std_mean(images.float(), dim=(1, 2), correction=0)
    deviation_gradient, mean_gradient = torch.std_mean(size, dim=(1, 2), correction=0)
    return mean, deviation, mean_gradient, size.sum(dim=(1, 2)), deviation_gradient


def magnitude_by_kornia(images: Any) -> Any:
    """Return |∇Y| of slices (N, H, W)."""
    import kornia

    return kornia.filters.sobel(images.float()[:, None], normalized=False)[:, 0]


def in_batches(function: Callable[[Any], Any]) -> Callable[[Array], Call]:
    """Return the set-up of a function (N, H, W) → (N, H, W) or several, a few slices a call."""

    def prepare(given: Array) -> Call:
        import torch

        images = torch.from_numpy(given)
        batches = images.split(_BATCH)

        def call() -> Any:
            with torch.inference_mode():
                results = [function(batch) for batch in batches]
                if isinstance(results[0], tuple):
                    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))
                return torch.cat(results)

        return call

    return prepare


def filling_batches(function: Callable[[Any], Any]) -> Callable[[Array], Call]:
    """Return the set-up of a function (N, H, W) → (N, H, W), a few slices a call, into one array."""

    def prepare(given: Array) -> Call:
        import torch

        batches = torch.from_numpy(given).split(_BATCH)
        out = torch.empty(given.shape, dtype=torch.float32)
        parts = out.split(_BATCH)

        def call() -> Any:
            with torch.inference_mode():
                for part, batch in zip(parts, batches, strict=True):
                    part.copy_(function(batch))
            return out

        return call

    return prepare
