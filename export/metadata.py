"""What an exported file says of itself, and what is refused of a file that others made or changed.

A file ends with a checksum: the SHA-256 of all bytes before it. One bit that flips in a weight would else
give other numbers and no error. (It is no signature: whoever means to can write a file with a right one.)
It is one more property of the model, since protobuf adds up messages that stand one after the other, so
that any ONNX Runtime reads the file as it is.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.outputs import Request
from eigenfeatures.export.versions import versions

if TYPE_CHECKING:
    from eigenfeatures.eigen.model_file import Model

# What protobuf, and so one ONNX file, can't reach.
LARGEST_FILE = 2**31

_PREFIX = "eigenfeatures."
_CHECKSUM = "checksum"
# What others rely on, with the kinds that it must have.
_NEEDED = {
    "classes": list,
    "size": list,
    "dtype": str,
    "outputs": list,
    "layer": str,
    "resolution": str,
    "rank": int,
}


def write_metadata(
    proto: onnx.ModelProto, model: "Model", request: Request, dtype: str, description: dict[str, Any]
) -> None:
    """Put into a graph what `read_metadata` gives.

    Parameters
    ----------
    proto
        The graph, changed in place.
    model, request
        What was exported.
    dtype
        Of the raw slices.
    description
        Further facts, such as the crop: names to anything that JSON holds.
    """
    from eigenfeatures.eigen.study.grids import grid_of

    preprocessing, network = model.preprocessing, model.network
    layers = sorted({request.layer, *request.outputs} & {*network.response_layers})
    grids = {layer: grid_of(network, layer, network.size) for layer in layers}
    facts = {
        "classes": list(model.classes),
        "preset": network.preset,
        "size": list(network.size),
        "operator": preprocessing.operator,
        "normalise": "slice" if preprocessing.mean is None else "dataset",
        "mean": preprocessing.mean,
        "deviation": preprocessing.deviation,
        "dtype": dtype,
        "outputs": list(request.outputs),
        "layer": request.layer,
        "resolution": request.resolution,
        "rank": request.rank,
        "strides": {layer: int(grid.stride) for layer, grid in grids.items()},
        "offsets": {layer: grid.offset for layer, grid in grids.items()},
        "any_size": request.any_size,
        "weights_sha256": weights_sha256(model),
        "training": model.training,
        "versions": versions(),
        **description,
    }
    onnx.helper.set_model_props(proto, _texts(facts))


def save_graph(proto: onnx.ModelProto, path: Path) -> None:
    """Write a graph of ours with the checksum that `open_graph` asks for, in place of any that it has."""
    kept = {p.key: p.value for p in proto.metadata_props if p.key != _PREFIX + _CHECKSUM}
    onnx.helper.set_model_props(proto, kept)
    content = proto.SerializeToString()
    with path.open("wb") as file:
        file.write(content)
        file.write(_checksum(content))


def _checksum(content: bytes | memoryview) -> bytes:
    """Return what stands behind the content of a file; of the same length for any content."""
    end = onnx.ModelProto()
    onnx.helper.set_model_props(end, _texts({_CHECKSUM: hashlib.sha256(content).hexdigest()}))
    written: bytes = end.SerializeToString()
    return written


def add_metadata(proto: onnx.ModelProto, facts: dict[str, Any]) -> None:
    """Add facts to those that `write_metadata` put into a graph; one of the same name takes its place."""
    kept = {p.key: p.value for p in proto.metadata_props}
    onnx.helper.set_model_props(proto, kept | _texts(facts))


def _texts(facts: dict[str, Any]) -> dict[str, str]:
    return {_PREFIX + name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}


def weights_sha256(model: "Model") -> str:
    """Return the hash of the weights as safetensors: that of ``model.safetensors`` in a run's folder."""
    import safetensors.torch

    return hashlib.sha256(safetensors.torch.save(model.network.tensors())).hexdigest()


def read_metadata(path: Path) -> dict[str, Any]:
    """Read back what an exported file says of itself: classes, size, dtype, outputs and more.

    Raises
    ------
    InputError
        As `open_graph` does.
    """
    return open_graph(path).metadata


