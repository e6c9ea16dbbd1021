"""One ONNX file from raw slice to class, response and eigenfeature, checked against torch."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.network import Network
from eigenfeatures.export.agreement import ExportCheck, ExportMismatchError, check_agreement
from eigenfeatures.export.metadata import LARGEST_FILE, save_graph, write_metadata
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, checked_request
from eigenfeatures.export.raw_graph import RawGraph
from eigenfeatures.export.shape_free import without_shapes

OPSET = 20


def check_exportable(network: Network) -> None:
    """Raise `InputError` for a network whose weights one ONNX file can't hold."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    if size >= LARGEST_FILE:
        raise InputError(
            f"the network '{network.preset}' on {network.size[0]}×{network.size[1]} pixels has "
            f"{size / 2**30:.1f} GiB of weights, and an ONNX file holds less than 2 GiB; use a smaller --size"
        )


def export_onnx(
    model: Model,
    path: Path,
    slices: NDArray[Any],
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    layer: str = "relu2",
    resolution: str = "pooled",
    rank: int = 1,
    any_size: bool = False,
    description: dict[str, Any],
) -> ExportCheck:
    """Export a model and verify the file on real slices before it takes its place.

    The graph's input ``slices`` is ``(batch, H, W)`` in the dtype of the stacks, for any
    batch; all arithmetic is float32, in standard operators of opset `OPSET` that any ONNX
    Runtime has. It holds no ``Shape``, ``If``, ``Loop`` or ``Scan`` node, which would bar CUDA
    graphs. Weights that no output needs are left out.

    Parameters
    ----------
    model
        A trained model, on the CPU.
    path
        The file to make.
    slices
        Raw slices to compare on, ``(k, H, W)``; their dtype becomes the input's.
    outputs
        What the graph gives, in this order:

        - ``probabilities``, ``logits``: ``(batch, classes)``.
        - a response layer as ``relu2``: its maps ``(batch, C, h, w)``.
        - ``alpha``: the arrays ``alpha_index`` (int64), ``alpha_maximum`` and ``alpha_mean``, each
          ``(batch,)``, of the pooled `layer`; see `eigenfeatures.kernels.strongest_channel`.
        - ``eigenfeatures`` ``(batch, rank, h, w)``, ``singular_values`` ``(batch, rank)``, ``gap``
          (σ₂/σ₁) and ``residual`` ``(batch,)``: see `eigenfeatures.export.svd_layer.SvdLayer`.
    layer
        What ``alpha`` and the singular vectors are of.
    resolution
        ``pooled`` or ``dense``, of response maps and singular vectors.
    rank
        How many singular vectors.
    any_size
        Let height and width be free; the classification can't be had then.
    description
        Further metadata, such as the crop: names to anything that JSON holds.

    Returns
    -------
    ExportCheck

    Raises
    ------
    InputError
        For outputs that the network can't give.
    ExportMismatchError
        When the file computes something else than torch; no file is left.
    """
    request = checked_request(model.network, outputs, layer, resolution, rank, any_size)
    graph = RawGraph(model, request).eval()
    inputs = torch.from_numpy(np.ascontiguousarray(slices[:1]))
    with atomic_path(path) as temporary:
        proto = _to_onnx(graph, inputs)
        write_metadata(proto, model, request, slices.dtype.name, description)
        onnx.checker.check_model(proto, full_check=True)
        save_graph(proto, temporary)
        return check_agreement(graph, model.preprocessing, temporary, slices)


def _to_onnx(graph: RawGraph, example: Tensor) -> onnx.ModelProto:
    free = {0: "batch", 1: "height", 2: "width"} if graph.request.any_size else {0: "batch"}
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
                output_names=list(graph.names),
                dynamic_shapes=(free,),
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    if program is None:
        raise ExportMismatchError("torch.onnx.export made no program")
    proto = program.model_proto
    if graph.request.any_size:
        without_shapes(proto.graph)
    # The maps keep their name, but a graph gives what was asked for.
    del proto.graph.output[len(graph.request.arrays) :]
    return proto
