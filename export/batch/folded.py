"""Batch normalisation folded into the convolution before it, so that inference has no kernels for it.

With running statistics it is a factor and a summand for each channel, and both can be the convolution's own.
The weights are rounded anew, so that responses differ from the trained network's in their last digits.
"""

from collections.abc import Collection
from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from eigenfeatures.eigen.network import Network


def folded(network: Network, asked: Collection[str]) -> Network:
    """Return a copy of a network that normalises within its convolutions.

    Parameters
    ----------
    network
        In evaluation mode. It is left as it is.
    asked
        The response layers that the copy is for. A convolution among them keeps its own values, and its
        batch normalisation stays; any other convolution of the copy gives normalised values, which the
        activation overwrites.

    Returns
    -------
    Network
        With the names of `network`, but for those of the batch normalisations that are gone.
    """
    twin = deepcopy(network)
    for (layer, first), (norm, second) in pairwise(network.named_children()):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d) and layer not in asked:
            setattr(twin, layer, fuse_conv_bn_eval(first, second))
            delattr(twin, norm)
    return twin
