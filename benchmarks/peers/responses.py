"""Response maps to decompose: of a network on real CT, and with given singular values."""

import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# One entry a material, as in ../shared/data/ct beside the checkout.
CT = Path(os.environ.get("EIGENFEATURES_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ct"
MATERIALS = {"cement": "cement.tif", "fibres": "fibres.tif", "nerve": "nerve.tif", "polymer": "polymer"}

_FIRST_SLICE = 40
INPUT_SIDE = 266


class Responses(NamedTuple):
    """Maps ``(N, C, side, side)`` float32, nonnegative, and where they come from."""

    maps: Array
    source: str


def real_responses(material: str, slices: int, channels: int, side: int) -> Responses:
    """Return ReLU2 maps of consecutive slices of a stack, or a stand-in that says so.

    The network is the paper's with the weights that it starts from and batch
    normalisation calibrated on slices of all materials. Training isn't repeated here:
    it moves σ₂/σ₁, whose value is reported beside every result.

    Parameters
    ----------
    material
        One of `MATERIALS`.
    slices
        How many, from the stack's 40th on, resampled to 266×266.
    channels, side
        128 and 133 for the paper's Table 2 as written, 128 and 266 for dense maps. Maps of
        any other size are the stand-in.
    """
    if channels != 128 or side not in (133, 266):
        return Responses(_stand_in(slices, channels, side), "stand-in for responses")
    if not CT.is_dir():
        return Responses(_stand_in(slices, channels, side), f"stand-in for responses, no CT in {CT}")
    resolution = "pooled" if side == 133 else "dense"
    return Responses(_network_responses(material, slices, resolution), f"ReLU2 of {material}")


def spectrum(ratio: float, channels: int, side: int) -> Array:
    """Return maps ``(1, C, side, side)`` with σᵢ = ratio · (i − 1)^−½ for i ≥ 2, and σ₁ = 1."""
    left, right = _bases(channels, side * side)
    values = np.concatenate([[1.0], ratio * np.arange(1, channels) ** -0.5])
    return ((right * values) @ left.T).astype(np.float32).reshape(1, channels, side, side)


@cache
def _bases(channels: int, pixels: int) -> tuple[Array, Array]:
    """Return orthonormal columns: of the tall matrix by Cholesky's factor, which is quick and here exact."""
    draw = np.random.default_rng(0)
    tall = draw.normal(size=(pixels, channels))
    left = tall @ np.linalg.inv(np.linalg.cholesky(tall.T @ tall)).T
    return left, np.linalg.qr(draw.normal(size=(channels, channels))).Q


def _stand_in(slices: int, channels: int, side: int) -> Array:
    """Return rectified mixtures of smooth images that turn a little from slice to slice."""
    import scipy.ndimage

    draw = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(draw.normal(size=(2, 8, side, side)), (0, 0, 2, 2))
    smooth = (smooth / smooth.std()).astype(np.float32)
    grain = 0.3 * draw.standard_normal((2, channels, side, side), np.float32)
    weights = draw.exponential(size=(channels, 8)).astype(np.float32) - np.float32(0.5)
    maps = np.empty((slices, channels, side, side), np.float32)
    for k in range(slices):
        turn = np.array([np.cos(0.02 * k), np.sin(0.02 * k)], np.float32)
        mixed = np.tensordot(weights, np.tensordot(turn, smooth, 1), 1) + np.tensordot(turn, grain, 1)
        np.maximum(mixed, 0, out=maps[k])
    return maps


@cache
def _network_responses(material: str, slices: int, resolution: str) -> Array:
    import torch

    from eigenfeatures.eigen.responses import responses

    inputs = torch.from_numpy(_inputs(material, slices))[:, None]
    with torch.inference_mode():
        # One at a time: dense maps of many slices would need several times their memory.
        maps = [responses(_network(), image[None], ["relu2"], resolution)["relu2"] for image in inputs]
    return np.ascontiguousarray(torch.cat(maps).numpy())


@cache
def _network() -> Any:
    import torch

    from eigenfeatures.eigen.network import build_network
    from eigenfeatures.eigen.responses import responses

    network = build_network("paper", len(MATERIALS), (INPUT_SIDE, INPUT_SIDE))
    images = np.concatenate([_inputs(material, 1) for material in MATERIALS])
    with torch.no_grad():
        responses(network, torch.from_numpy(images)[:, None], ["relu2"])
    return network.eval()


def _inputs(material: str, slices: int) -> Array:
    """Return what the network sees of consecutive slices, ``(N, 266, 266)``."""
    from eigenfeatures.kernels import standardized_gradient

    return standardized_gradient(resampled_slices(material, slices))


def resampled_slices(material: str, slices: int) -> Array:
    """Return consecutive slices of a stack, from the 40th on, resampled to ``(N, 266, 266)`` float32."""
    import torch
    from torch.nn.functional import interpolate

    from eigenfeatures.eigen.tiff_stacks import open_stack

    with open_stack(CT / MATERIALS[material]) as stack:
        raw = stack.read(range(_FIRST_SLICE, _FIRST_SLICE + slices)).astype(np.float32)
    resampled = interpolate(torch.from_numpy(raw)[:, None], (INPUT_SIDE, INPUT_SIDE), mode="bicubic")
    return resampled[:, 0].numpy()
