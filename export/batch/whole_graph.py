"""Exported graphs for slices of any size, which compute a slice as a whole, whatever its maps take.

They begin at the raw slice and standardise it by themselves, so that they can't be given parts of one. The
folder of a run has the weights, from which large slices are computed in tiles.
"""

import math
from pathlib import Path

import onnx

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.plan import format_bytes
from eigenfeatures.export.metadata import open_graph

WAY_OUT = "give the folder of its run, which computes large slices in tiles"


def is_whole_graph(engine: Engine) -> bool:
    """Tell an engine that runs a file for any size on the CPU, where its maps count."""
    facts = engine.facts
    return facts.size is None and facts.file.suffix == ".onnx" and engine.name == "ort-cpu"


def check_room(engine: Engine, size: tuple[int, int], room: int) -> None:
    """Refuse slices whose maps alone exceed `room` bytes, before any are computed.

    Raises
    ------
    InputError
        With what would do.
    """
    room = max(0, room)
    if is_whole_graph(engine) and (needed := largest_maps(engine.facts.file, size)) > room:
        raise InputError(
            f"{engine.facts.file} computes slices of {size[0]}×{size[1]} pixels as a whole, and the maps of "
            f"one layer alone are {format_bytes(needed)}, where --max-memory leaves {format_bytes(room)} "
            f"(by default half of what is free); {WAY_OUT}, or allow more"
        )


def largest_maps(file: Path, size: tuple[int, int]) -> int:
    """Return the bytes of the largest tensor that a graph makes of one slice; 0 where no shape is known."""
    graph = open_graph(file).graph
    sides = graph.graph.input[0].type.tensor_type.shape.dim
    for side, length in zip(sides, (1, *size), strict=True):
        side.dim_value = length
    # Those in the file have names in place of numbers.
    del graph.graph.value_info[:]
    for output in graph.graph.output:
        output.type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    return max((_bytes(value.type) for value in (*found.value_info, *found.output)), default=0)


def _bytes(kind: onnx.TypeProto) -> int:
    tensor = kind.tensor_type  # empty for other kinds of values, such as sequences
    sides = [side.dim_value for side in tensor.shape.dim]
    if tensor.elem_type == onnx.TensorProto.UNDEFINED or not all(sides):
        return 0
    item: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    whole: int = item * math.prod(sides)
    return whole
