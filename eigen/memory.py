"""How much memory a training step needs, told before it starts."""

import torch
from torch import nn

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.free_memory import free_memory
from eigenfeatures.eigen.network import Network


def training_memory(network: Network, batch: int, activation_bytes: int = 4) -> int:
    """Estimate the bytes that one training step holds at its peak.

    Kept for the backward pass are the outputs of convolutions, activations and
    pooling, and the 8-byte indices of pooling. On top come one more array as large
    as the largest of them (an output of batch normalisation, or a gradient), and
    weights, their gradients and their update.

    Parameters
    ----------
    network
        The network to train.
    batch
        Slices a step.
    activation_bytes
        4 for float32, 2 for bfloat16.

    Returns
    -------
    int
        Bytes.
    """
    kept, largest = 0, 0
    shape = torch.Size((1, 1, *network.size))
    for module in network.children():
        shape = _output_shape(module, shape)
        size = shape.numel() * activation_bytes
        if isinstance(module, nn.MaxPool2d):
            kept += size + shape.numel() * 8
        elif not isinstance(module, nn.BatchNorm2d | nn.Flatten):
            kept += size
        largest = max(largest, size)
    weights = sum(parameter.numel() for parameter in network.parameters()) * 4
    return batch * (kept + largest) + 3 * weights


def check_training_memory(
    network: Network, batch: int, available: int, activation_bytes: int = 4, at_once: int = 1
) -> int:
    """Return the estimate for one training, or refuse with the batch size that would fit.

    Raises
    ------
    InputError
        When a step of `at_once` such trainings needs more than `available` bytes.
    """
    needed, share = training_memory(network, batch, activation_bytes), available // at_once
    if needed > share:
        one, two = (training_memory(network, size, activation_bytes) for size in (1, 2))
        fits = int((share - (2 * one - two)) // (two - one))
        advice = f"use --batch-size {fits}" if fits >= 2 else "use a smaller --size or another --preset"
        each, fewer = (f" for each of {at_once} at once", " or fewer --jobs") if at_once > 1 else ("", "")
        raise InputError(
            f"training '{network.preset}' on {network.size[0]}×{network.size[1]} pixels with batch size "
            f"{batch} needs about {needed / 2**30:.1f} GiB and {share / 2**30:.1f} GiB are free{each}; "
            f"{advice}{fewer}"
        )
    return needed


def available_memory(device: torch.device) -> int:
    """Return the free bytes of the device: of the GPU, or of this machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def _output_shape(module: nn.Module, shape: torch.Size) -> torch.Size:
    """Infer a module's output shape on the meta device, where nothing is computed."""
    if not isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d | nn.Flatten):
        return shape
    weight = getattr(module, "weight", None)
    arguments = {} if weight is None else {name: p.to("meta") for name, p in module.named_parameters()}
    result: torch.Tensor = torch.func.functional_call(module, arguments, torch.empty(shape, device="meta"))
    return result.shape
