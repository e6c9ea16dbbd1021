"""What ONNX Runtime is asked for on a GPU."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.export.batch.engine import NoDeviceError, open_engine
from eigenfeatures.export.batch.ort_engine import _cuda_options, _session
from eigenfeatures.export.onnx_model import export_onnx
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS

ANY_SIZE = ("height", "width")
FALLBACK = "session.disable_cpu_ep_fallback"


def graph_of(dtype="float32", groups=1, sides=(8, 8), with_group=True, also=()):
    """A graph of one convolution of slices, and of other nodes that read them."""
    weights = numpy_helper.from_array(np.zeros((4, 4 // groups, 3, 3), dtype), "weights")
    kind = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    given = helper.make_tensor_value_info("slices", kind, ["batch", *sides])
    made = helper.make_tensor_value_info("maps", kind, None)
    group = {"group": groups} if with_group else {}
    nodes = [helper.make_node("Conv", ["slices", "weights"], ["maps"], **group)]
    nodes += [helper.make_node(kind, ["slices"], [kind]) for kind in also]
    return helper.make_model(helper.make_graph(nodes, "graph", [given], [made], [weights]))


def options(number=0, tf32=False, **kind):
    return _cuda_options(SimpleNamespace(number=number, stream=77), graph_of(**kind), tf32)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [({}, "1"), ({"with_group": False}, "1"), ({"groups": 2}, "0"), ({"dtype": "float16"}, "0")],
)
def test_channels_are_last_where_that_was_measured_to_be_faster(kind, expected):
    assert options(**kind)["prefer_nhwc"] == expected


@pytest.mark.parametrize("sides", [(8, 8), ANY_SIZE])
def test_a_graph_is_recorded_unless_the_cpu_works_out_a_part_of_it(sides):
    assert options(sides=sides)["enable_cuda_graph"] == "1"
    for kind in ("Shape", "If", "Loop", "Scan"):
        assert options(sides=sides, also=[kind])["enable_cuda_graph"] == "0"


def test_the_fastest_convolution_is_searched_for():
    """Once, since all batches have one shape."""
    assert options()["cudnn_conv_algo_search"] == "EXHAUSTIVE"


@pytest.fixture
def asked(monkeypatch):
    """What sessions were asked for; the provider that they say they have is the first one named."""
    calls = []

    def made(_, given, *, providers, **others):
        calls.append(SimpleNamespace(options=given, providers=providers, others=others))
        (name, _), *_ = [(one, {}) if isinstance(one, str) else one for one in providers]
        return SimpleNamespace(get_providers=lambda: [name])

    monkeypatch.setattr(onnxruntime, "InferenceSession", made)
    return calls


@pytest.mark.parametrize("sides", [(8, 8), ANY_SIZE])
def test_a_session_on_a_gpu_leaves_nothing_to_the_processor(sides, asked, tmp_path):
    """Neither node by node, nor all of it where the session or a batch fails."""
    cuda = options(sides=sides)
    _session(tmp_path, b"", cuda, None, True)
    (call,) = asked
    assert call.providers == [("CUDAExecutionProvider", cuda)]
    assert call.options.get_session_config_entry(FALLBACK) == "1"
    assert call.others == {"enable_fallback": 0}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_a_graph_for_any_size_gives_on_a_gpu_what_it_gives_on_the_cpu(finished_run, tmp_path):
    """Recorded anew for each size."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    draw, file = np.random.default_rng(3), tmp_path / "m.onnx"
    stacks = [draw.integers(0, 255, (3, *size), np.uint8) for size in ((40, 40), (57, 90), (40, 40))]
    export_onnx(
        load_model(finished_run), file, stacks[0], outputs=DEFAULT_OUTPUTS[1:], any_size=True, description={}
    )
    expected, found = (open_engine(file, engine=name) for name in ("ort-cpu", "ort-cuda"))
    for slices in stacks:
        on_cpu, on_gpu = expected(slices), found(slices)
        for name in ("eigenfeatures", "singular_values", "alpha_maximum"):
            np.testing.assert_allclose(on_gpu[name], on_cpu[name], rtol=1e-4, atol=1e-4)


def test_shapes_may_be_worked_out_on_the_processor(asked, tmp_path):
    """Of a graph that another version made."""
    _session(tmp_path, b"", options(also=["Shape"]), None, True)
    with pytest.raises(RuntimeError, match="does not have configuration with key"):
        asked[0].options.get_session_config_entry(FALLBACK)


def test_a_session_without_the_gpu_that_was_asked_for_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]),
    )
    with pytest.raises(NoDeviceError, match="made no session on the GPU"):
        _session(tmp_path, b"", options(), None, True)


def test_the_first_gpu_is_not_named():
    """ONNX Runtime would warn of it in every session."""
    assert "device_id" not in options()
    assert options(number=2)["device_id"] == "2"


def test_the_stream_and_tf32():
    assert options()["user_compute_stream"] == "77"
    assert [options(tf32=tf32)["use_tf32"] for tf32 in (False, True)] == ["0", "1"]
