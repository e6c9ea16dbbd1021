"""One ONNX file from raw slice to class probabilities and a response layer, checked against torch."""

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path
from eigenfeatures.eigen.gradient_layer import StandardizedGradient
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.versions import versions

OPSET = 20
TOLERANCE = 1e-4
_PREFIX = "eigenfeatures."
_LARGEST_FILE = 2**31
_COMPARED_AT_ONCE = 2


class ExportMismatchError(RuntimeError):
    """The exported graph does not compute what torch computes."""


@dataclass(frozen=True)
class ExportCheck:
    """Largest absolute difference between ONNX Runtime and torch, over the slices compared."""

    slices: int
    probabilities: float
    response: float


class _RawToResponse(nn.Module):
    def __init__(self, model: Model, layer: str, resolution: str) -> None:
        super().__init__()
        self.gradient = StandardizedGradient(model.preprocessing)
        self.network = model.network
        self.layer, self.resolution = layer, resolution

    def forward(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        images = self.gradient(slices)
        if self.resolution == "dense":
            logits = self.network(images)
            response = responses(self.network, images, [self.layer], "dense")[self.layer]
        else:
            found = responses(self.network, images, [self.layer, "logits"])
            logits, response = found["logits"], found[self.layer]
        return torch.softmax(logits, dim=1), response


def check_exportable(network: Network) -> None:
    """Raise `InputError` for a network whose weights one ONNX file can't hold."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    if size >= _LARGEST_FILE:
        raise InputError(
            f"the network '{network.preset}' on {network.size[0]}×{network.size[1]} pixels has "
            f"{size / 2**30:.1f} GiB of weights, and an ONNX file holds less than 2 GiB; use a smaller --size"
        )


def export_onnx(
    model: Model,
    path: Path,
    slices: NDArray[Any],
    *,
    layer: str,
    resolution: str,
    description: dict[str, Any],
) -> ExportCheck:
    """Export a model and verify the file on real slices before it takes its place.

    The graph's input ``slices`` is ``(batch, H, W)`` in the dtype of the stacks;
    its outputs are ``probabilities`` ``(batch, classes)`` and the response maps
    under the name of their layer.

    Parameters
    ----------
    model
        A trained model, on the CPU.
    path
        The file to make.
    slices
        Raw slices to compare on, ``(k, H, W)``; their dtype becomes the input's.
    layer, resolution
        Of the response output.
    description
        Further metadata, such as the crop: names to anything that JSON holds.

    Returns
    -------
    ExportCheck

    Raises
    ------
    InputError
        For an unknown layer or resolution.
    ExportMismatchError
        When a difference exceeds `TOLERANCE`; no file is left.
    """
    model.network.check_layer(layer)
    graph = _RawToResponse(model, layer, resolution).eval()
    inputs = torch.from_numpy(np.ascontiguousarray(slices))
    with atomic_path(path) as temporary:
        proto = _to_onnx(graph, inputs[:1], layer)
        onnx.helper.set_model_props(
            proto, _metadata(model, slices.dtype.name, layer, resolution, description)
        )
        onnx.checker.check_model(proto, full_check=True)
        onnx.save_model(proto, temporary)
        return _verify(model, temporary, slices, layer, resolution)


def _to_onnx(graph: _RawToResponse, example: Tensor, layer: str) -> onnx.ModelProto:
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    # It warns of torchvision's operators, which no graph of ours has.
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(
                graph,
                # A batch of two, since one of a single slice would be taken for a constant.
                (example.expand(2, -1, -1).contiguous(),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["slices"],
                output_names=["probabilities", layer],
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    if program is None:
        raise ExportMismatchError("torch.onnx.export made no program")
    return program.model_proto


def _metadata(
    model: Model, dtype: str, layer: str, resolution: str, description: dict[str, Any]
) -> dict[str, str]:
    facts = {
        "classes": list(model.classes),
        "preset": model.network.preset,
        "size": list(model.network.size),
        "operator": model.preprocessing.operator,
        "normalise": "slice" if model.preprocessing.mean is None else "dataset",
        "dtype": dtype,
        "layer": layer,
        "resolution": resolution,
        "training": model.training,
        "versions": versions(),
        **description,
    }
    return {_PREFIX + name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}


def read_metadata(path: Path) -> dict[str, Any]:
    """Read back what `export_onnx` wrote into a file's metadata.

    Raises
    ------
    InputError
        When the file is missing, no ONNX, or not made by this project.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; export a model first")
    try:
        proto = onnx.load_model(path, load_external_data=False)
        found = {
            p.key.removeprefix(_PREFIX): json.loads(p.value)
            for p in proto.metadata_props
            if p.key.startswith(_PREFIX)
        }
    except Exception as error:  # protobuf's DecodeError is not public, and a hostile file can raise others
        raise InputError(f"{path} is not an ONNX file; export the model again") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise InputError(f"{path} keeps weights outside itself, which is not read; export the model again")
    if "classes" not in found:
        raise InputError(f"{path} was not exported by eigenfeatures: it names no classes")
    return found


def _verify(model: Model, path: Path, slices: NDArray[Any], layer: str, resolution: str) -> ExportCheck:
    """Compare with what the network was trained on: the kernels' preprocessing, then torch."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = [0.0, 0.0]
    for start in range(0, len(slices), _COMPARED_AT_ONCE):
        block = slices[start : start + _COMPARED_AT_ONCE]
        images = torch.from_numpy(model.preprocessing(block))[:, None]
        with torch.inference_mode():
            probabilities = torch.softmax(model.network(images), dim=1)
            response = responses(model.network, images, [layer], resolution)[layer]
        found = session.run(None, {"slices": block})
        for position, (ours, theirs) in enumerate(zip(found, (probabilities, response), strict=True)):
            difference = float(np.abs(ours - theirs.numpy()).max())
            largest[position] = max(largest[position], difference if np.isfinite(difference) else np.inf)
    check = ExportCheck(len(slices), *largest)
    if max(largest) > TOLERANCE:
        raise ExportMismatchError(
            f"the exported graph differs from torch by {check.probabilities:.1e} in the probabilities and "
            f"{check.response:.1e} in the response maps, and {TOLERANCE:.0e} is allowed; no file was written"
        )
    return check
