"""Response maps of a trained network by layer name (section 3.2), pooled or dense.

The paper says that a ReLU2 map is as large as the slice, but its Table 2 pools
before Conv2, which halves it. Both exist: ``pooled`` is Table 2 as written, and
``dense`` evaluates the same weights at every pixel.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigenfeatures.eigen.choices import RESOLUTIONS
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import Network, build_network, square_side
from eigenfeatures.eigen.receptive_field import receptive_field


def responses(
    network: Network, images: Tensor, layers: Collection[str], resolution: str = "pooled"
) -> dict[str, Tensor]:
    """Compute the response maps of named layers.

    Parameters
    ----------
    network
        In evaluation mode, so that batch normalisation uses its running statistics.
    images
        Standardised gradient images, ``(N, 1, H, W)`` float32.
    layers
        Names as ``conv1`` or ``relu2``; ``logits`` is admitted too where
        `resolution` is ``pooled``.
    resolution
        ``pooled``: strides as trained. ``dense``: every stride is 1 and what
        follows is dilated instead, so that ``dense[..., ::s, ::s]``, cropped,
        equals the pooled map, `s` being the product of the strides before it.

    Returns
    -------
    dict
        Layer name to ``(N, C, h, w)`` float32, in the order of the network.

    Raises
    ------
    InputError
        For an unknown layer or resolution.
    """
    if resolution not in RESOLUTIONS:
        raise InputError(f"resolution '{resolution}' is unknown; choose one of {', '.join(RESOLUTIONS)}")
    for layer in layers:
        if layer != "logits" or resolution == "dense":
            network.check_layer(layer)
    found: dict[str, Tensor] = {}
    evaluate = _Dense(images) if resolution == "dense" else _pooled
    for name, module in network.named_children():
        images = evaluate(module, images)
        if name in layers:
            found[name] = images
            if len(found) == len(set(layers)):
                break
    return found


def map_shape(network: Network, layer: str, resolution: str, size: tuple[int, int]) -> tuple[int, int, int]:
    """Return channels, height and width of a layer's maps to slices of some size, from nothing computed."""
    with torch.device("meta"):
        twin = build_network(network.preset, network.classes, size).eval()
        maps = responses(twin, torch.empty(1, 1, *size), [layer], resolution)[layer]
    _, channels, height, width = maps.shape
    return channels, height, width


def stride_of(network: Network, layer: str) -> int:
    """Return how many pixels of the slice lie between two pixels of a pooled map."""
    return receptive_field(network, layer).stride


def _pooled(module: nn.Module, images: Tensor) -> Tensor:
    result: Tensor = module(images)
    return result


def _stride(module: nn.Module) -> int:
    if isinstance(module, nn.Conv2d):
        return square_side(module.stride)
    return square_side(module.stride) if isinstance(module, nn.MaxPool2d) else 1


class _Dense:
    """Evaluate one module after the other with stride 1, dilated by the strides so far."""

    def __init__(self, images: Tensor) -> None:
        self.stride = 1
        self.pooled_size = (int(images.shape[-2]), int(images.shape[-1]))

    def __call__(self, module: nn.Module, images: Tensor) -> Tensor:
        if isinstance(module, nn.Conv2d):
            images = functional.conv2d(
                self._without_dropped(images),
                module.weight,
                module.bias,
                padding=[int(pad) * self.stride for pad in module.padding],
                dilation=self.stride,
                groups=module.groups,
            )
            self._advance(square_side(module.kernel_size), int(module.padding[0]), _stride(module))
            return images
        if isinstance(module, nn.MaxPool2d):
            kernel = square_side(module.kernel_size)
            # Padded at the end, so that the map keeps its size; -inf never wins.
            end = (kernel - 1) * self.stride
            images = functional.pad(images, (0, end, 0, end), value=-torch.inf)
            images = functional.max_pool2d(images, kernel, stride=1, dilation=self.stride)
            self._advance(kernel, 0, _stride(module))
            return images
        result: Tensor = module(images)
        return result

    def _advance(self, kernel: int, padding: int, stride: int) -> None:
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in self.pooled_size)
        self.pooled_size = (height, width)
        self.stride *= stride

    def _without_dropped(self, images: Tensor) -> Tensor:
        """Zero the positions that flooring dropped, where a strided convolution sees zero padding."""
        rows, columns = images.shape[-2:]
        height, width = (side * self.stride for side in self.pooled_size)
        kept = images[..., :height, :width]
        return functional.pad(kept, (0, columns - kept.shape[-1], 0, rows - kept.shape[-2]))