def model_info(path: Path) -> dict[str, Any]:
    """Return the metadata of an exported file, and its opset, input and output arrays with their shapes.

    Raises
    ------
    InputError
        As `open_graph` does.
    """
    proto, found, _ = open_graph(path)
    return {
        "model": str(path),
        "opset": proto.opset_import[0].version if proto.opset_import else None,
        "input": _signature(proto.graph.input),
        "arrays": _signature(proto.graph.output),
        **found,
    }


class Exported(NamedTuple):
    """An exported file as it was read and checked.

    Attributes
    ----------
    graph : onnx.ModelProto
        All of it.
    metadata : dict
        What it says of itself.
    content : bytes
        Those of the file, for whoever runs or hashes it: read again, it might be another one.
    """

    graph: onnx.ModelProto
    metadata: dict[str, Any]
    content: bytes


def open_graph(path: Path) -> Exported:
    """Read an exported file, once.

    Raises
    ------
    InputError
        When the file is missing, no ONNX, not made by this project, refers to another file, or is not as
        it was exported.
    """
    content = _read(path)
    # Before it is parsed, since a bit that flips may be one of the format's.
    unchanged = _ends_with_its_checksum(path, content)
    try:
        proto = onnx.load_model_from_string(content)
        external = any(_is_external(tensor) for tensor in _tensors(proto))
        properties = {p.key: p.value for p in proto.metadata_props}
        given = {
            key.removeprefix(_PREFIX): text for key, text in properties.items() if key.startswith(_PREFIX)
        }
    except Exception as error:  # protobuf's DecodeError is not public, and texts that are none come as bytes
        raise InputError(f"{path} is not an ONNX file; export the model again") from error
    if external:
        raise InputError(f"{path} keeps weights outside itself, which is not read; export the model again")
    if "classes" not in given:
        raise InputError(f"{path} was not exported by eigenfeatures: it names no classes")
    if not unchanged:
        raise _changed(path) if _CHECKSUM in given else _without_checksum(path)
    return Exported(proto, _facts(path, given), content)


def _read(path: Path) -> bytes:
    """Return a file's bytes; refuse one that is too large for a model before it fills the memory."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an .onnx file, such as {path / 'model.onnx'}")
    if not path.is_file():
        raise InputError(f"{path} is missing; export a model first")
    if (size := path.stat().st_size) >= LARGEST_FILE:
        raise InputError(
            f"{path} has {size / 2**30:.1f} GiB, and an ONNX file has less than 2 GiB; "
            "give MODEL first, then the stacks"
        )
    return path.read_bytes()


def _ends_with_its_checksum(path: Path, content: bytes) -> bool:
    """Return whether a file ends with the checksum of what stands before; refuse that of anything else."""
    empty = _checksum(b"")
    before, end = memoryview(content)[: -len(empty)], content[-len(empty) :]
    if end == _checksum(before):
        return True
    name = empty[: -len(hashlib.sha256().hexdigest()) - 1]  # all but the digest and the quotation mark behind
    if end.startswith(name):
        raise _changed(path)
    return False


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path} was changed since its export, by damage or by a program that edits graphs; "
        "export the model again"
    )


def _without_checksum(path: Path) -> InputError:
    return InputError(
        f"{path} has no checksum, so that another version or another program wrote it; export the model again"
    )


def _facts(path: Path, given: dict[str, str]) -> dict[str, Any]:
    try:
        found = {name: json.loads(text) for name, text in given.items()}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has metadata that can't be read; export the model again") from error
    for name, kind in _NEEDED.items():
        if not isinstance(found.get(name), kind):
            raise InputError(
                f"{path} does not say its {name}: another version made it; export the model again"
            )
    return found


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data) > 0


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model, wherever ONNX lets one stand."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)
    for training in proto.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def _signature(values: Any) -> dict[str, str]:
    """Name to dtype and shape, such as ``float32 (batch, 4)``."""
    texts = {}
    for value in values:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        sides = [side.dim_param or str(side.dim_value) for side in kind.shape.dim]
        texts[value.name] = f"{dtype} ({', '.join(sides)})"
    return texts
