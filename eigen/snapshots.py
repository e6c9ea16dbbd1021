"""The first layers of a network while it is trained: enough for its response maps, at little room."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import write_tensors
from eigenfeatures.eigen.network import Network, build_network


def save_snapshot(folder: Path, layer: str, iteration: int, network: Network) -> None:
    """Write the layers up to `layer` as they are at an iteration."""
    write_tensors(snapshot_path(folder, iteration), network.up_to(layer).tensors())


def load_snapshot(
    folder: Path, layer: str, iteration: int, preset: str, classes: int, size: tuple[int, int]
) -> Network:
    """Read the layers that `save_snapshot` wrote, in evaluation mode.

    Raises
    ------
    InputError
        When the file is missing or holds something else.
    """
    path = snapshot_path(folder, iteration)
    # On the meta device, so that the layers behind are never allocated.
    with torch.device("meta"):
        network = build_network(preset, classes, size).up_to(layer)
    try:
        network.load_state_dict(load_file(path), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the layers up to {layer} of '{preset}'") from error
    return network.eval()


def snapshot_iterations(folder: Path) -> list[int]:
    """Return the iterations of which a folder holds snapshots, in order."""
    # A copy made by hand, or what a killed training left half written, is named otherwise.
    return sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal())


def snapshot_path(folder: Path, iteration: int) -> Path:
    """Return the file of an iteration."""
    return folder / f"{iteration:04d}.safetensors"
