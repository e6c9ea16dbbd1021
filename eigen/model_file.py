"""A trained model on disk: weights in safetensors, all else in JSON; nothing is unpickled."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path, sha256, write_text
from eigenfeatures.eigen.network import Network, build_network
from eigenfeatures.eigen.preprocessing import Preprocessing, operator_named

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
_FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A trained network with what is needed to feed it and to read its answers.

    Attributes
    ----------
    network : Network
        In evaluation mode, on the CPU.
    classes : tuple of str
        The samples' names, in the order of the logits.
    preprocessing : Preprocessing
        From raw slice to network input.
    training : dict
        What the training reached: plain numbers and text for people.
    """

    network: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    training: dict[str, Any]


def save_model(model: Model, folder: Path) -> None:
    """Write ``model.safetensors`` and then ``model.json``, which names its hash."""
    weights = folder / WEIGHTS_FILE
    write_tensors(weights, model.network.tensors())
    description = {
        "format": _FORMAT,
        "preset": model.network.preset,
        "size": list(model.network.size),
        "classes": list(model.classes),
        "preprocessing": asdict(model.preprocessing),
        "training": model.training,
        "weights_sha256": sha256(weights),
    }
    write_text(folder / DESCRIPTION_FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all, that others may read as far as the umask lets them."""
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata)
        temporary.chmod(mode)  # safetensors makes files for their owner only


def load_model(folder: Path) -> Model:
    """Read a model that `save_model` wrote.

    Raises
    ------
    InputError
        When a file is missing, isn't such a model, or the two don't belong together.
    """
    path, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    for file in (path, weights):
        if not file.is_file():
            raise InputError(f"{file} is missing; train a model there first")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise InputError(f"{path} has format {description['format']}, and this version reads {_FORMAT}")
        classes = tuple(str(name) for name in description["classes"])
        height, width = (int(side) for side in description["size"])
        # On the meta device nothing is allocated, whatever size the description claims.
        with torch.device("meta"):
            network = build_network(str(description["preset"]), len(classes), (height, width))
        given = description["preprocessing"]
        preprocessing = Preprocessing(**{**given, "operator": operator_named(given["operator"])})
        expected, training = description["weights_sha256"], dict(description["training"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} does not describe a model ({error}); train it anew") from error
    if sha256(weights) != expected:
        raise InputError(f"{weights} is damaged or belongs to another {path.name}; train it anew")
    try:
        tensors = load_file(weights)
        _check_types(weights, tensors, network)
        network.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{weights} does not hold the weights of '{network.preset}'; train it anew"
        ) from error
    return Model(network.eval(), classes, preprocessing, training)


def _check_types(weights: Path, tensors: Mapping[str, Tensor], network: Network) -> None:
    """Refuse numbers of another type, which torch would take here and fail at when it computes."""
    for name, expected in network.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            found, wanted = (str(kind.dtype).removeprefix("torch.") for kind in (tensors[name], expected))
            raise InputError(f"{weights}: {name} is of {found} in place of {wanted}; save or train it anew")
