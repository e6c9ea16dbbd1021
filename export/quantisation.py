"""An exported graph with its network in 8-bit integers, for the CPU; all else stays float32.

Activations are uint8, weights int8 with a scale a channel. Weights use 7 of their 8 bits:
processors without VNNI add pairs of products in 16 bits, which 8 bits would overflow, so
that a file checked on one machine would be wrong on another.
"""

import contextlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from eigenfeatures.export.graph_edits import LAYERS, finish, folded, rename, replace_nodes
from eigenfeatures.export.outputs import RESPONSE_MAPS

# The share of values, in percent, that an activation's range covers; None is all of them. The
# strongest channel is told by the largest values, so that what is cut off there can change it; on real CT the
# index stayed in 94 % of slices with all values, 67 % with 99.999, 17 % with 99.99. A slice with
# one pixel far off stretches the range for all others, and then 99.999 is better.
PERCENTILES = (None, 99.999)

# Not max pooling, which keeps the range of what it pools, and whose padding may be infinite.
_CALIBRATED = [name for name in LAYERS if name != "MaxPool"]
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def to_int8(
    original: onnx.ModelProto, slices: NDArray[Any], percentile: float | None = None
) -> onnx.ModelProto:
    """Return the graph with the network's layers quantised and the same inputs and outputs.

    Parameters
    ----------
    original
        A float32 graph whose input is ``slices``.
    slices
        Raw training slices ``(k, H, W)`` that the activations' ranges are measured on.
    percentile
        One of `PERCENTILES`.
    """
    proto = folded(original)
    ranges = _ranges(proto, slices, percentile)
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(LAYERS),
        # Logits and hidden units are small and few.
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    rounded = _dequantise_apart(quantised)
    if RESPONSE_MAPS in rounded:  # what is decomposed
        rename(quantised.graph, RESPONSE_MAPS, f"{RESPONSE_MAPS}_unrounded")
        rename(quantised.graph, rounded[RESPONSE_MAPS], RESPONSE_MAPS)
    finish(quantised, original)
    return quantised


class _OneSlice(CalibrationDataReader):  # type: ignore[misc]
    """A batch of one: the calibrator keeps the activations of all that a reader gives."""

    def __init__(self, batch: NDArray[Any]) -> None:
        self._left = [{"slices": batch}]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return self._left.pop() if self._left else None


def _ranges(proto: onnx.ModelProto, slices: NDArray[Any], percentile: float | None) -> TensorsData:
    """Measure the range of every activation, a slice at a time."""
    method, options = CalibrationMethod.MinMax, {}
    if percentile is not None:
        method, options = CalibrationMethod.Percentile, {"percentile": percentile}
    # It prints what it does, and standard output is for results.
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save_model(proto, path)
        calibrator = create_calibrator(
            path, _CALIBRATED, str(Path(folder) / "augmented.onnx"), method, extra_options=options
        )
        for number in range(len(slices)):
            calibrator.collect_data(_OneSlice(slices[number : number + 1]))
        return calibrator.compute_data()


def _dequantise_apart(proto: onnx.ModelProto) -> dict[str, str]:
    """Let float32 nodes read integers through a ``DequantizeLinear`` of equal scales, one a channel.

    From the usual one before the Gram matrix ONNX Runtime would make an integer product, whose
    32 bits can overflow from 33,026 pixels on. It would also compute the float32 maps anew for each
    of their readers, unless a ``Reshape``, here to the shape that they have, is the only one.

    Returns
    -------
    dict
        Names of tensors to those of what the integers make of them.
    """
    graph = proto.graph
    values = {value.name: value for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    exact = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    usual = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    readers = [node for node in graph.node if node.op_type not in (*LAYERS, *_QDQ)]
    apart = {name for node in readers for name in node.input if name in usual}
    for node in readers:
        node.input[:] = [f"{name}_apart" if name in apart else name for name in node.input]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rounded = {}
    for node in list(graph.node):
        nodes.append(node)
        name = node.output[0]
        if name in apart:
            rounded[exact[node.input[0]]] = f"{name}_once"
            axes = values[node.input[0]].type.tensor_type.shape.dim
            parameters = [np.full(axes[1].dim_value, constants[constant]) for constant in node.input[1:]]
            parameters.append(np.zeros(len(axes), np.int64))  # for `Reshape`: every axis as it is
            names = [f"{name}_{kind}" for kind in ("scales", "zeros", "shape")]
            graph.initializer.extend(map(numpy_helper.from_array, parameters, names))
            inputs, once = [node.input[0], *names[:2]], [f"{name}_once"]
            nodes.append(onnx.helper.make_node(node.op_type, inputs, once, f"{node.name}_apart", axis=1))
            inputs = [*once, names[2]]
            nodes.append(onnx.helper.make_node("Reshape", inputs, [f"{name}_apart"], f"{node.name}_once"))
    replace_nodes(graph, nodes)
    return rounded
