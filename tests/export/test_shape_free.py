"""Maps become rows of pixels and maps again in a graph that asks for no shape."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from eigenfeatures.export.shape_free import without_shapes

# What torch makes of ``flatten(2)`` and ``unflatten`` where height and width are not known.
GRAPH = """<ir_version: 10, opset_import: ["": 20]>
g (float[n, 3, h, w] maps) => (float[n, 3, p] rows, float[n, 3, h, w] doubled)
<int64[1] joined = {-1}, int64 start = {0}>
{
    first = Shape<start = 0, end = 2>(maps)
    all_sides = Shape<start = 0, end = 4>(maps)
    rows_shape = Concat<axis = 0>(first, joined)
    rows = Reshape<allowzero = 1>(maps, rows_shape)
    both = Add(rows, rows)
    doubled = Reshape<allowzero = 1>(both, all_sides)
}"""


@pytest.fixture(scope="module")
def session():
    proto = parser.parse_model(GRAPH)
    without_shapes(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    kinds = [node.op_type for node in proto.graph.node]
    assert "Shape" not in kinds
    assert (kinds.count("Reshape"), kinds.count("Gather")) == (1, 1)
    assert {tensor.name for tensor in proto.graph.initializer} >= {"rows_of_pixels", "pixels_one"}
    assert "joined" not in {tensor.name for tensor in proto.graph.initializer}
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 7, 5), (3, 1, 9), (1, 9, 1), (1, 1, 1)])
def test_pixels_are_where_they_were(session, shape):
    count, height, width = shape
    maps = np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)
    rows, doubled = session.run(None, {"maps": maps})
    np.testing.assert_array_equal(rows, maps.reshape(count, 3, -1))
    np.testing.assert_array_equal(doubled, 2 * maps)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0])
def test_what_the_pixels_hold_does_not_matter(session, value):
    maps = np.full((1, 3, 4, 6), value, np.float32)
    maps[0, 2] = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(session.run(["doubled"], {"maps": maps})[0], 2 * maps)


def test_other_reshapes_stay():
    proto = parser.parse_model(GRAPH.replace("all_sides)", "known)").replace("int64 start", "int64[4] known"))
    del proto.graph.initializer[:]
    constants = {"known": [1, 3, 4, 6], "joined": [-1]}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()
    )
    without_shapes(proto.graph)
    kinds = [node.op_type for node in proto.graph.node]
    assert (kinds.count("Reshape"), kinds.count("Gather")) == (2, 0)
