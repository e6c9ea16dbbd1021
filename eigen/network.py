"""The networks: the paper's (Table 2), its reduced form, Krizhevsky's, and a small one for trials.

Each is one `torch.nn.Sequential` whose members carry the names that the paper
uses: ``conv1 norm1 relu1 pool1 conv2 …``. A response layer is named ``convK``
(before batch normalisation) or ``reluK`` (after the activation).
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigenfeatures.eigen.choices import PRESETS
from eigenfeatures.eigen.errors import InputError, whole_number

_RESPONSE_LAYER = re.compile(r"(conv|relu)\d+")


@dataclass(frozen=True)
class _Block:
    """One convolutional block: convolution, batch normalisation, ReLU, max pooling."""

    filters: int
    kernel: int
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    pool: tuple[int, int] | None = (2, 2)


# Table 2, and the reduced network of section 3.3.2: the last block removed and
# the channels of the first two halved.
_PAPER = (_Block(128, 3), _Block(128, 5), _Block(64, 7), _Block(64, 9), _Block(64, 11))
_REDUCED = (_Block(64, 3), _Block(64, 5), _Block(64, 7), _Block(64, 9))
_SMALL = (_Block(16, 3), _Block(16, 5), _Block(16, 7), _Block(16, 9), _Block(16, 11))

# Krizhevsky, Sutskever, Hinton 2012, for one channel. Batch normalisation after
# every convolution stands in place of local response normalisation: 70 iterations
# from scratch stay at chance without it, and with it in the first two blocks only.
# The groups are those of the two-GPU original.
_ALEXNET = (
    _Block(96, 11, stride=4, padding=2, pool=(3, 2)),
    _Block(256, 5, groups=2, pool=(3, 2)),
    _Block(384, 3, pool=None),
    _Block(384, 3, groups=2, pool=None),
    _Block(256, 3, groups=2, pool=(3, 2)),
)

_BLOCKS = {"paper": _PAPER, "reduced": _REDUCED, "alexnet": _ALEXNET, "small": _SMALL}
_HIDDEN = {"paper": (), "reduced": (), "alexnet": (4096, 4096), "small": ()}


class Network(nn.Sequential):
    """A classifier of standardised gradient images, with named layers.

    Its forward pass maps ``(N, 1, H, W)`` float32 to logits ``(N, classes)``;
    softmax (eq. 9) is left to the loss and to the exported graph.

    Attributes
    ----------
    preset : str
        The name that it was built from.
    classes : int
        The number of classes.
    size : tuple of int
        Height and width of the slices, in pixels.
    """

    preset: str
    classes: int
    size: tuple[int, int]

    @property
    def response_layers(self) -> tuple[str, ...]:
        """The names that a response can be asked of: ``conv1 relu1 conv2 …``."""
        return tuple(name for name, _ in self.named_children() if _RESPONSE_LAYER.fullmatch(name))

    def tensors(self) -> dict[str, Tensor]:
        """Weights and running statistics by name, each contiguous as safetensors wants them."""
        return {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}

    def up_to(self, layer: str) -> "Network":
        """Return the network's first layers, up to a response layer; they share their weights with it."""
        self.check_layer(layer)
        names = [name for name, _ in self.named_children()]
        kept = names[: names.index(layer) + 1]
        part = Network(OrderedDict((name, self.get_submodule(name)) for name in kept))
        part.preset, part.classes, part.size = self.preset, self.classes, self.size
        return part.train(self.training)

    def check_layer(self, layer: str) -> None:
        """Raise `InputError` unless `layer` names a response layer of this network."""
        if layer not in self.response_layers:
            known = ", ".join(self.response_layers)
            raise InputError(f"layer '{layer}' is not in the network '{self.preset}'; choose one of {known}")


def build_network(preset: str, classes: int, size: tuple[int, int], seed: int = 0) -> Network:
    """Build a network with seeded random weights.

    Parameters
    ----------
    preset
        One of `PRESETS`.
    classes
        The number of classes, at least 2.
    size
        Height and width of the slices, in pixels.
    seed
        Of the initial weights; the global random state is left alone.

    Returns
    -------
    Network
        In training mode, float32, on the CPU.

    Raises
    ------
    InputError
        For an unknown preset, fewer than 2 classes, or slices so small that pooling leaves no pixel.
    """
    if preset not in PRESETS:
        raise InputError(f"preset '{preset}' is unknown; choose one of {', '.join(PRESETS)}")
    classes = whole_number(classes, "classes")
    if classes < 2:
        raise InputError(f"classes {classes}: must be at least 2")
    blocks = _BLOCKS[preset]
    height, width = (_pooled_size(blocks, side) for side in size)
    if min(height, width) < 1:
        raise InputError(
            f"slices of {size[0]}×{size[1]} pixels are too small for the network '{preset}', "
            f"which needs at least {_smallest_side(blocks)}×{_smallest_side(blocks)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = _convolutional_layers(blocks)
        layers |= _classifier_layers(blocks[-1].filters * height * width, _HIDDEN[preset], classes)
        network = Network(layers)
    network.preset, network.classes, network.size = preset, classes, size
    return network


def square_side(size: int | tuple[int, ...]) -> int:
    """Return the one side of a square kernel or stride, which torch states in either form."""
    return size if isinstance(size, int) else size[0]


def _convolutional_layers(blocks: tuple[_Block, ...]) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1
    for number, block in enumerate(blocks, start=1):
        padding = block.kernel // 2 if block.padding is None else block.padding
        layers[f"conv{number}"] = nn.Conv2d(
            channels, block.filters, block.kernel, block.stride, padding, groups=block.groups
        )
        # Without momentum the running statistics are plain means over the batches seen since a reset.
        layers[f"norm{number}"] = nn.BatchNorm2d(block.filters, momentum=None)
        # In place, which batch normalisation's output allows, it spares an array as large as the response.
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if block.pool:
            layers[f"pool{number}"] = nn.MaxPool2d(*block.pool)
        channels = block.filters
    return layers


def _classifier_layers(features: int, hidden: tuple[int, ...], classes: int) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, width in enumerate(hidden, start=1):
        layers[f"dropout{number}"] = nn.Dropout(0.5)
        layers[f"hidden{number}"] = nn.Linear(features, width)
        layers[f"hidden_activation{number}"] = nn.ReLU()
        features = width
    if not hidden:
        layers["dropout1"] = nn.Dropout(0.5)
    layers["logits"] = nn.Linear(features, classes)
    return layers


def _pooled_size(blocks: tuple[_Block, ...], side: int) -> int:
    for block in blocks:
        padding = block.kernel // 2 if block.padding is None else block.padding
        side = (side + 2 * padding - block.kernel) // block.stride + 1
        if block.pool:
            side = (side - block.pool[0]) // block.pool[1] + 1
    return side


def _smallest_side(blocks: tuple[_Block, ...]) -> int:
    return next(side for side in range(1, 4096) if _pooled_size(blocks, side) >= 1)
