"""What ONNX Runtime is asked for on a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from eigenfeatures.export.batch.ort_engine import _cuda_options


def graph_of(dtype="float32", groups=1, sides=(8, 8), with_group=True):
    """A graph of one convolution of slices."""
    weights = numpy_helper.from_array(np.zeros((4, 4 // groups, 3, 3), dtype), "weights")
    kind = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    given = helper.make_tensor_value_info("slices", kind, ["batch", *sides])
    made = helper.make_tensor_value_info("maps", kind, None)
    group = {"group": groups} if with_group else {}
    node = helper.make_node("Conv", ["slices", "weights"], ["maps"], **group)
    return helper.make_model(helper.make_graph([node], "graph", [given], [made], [weights]))


def options(number=0, tf32=False, **kind):
    return _cuda_options(SimpleNamespace(number=number, stream=77), graph_of(**kind), tf32)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [({}, "1"), ({"with_group": False}, "1"), ({"groups": 2}, "0"), ({"dtype": "float16"}, "0")],
)
def test_channels_are_last_where_that_was_measured_to_be_faster(kind, expected):
    assert options(**kind)["prefer_nhwc"] == expected


@pytest.mark.parametrize(("sides", "expected"), [((8, 8), "1"), (("height", 8), "0")])
def test_a_graph_is_recorded_where_it_has_one_size(sides, expected):
    assert options(sides=sides)["enable_cuda_graph"] == expected


def test_the_first_gpu_is_not_named():
    """ONNX Runtime would warn of it in every session."""
    assert "device_id" not in options()
    assert options(number=2)["device_id"] == "2"


def test_the_stream_and_tf32():
    assert options()["user_compute_stream"] == "77"
    assert [options(tf32=tf32)["use_tf32"] for tf32 in (False, True)] == ["0", "1"]
