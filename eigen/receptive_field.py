"""Which pixels of a slice a pixel of a response map is made of."""

from dataclasses import dataclass

from torch import nn

from eigenfeatures.eigen.network import Network, square_side


@dataclass(frozen=True)
class ReceptiveField:
    """The reach of a response layer along an axis.

    Pixel i of a pooled map is made of the pixels from ``stride * i - before`` to ``stride * i + after``
    of the slice. Pixel i of a dense map has the same reach around i: what follows a stride is dilated by it.

    Attributes
    ----------
    stride : int
        Product of all strides up to the layer.
    before, after : int
        Pixels of the slice.
    """

    stride: int
    before: int
    after: int


def receptive_field(network: Network, layer: str) -> ReceptiveField:
    """Follow a layer's receptive field through its network.

    Raises
    ------
    InputError
        For an unknown layer.
    """
    network.check_layer(layer)
    stride, before, after = 1, 0, 0
    for name, module in network.named_children():
        if isinstance(module, nn.Conv2d):
            padding = int(module.padding[0])
            before += stride * padding
            after += stride * (module.kernel_size[0] - 1 - padding)
            stride *= module.stride[0]
        elif isinstance(module, nn.MaxPool2d):
            after += stride * (square_side(module.kernel_size) - 1)
            stride *= square_side(module.stride)
        if name == layer:
            break
    return ReceptiveField(stride, before, after)
