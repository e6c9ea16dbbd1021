"""A graph for images of any size that never asks for a shape.

``Shape`` nodes run on the CPU and bar CUDA graphs. Torch exports them where maps become rows of
pixels, or rows of pixels maps, of sides that are not known.
"""

import numpy as np
import onnx
import onnx.compose
import onnx.parser
from onnx import numpy_helper

from eigenfeatures.export.graph_edits import replace_nodes

# For `Reshape`: the first two axes as they are, and all others in one.
_ROWS_SHAPE = "rows_of_pixels"

# The numbers of a map's pixels, row by row, counted on the maps: no number, nor NaN, is greater than itself.
_PREFIX = "pixels_"
_PIXEL_NUMBERS = """
pixels (float[n, c, h, w] maps) => (int64[h, w] numbers)
<int64 axis = {0}, int64[1] one = {1}, int64[1] last = {-1}, int64[1] end = {9223372036854775807},
 int64[1] axis_of_width = {0}, int64[3] first = {0, 0, 0}, int64[3] second = {1, 1, 1},
 int64[3] of_row = {0, 1, 2}, int64[3] of_column = {0, 1, 3}, int64[2] of_maps = {0, 1}>
{
    row_map = Slice(maps, first, second, of_row)
    row = Squeeze(row_map, of_row)
    row_false = Greater(row, row)
    row_true = Not(row_false)
    row_ones = Cast<to = 7>(row_true)
    across = CumSum<exclusive = 1>(row_ones, axis)
    column_map = Slice(maps, first, second, of_column)
    column = Squeeze(column_map, of_maps)
    column_false = Greater(column, column)
    column_true = Not(column_false)
    column_ones = Cast<to = 7>(column_true)
    down = CumSum<exclusive = 1>(column_ones, axis)
    last_across = Slice(across, last, end, axis_of_width)
    width = Add(last_across, one)
    before = Mul(down, width)
    numbers = Add(before, across)
}
"""


def without_shapes(graph: onnx.GraphProto) -> None:
    """Change a graph, in place, so that no ``Reshape`` needs a computed shape; what computes them goes.

    Every ``Reshape`` to a computed shape joins the last two of four axes ``(N, C, h, w)``, as the first one
    does, or undoes that.
    """
    computed = {name for node in graph.node for name in node.output}
    values = [*graph.value_info, *graph.input, *graph.output]
    axes = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    nodes: list[onnx.NodeProto] = []
    maps: str | None = None
    numbers: list[onnx.NodeProto] = []
    for node in list(graph.node):
        rows_or_maps = node.op_type == "Reshape" and node.input[1] in computed
        if rows_or_maps and axes.get(node.output[0]) == 3:
            maps = maps or node.input[0]
            inputs = [node.input[0], _ROWS_SHAPE]
            node = onnx.helper.make_node("Reshape", inputs, node.output, node.name)
        elif rows_or_maps and maps and axes.get(node.output[0]) == 4:
            if not numbers:
                numbers = _pixel_numbers(graph, maps)
                nodes += numbers
            inputs = [node.input[0], f"{_PREFIX}numbers"]
            node = onnx.helper.make_node("Gather", inputs, node.output, node.name, axis=2)
        nodes.append(node)
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), _ROWS_SHAPE))
    replace_nodes(graph, nodes)
    _leave_out_unused(graph)


def _pixel_numbers(graph: onnx.GraphProto, maps: str) -> list[onnx.NodeProto]:
    plain = onnx.parser.parse_graph(_PIXEL_NUMBERS)
    part = onnx.compose.add_prefix_graph(plain, _PREFIX, rename_inputs=False)
    for node in part.node:
        node.name = f"make_{node.output[0]}"
        node.input[:] = [maps if name == "maps" else name for name in node.input]
    graph.initializer.extend(part.initializer)
    return list(part.node)


def _leave_out_unused(graph: onnx.GraphProto) -> None:
    """Take out what no output needs."""
    needed = {output.name for output in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    replace_nodes(graph, nodes[::-1])
    made = {name for node in nodes for name in node.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    values = [value for value in graph.value_info if value.name in made]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(constants)
    graph.value_info.extend(values)
