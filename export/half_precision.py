"""An exported graph with its network in float16, for CUDA; all else stays float32.

A pass of our own, since ONNX Runtime's converter rounds every value between two nodes that are kept in
float32 to float16, and a Gram entry overflows there.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from eigenfeatures.export.graph_edits import LAYERS, finish, folded, replace_nodes


def to_float16(original: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the network's layers in float16 and the same inputs and outputs.

    Every tensor keeps its name in float32; that in float16 has a suffix. The two meet
    in casts where the network begins and ends.
    """
    proto = folded(original)
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halves: set[str] = set()
    singles = {name for node in graph.node if node.op_type not in LAYERS for name in node.input}
    singles |= {output.name for output in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        if node.op_type in LAYERS:
            for name in dict.fromkeys(filter(None, node.input)):
                if name not in halves:
                    halves.add(name)
                    if name in weights:
                        graph.initializer.append(_rounded(weights[name]))
                    else:
                        nodes.append(_cast(name, _half(name), TensorProto.FLOAT16))
            halves.update(node.output)
            nodes += _in_half(node, singles)
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
    finish(proto, original)
    return proto


def emulate_float16(original: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph that computes, on any device, what a GPU makes of that of `to_float16`.

    Of a float16 graph ONNX Runtime's CPU rounds only the weights, and sees neither a loss of digits
    between layers nor an overflow. Here what enters and leaves a convolution or a product has the 11 bits
    of float16, and NaN stands for what float16 can't hold. Sums are float32, as they are on a GPU.
    """
    proto = folded(original)
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = {"overflow": 2.0**112, "back": 2.0**-112, "split": 2.0**13 + 1}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"float16_{name}")
        for name, value in constants.items()
    )
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        if node.op_type not in ("Conv", "Gemm"):
            nodes.append(node)
            continue
        for name in filter(weights.__contains__, node.input):
            weights[name].CopyFrom(
                numpy_helper.from_array(_in_float16(weights[name]).astype(np.float32), name)
            )
        given, made = node.input[0], node.output[0]
        node.input[0], node.output[0] = f"{made}_rounded_input", f"{made}_unrounded"
        nodes += [*_rounding(given, node.input[0]), node, *_rounding(node.output[0], made)]
    replace_nodes(graph, nodes)
    finish(proto, original)
    return proto


def _rounding(source: str, target: str) -> Iterator[onnx.NodeProto]:
    """Yield float32 nodes that round to 11 bits: ``kx - (kx - x)`` with ``k = 2¹³ + 1`` (Veltkamp)."""
    held, big, rest = (f"{target}_{name}" for name in ("held", "big", "rest"))
    # From 2¹⁶ on, this is infinite in float32 and then NaN.
    for operator, inputs, output in (
        ("Mul", [source, "float16_overflow"], f"{held}_scaled"),
        ("Mul", [f"{held}_scaled", "float16_back"], held),
        ("Mul", [held, "float16_split"], big),
        ("Sub", [big, held], rest),
        ("Sub", [big, rest], target),
    ):
        yield onnx.helper.make_node(operator, inputs, [output], f"make_{output}")


def _in_half(node: onnx.NodeProto, singles: set[str]) -> Iterator[onnx.NodeProto]:
    """Yield a node that reads and writes float16, and the casts of what others read in float32."""
    outputs = list(node.output)
    node.input[:] = [_half(name) if name else name for name in node.input]
    node.output[:] = [_half(name) if name else name for name in outputs]
    yield node
    for name in outputs:
        if name in singles:
            yield _cast(_half(name), name, TensorProto.FLOAT)


def _half(name: str) -> str:
    return f"{name}_float16"


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], f"cast_{target}", to=kind)


def _rounded(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(_in_float16(tensor), _half(tensor.name))


def _in_float16(tensor: TensorProto) -> NDArray[np.float16]:
    # What is too large becomes infinite, which the accuracy report does not overlook.
    with np.errstate(over="ignore"):
        return numpy_helper.to_array(tensor).astype(np.float16)
