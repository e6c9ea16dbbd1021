"""The torch module that an exported graph is made of: from raw slices to the arrays of a `Request`."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor, nn

from eigenfeatures.eigen.gradient_layer import StandardizedGradient
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.outputs import RESPONSE_MAPS, Request
from eigenfeatures.export.svd_layer import SvdLayer

Maps = dict[str, Tensor]


class RawGraph(nn.Module):
    """Raw slices ``(N, H, W)`` of any real dtype to the arrays that a request names, in its order.

    Where it decomposes response maps, these come last.
    """

    def __init__(self, model: Model, request: Request) -> None:
        super().__init__()
        self.gradient = StandardizedGradient(model.preprocessing)
        self.network = model.network
        self.svd = SvdLayer(request.rank, nonnegative=request.layer.startswith("relu"))
        self.request = request

    def forward(self, slices: Tensor) -> tuple[Tensor, ...]:
        """Compute all from the raw slices."""
        found = self.from_images(self.gradient(slices))
        return tuple(found[name] for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """What the tensors are, in order."""
        return (*self.request.arrays, RESPONSE_MAPS) if self.request.decomposes else self.request.arrays

    def from_images(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the arrays, and what they are made of, from standardised images ``(N, 1, H, W)``."""
        request = self.request
        found, pooled, maps = of_network(request, partial(responses, self.network, images))
        if "alpha" in request.outputs:
            found |= _alpha(pooled[request.layer])
        if request.decomposes:
            u, s, gap, residual = self.svd(maps[request.layer])
            found |= {"eigenfeatures": u, "singular_values": s, "gap": gap, "residual": residual}
            found[RESPONSE_MAPS] = maps[request.layer]
        return found


def of_network(request: Request, respond: Callable[[Collection[str], str], Maps]) -> tuple[Maps, Maps, Maps]:
    """Compute what a request needs of the network, for a graph and for the engine of torch alike.

    Parameters
    ----------
    request
        What is asked for.
    respond
        Layers and a resolution to their response maps, as `eigenfeatures.eigen.responses.responses` gives.

    Returns
    -------
    found : dict
        The arrays of the request that are the network's own: maps, logits and probabilities.
    pooled : dict
        Pooled maps by layer, among them those that ``alpha`` is of.
    maps : dict
        Maps by layer at the resolution of the request.
    """
    pooled = respond(request.pooled, "pooled") if request.pooled else {}
    maps = pooled
    if request.resolution == "dense" and request.maps:
        maps = respond(request.maps, "dense")
    found = {name: maps[name] for name in request.maps}
    if "logits" in pooled:
        found |= {"logits": pooled["logits"], "probabilities": torch.softmax(pooled["logits"], 1)}
    return found, pooled, maps


def _alpha(maps: Tensor) -> dict[str, Tensor]:
    """Find the channel that holds the largest activation (eq. 13), as `strongest_channel` does."""
    largest = maps.amax((2, 3))
    # Rows first: one long float32 sum loses digits.
    mean = maps.mean(3).mean(2)
    index = largest.argmax(1, keepdim=True)
    return {
        "alpha_index": index[:, 0],
        "alpha_maximum": largest.amax(1),
        "alpha_mean": mean.gather(1, index)[:, 0],
        "channel_maximum": largest,
        "channel_mean": mean,
    }
