"""What the precision variants share: a graph made ready for its change, and one made good after it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnx.utils
import onnxruntime

from eigenfeatures.export.sessions import open_session, session_options

# The operators of a network's layers. Gradient, standardisation and decomposition are made of others.
LAYERS = ("Conv", "Relu", "MaxPool", "Gemm")


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph as ONNX Runtime simplifies it, with every tensor's type and shape.

    Batch normalisation is then part of the convolutions, save where a convolution's own output is asked for.
    """
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        open_session(proto.SerializeToString(), options)
        return onnx.shape_inference.infer_shapes(onnx.load_model(path))


def with_outputs(proto: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the part of a graph that these need: outputs of it, or float32 tensors, which become outputs."""
    given = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in outputs
        if name not in given
    )
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [given.name for given in proto.graph.input if given.name not in weights]
    return onnx.utils.Extractor(proto).extract_model(inputs, list(outputs))


def finish(proto: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Make a changed graph, in place, as plain as the one it came from, and check it.

    Shapes of tensors that are gone, domains that no node uses and weights that no node needs are
    taken out; the metadata are those of the original.
    """
    used = {name for node in proto.graph.node for name in node.input}
    domains = {node.domain for node in proto.graph.node}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    versions = [version for version in proto.opset_import if version.domain in domains]
    del proto.graph.value_info[:], proto.graph.initializer[:], proto.opset_import[:]
    proto.graph.initializer.extend(kept)
    proto.opset_import.extend(versions)
    onnx.helper.set_model_props(proto, {p.key: p.value for p in original.metadata_props})
    onnx.checker.check_model(proto, full_check=True)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor that nodes make another name."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put these nodes, in order, in the place of all."""
    del graph.node[:]
    graph.node.extend(nodes)
