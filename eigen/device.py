"""Where the network runs, and in which precision it is trained there."""

from contextlib import AbstractContextManager, nullcontext

import torch

from eigenfeatures.eigen.choices import DEVICES
from eigenfeatures.eigen.errors import InputError


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises
    ------
    InputError
        For an unknown name, or ``cuda`` where torch sees no GPU; never a silent
        fall-back to the CPU.
    """
    if name not in DEVICES:
        raise InputError(f"device '{name}' is unknown; choose one of {', '.join(DEVICES)}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device 'cuda' was asked for, but torch finds no GPU; use --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def convolution_order(device: torch.device) -> torch.memory_format:
    """Return the order in memory in which float32 convolutions are the fastest.

    On a CPU, channels last: response maps at relu2 took 0.6 to 0.8 of the time when measured. On an
    H100, the usual one.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def trains_in_bfloat16(device: torch.device) -> bool:
    """Tell whether training there runs under bfloat16 autocast.

    True on a CPU that multiplies bfloat16 fast: with AMX tiles, or AMD's AVX-512.
    On an Intel processor with AVX-512 BF16 but no AMX, its convolutions took 1.2
    times as long as float32's when measured, so float32 is kept there, as on a GPU.
    """
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    amd = "AMD" in str(found.get("cpu_name", ""))
    return bool(found.get("amx_bf16") or (found.get("avx512_bf16") and amd))


def training_precision(device: torch.device) -> AbstractContextManager[object]:
    """Give the context in which the forward pass of training runs."""
    if trains_in_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
