"""What an exported graph gives: the names that a user asks for, and the arrays that they stand for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigenfeatures.eigen.choices import RESOLUTIONS
from eigenfeatures.eigen.errors import InputError

if TYPE_CHECKING:
    from eigenfeatures.eigen.network import Network

CLASSIFICATION = ("probabilities", "logits")
ALPHA = ("alpha_index", "alpha_maximum", "alpha_mean")
DECOMPOSITION = ("eigenfeatures", "singular_values", "gap", "residual")
DEFAULT_OUTPUTS = ("probabilities", "alpha", *DECOMPOSITION)

# The tensor of the maps that a graph decomposes. It is no output, but whoever has kernels for the
# decomposition can make it one.
RESPONSE_MAPS = "response_maps"

_ARRAY = re.compile("|".join([*CLASSIFICATION, *ALPHA, *DECOMPOSITION, r"(conv|relu)[0-9]+"]))


@dataclass(frozen=True)
class Request:
    """What a graph shall give.

    Attributes
    ----------
    outputs : tuple of str
        ``probabilities``, ``logits``, ``alpha``, ``eigenfeatures``, ``singular_values``, ``gap``,
        ``residual``, or a response layer as ``relu2``.
    layer : str
        The response layer that ``alpha`` and the singular vectors are of.
    resolution : str
        ``pooled`` or ``dense``, of response maps and singular vectors. The classification and
        ``alpha`` are those of the pooled network, as it was trained.
    rank : int
        How many singular vectors.
    any_size : bool
        Take slices of any height and width, which the classification can't.
    """

    outputs: tuple[str, ...]
    layer: str
    resolution: str = "pooled"
    rank: int = 1
    any_size: bool = False

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the graph's outputs: ``alpha`` stands for three."""
        named = [ALPHA if name == "alpha" else (name,) for name in self.outputs]
        return tuple(name for names in named for name in names)

    @property
    def decomposes(self) -> bool:
        """Whether the graph holds a singular value decomposition."""
        return any(name in DECOMPOSITION for name in self.outputs)

    @property
    def maps(self) -> set[str]:
        """The response layers at `resolution` that the outputs are or are made of."""
        given = set(self.outputs) - {*CLASSIFICATION, "alpha", *DECOMPOSITION}
        return given | {self.layer} if self.decomposes else given

    @property
    def pooled(self) -> set[str]:
        """What the pooled network is asked for: response layers, and ``logits``."""
        asked = self.maps if self.resolution == "pooled" else set()
        asked = asked | {self.layer} if "alpha" in self.outputs else asked
        return asked | {"logits"} if set(self.outputs) & set(CLASSIFICATION) else asked


def default_outputs(any_size: bool) -> tuple[str, ...]:
    """Return what a graph gives unless told otherwise; one for any size doesn't classify."""
    return tuple(name for name in DEFAULT_OUTPUTS if not (any_size and name in CLASSIFICATION))


def is_array(name: str) -> bool:
    """Tell whether any graph of ours gives an array of this name."""
    return _ARRAY.fullmatch(name) is not None


def parse_outputs(text: str) -> tuple[str, ...]:
    """Read names of outputs such as "probabilities,eigenfeatures".

    Raises
    ------
    InputError
        When there is none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError(
            f"--outputs {text!r} names no output; give some, such as probabilities,eigenfeatures"
        )
    return names


def largest_rank(network: "Network", layer: str, resolution: str) -> int:
    """Return how many singular vectors the response maps of a slice have."""
    from eigenfeatures.eigen.responses import map_shape

    channels, height, width = map_shape(network, layer, resolution, network.size)
    return min(channels, height * width)


def checked_request(
    network: "Network", outputs: Sequence[str], layer: str, resolution: str, rank: int, any_size: bool
) -> Request:
    """Make a `Request` of which the network can give every output.

    Raises
    ------
    InputError
        For an unknown or repeated output, none at all, an unknown layer or resolution, a rank out of range,
        or what can't be had at any size.
    """
    known = (*CLASSIFICATION, "alpha", *DECOMPOSITION, *network.response_layers)
    for name in outputs:
        if name not in known:
            raise InputError(f"output '{name}' is unknown; choose among {', '.join(known)}")
    if not outputs or len(set(outputs)) < len(outputs):
        raise InputError(f"the outputs are '{','.join(outputs)}'; name at least one, and each once")
    if resolution not in RESOLUTIONS:
        raise InputError(f"resolution '{resolution}' is unknown; choose one of {', '.join(RESOLUTIONS)}")
    network.check_layer(layer)
    request = Request(tuple(outputs), layer, resolution, rank, any_size)
    most = largest_rank(network, layer, resolution)
    if request.decomposes and not 1 <= rank <= most:
        raise InputError(
            f"rank {rank} is out of range: the maps of '{layer}' have 1 to {most} singular vectors"
        )
    if any_size and "logits" in request.pooled:
        raise InputError(
            f"'{next(name for name in outputs if name in CLASSIFICATION)}' needs slices of the size that the "
            "network was trained on; leave it out, or export without any size"
        )
    if any_size and resolution == "dense":
        raise InputError("a dense graph has one size; give --resolution pooled with --any-size")
    return request
