"""What a run measures on every slice: α channels (eq. 13) and eigenfeatures (section 3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenfeatures.eigen.device import convolution_order
from eigenfeatures.eigen.files import atomic_path
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.reliability import ILL_DETERMINED_RATIO
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.kernels import StrongestChannel, TruncatedSVD, strongest_channel, truncated_svd

ALPHA_LAYERS = ("relu1", "relu2")
SINGULAR_VALUES = 8


@dataclass(frozen=True)
class SliceFeatures:
    """Features of a few slices.

    Attributes
    ----------
    alpha : dict
        Layer name to the strongest channel of each slice.
    svd : TruncatedSVD
        Of the response maps at the chosen layer, with up to `SINGULAR_VALUES` triplets.
    flags : list of str
        For each slice nothing, or one of ``zero`` (no response at all),
        ``ill-determined`` (σ₂/σ₁ above `ILL_DETERMINED_RATIO`), ``invalid`` (the network
        overflowed, and there is no result).
    """

    alpha: dict[str, StrongestChannel]
    svd: TruncatedSVD
    flags: list[str]


@torch.inference_mode()
def slice_features(
    model: Model,
    samples: SampleSet,
    indices: NDArray[np.int64],
    layer: str,
    resolution: str,
    *,
    device: torch.device,
    seed: int,
    block: int,
) -> Iterator[SliceFeatures]:
    """Compute the features of slices, `block` of them at a time.

    Parameters
    ----------
    model
        The trained network, which is on `device` until the last block is taken.
    samples, indices
        Which slices, in this order.
    layer, resolution
        Whose singular vectors; α channels are those of the pooled `ALPHA_LAYERS`.
    device
        Where the network runs; the decomposition runs on the host.
    seed
        Of the decomposition's start.
    block
        Slices in memory at once.

    Yields
    ------
    SliceFeatures
        Of the next block.

    Raises
    ------
    InputError
        For an unknown layer or resolution, or slices that can't be read.
    """
    network = model.network.to(device)
    try:
        for start in range(0, len(indices), block):
            images = model.preprocessing(samples.read(indices[start : start + block]))
            inputs = torch.from_numpy(images)[:, None].to(device, memory_format=convolution_order(device))
            yield _features(network, inputs, layer, resolution, seed)
    finally:
        network.to("cpu")


def _features(network: Network, inputs: Tensor, layer: str, resolution: str, seed: int) -> SliceFeatures:
    if resolution == "pooled":
        maps = responses(network, inputs, {*ALPHA_LAYERS, layer})
        chosen = maps[layer]
    else:
        maps = responses(network, inputs, ALPHA_LAYERS)
        chosen = responses(network, inputs, [layer], resolution)[layer]
    alpha = {name: strongest_channel(maps[name].contiguous().cpu().numpy()) for name in ALPHA_LAYERS}
    rank = min(SINGULAR_VALUES, chosen.shape[1], chosen.shape[2] * chosen.shape[3])
    svd = truncated_svd(chosen.contiguous().cpu().numpy(), rank, seed=seed)
    return SliceFeatures(alpha, svd, _flags(svd))


def _flags(svd: TruncatedSVD) -> list[str]:
    flags = []
    for values, method in zip(svd.s, svd.method, strict=True):
        if method in ("zero", "invalid"):
            flags.append(str(method))
        elif len(values) > 1 and values[1] > ILL_DETERMINED_RATIO * values[0]:
            flags.append("ill-determined")
        else:
            flags.append("")
    return flags


def write_eigenfeatures(
    path: Path,
    images: Iterator[NDArray[np.float32]],
    shape: tuple[int, int, int, int],
    voxel_size: VoxelSize | None,
) -> None:
    """Write unit singular vectors as an ImageJ stack that Fiji and napari open with the right axes.

    Parameters
    ----------
    path
        The TIFF to make; it appears when it is whole.
    images
        The vectors of one slice after the other, each ``(rank, h, w)``.
    shape
        Slices, rank, h, w.
    voxel_size
        Of a pixel of the map, in micrometres; None when unknown.
    """
    slices, rank, height, width = shape
    metadata: dict[str, object] = {
        "axes": "ZCYX",
        "Labels": [f"u{k + 1}" for _ in range(slices) for k in range(rank)],
    }
    resolution = None
    if voxel_size is not None:
        metadata |= {"spacing": voxel_size.z, "unit": "um"}
        resolution = (1 / voxel_size.x, 1 / voxel_size.y)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            (page for image in images for page in np.asarray(image, np.float32)),
            shape=(slices, rank, height, width),
            dtype=np.float32,
            imagej=True,
            resolution=resolution,
            metadata=metadata,
        )
