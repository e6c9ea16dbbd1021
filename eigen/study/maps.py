"""What a network makes of slices, as a study compares it: singular vectors and the α channel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.device import convolution_order
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.responses import responses
from eigenfeatures.kernels import strongest_channel, truncated_svd


@dataclass(frozen=True)
class View:
    """Which singular vectors are looked at.

    Attributes
    ----------
    layer : str
        Response layer.
    resolution : str
        ``pooled`` or ``dense``.
    center : bool
        Whether the mean over the pixels is taken from each response map first.
    rank : int
        How many vectors; fewer where the layer has fewer maps or pixels.
    """

    layer: str = "relu2"
    resolution: str = "pooled"
    center: bool = False
    rank: int = 1


@dataclass(frozen=True)
class SliceMaps:
    """Maps of a few slices.

    Attributes
    ----------
    u : ndarray of float32, shape (slices, rank, h, w)
        Unit left singular vectors.
    s : ndarray of float64, shape (slices, rank)
        Singular values.
    energy : ndarray of float64, shape (slices,)
        ‖X‖² (Frobenius).
    alpha : ndarray of float32, shape (slices, h, w)
        The strongest channel (eq. 13).
    activation : ndarray of float64, shape (slices,)
        Mean of the strongest channel's positive pixels, as in Fig. 10.
    channels : int
        Number of response maps C.
    """

    u: NDArray[np.float32]
    s: NDArray[np.float64]
    energy: NDArray[np.float64]
    alpha: NDArray[np.float32]
    activation: NDArray[np.float64]
    channels: int


@torch.inference_mode()
def slice_maps(
    network: Network,
    preprocessing: Preprocessing,
    slices: NDArray[Any],
    view: View,
    device: torch.device,
) -> SliceMaps:
    """Compute the maps of raw slices ``(slices, H, W)`` by a network that is on `device`.

    Raises
    ------
    InputError
        For an unknown layer or resolution.
    """
    images = torch.from_numpy(preprocessing(slices))[:, None]
    inputs = images.to(device, memory_format=convolution_order(device))
    found = responses(network, inputs, [view.layer], view.resolution)[view.layer]
    maps = found.contiguous().cpu().numpy()
    rank = min(view.rank, maps.shape[1], maps.shape[2] * maps.shape[3])
    svd = truncated_svd(maps, rank, center=view.center, seed=0)
    strongest = strongest_channel(maps)
    return SliceMaps(
        u=svd.u,
        s=np.asarray(svd.s, np.float64),
        energy=np.asarray(svd.energy, np.float64),
        alpha=maps[np.arange(len(maps)), strongest.index],
        activation=np.asarray(strongest.positive_mean, np.float64),
        channels=maps.shape[1],
    )
