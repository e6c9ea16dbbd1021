"""The exported file computes what torch computes, says what it is, and is refused when it doesn't."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import Model, load_model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.export import onnx_model
from eigenfeatures.export.inference import Classifier
from eigenfeatures.export.onnx_model import ExportMismatchError, export_onnx, read_metadata


def small_model(**preprocessing):
    return Model(
        build_network("small", 3, (40, 34), 1).eval(), ("a", "b", "c"), Preprocessing(**preprocessing), {}
    )


def slices_of(dtype, count=5):
    return np.random.default_rng(2).integers(0, 200, (count, 40, 34)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize(("layer", "resolution"), [("relu2", "pooled"), ("conv1", "dense")])
def test_graph_equals_kernels_and_torch_for_any_batch(tmp_path, dtype, layer, resolution):
    model = small_model(operator="scharr", mean=300.0, deviation=90.0)
    path = tmp_path / "model.onnx"
    check = export_onnx(model, path, slices_of(dtype), layer=layer, resolution=resolution, description={})
    assert check.slices == 5
    assert max(check.probabilities, check.response) <= 1e-4
    session = onnxruntime.InferenceSession(path)
    for count in (1, 2, 7):
        slices = slices_of(dtype, count)
        probabilities, found = session.run(None, {"slices": slices})
        images = torch.from_numpy(model.preprocessing(slices))[:, None]
        with torch.inference_mode():
            expected = responses(model.network, images, [layer], resolution)[layer]
            logits = model.network(images)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(probabilities, torch.softmax(logits, 1).numpy(), atol=1e-5)


@pytest.mark.parametrize("preset", ["reduced", "alexnet"])
def test_other_presets_export(tmp_path, preset):
    model = Model(build_network(preset, 2, (64, 64), 1).eval(), ("a", "b"), Preprocessing(), {})
    slices = np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8)
    check = export_onnx(
        model, tmp_path / "m.onnx", slices, layer="relu2", resolution="pooled", description={}
    )
    assert check.probabilities <= 1e-4


def test_metadata_and_weights_are_inside_the_one_file(finished_run):
    metadata = read_metadata(finished_run / "model.onnx")
    assert metadata["classes"] == ["sample1", "sample2", "sample3", "sample4"]
    assert (metadata["preset"], metadata["operator"], metadata["layer"]) == ("small", "sobel", "relu2")
    assert (metadata["size"], metadata["dtype"]) == ([40, 40], "uint8")
    assert metadata["crop"] == {"size": None, "roi": []}
    assert {"torch", "onnx", "onnxruntime"} <= metadata["versions"].keys()
    assert not list(finished_run.glob("*.data"))
    proto = onnx.load_model(finished_run / "model.onnx")
    assert proto.opset_import[0].version == onnx_model.OPSET
    assert not {node.op_type for node in proto.graph.node} & {"If", "Loop", "Scan"}


def test_a_graph_that_differs_is_refused_and_leaves_no_file(tmp_path, monkeypatch):
    """The check can fail: torch answers with other weights than those exported."""
    model = small_model()
    original = onnx_model._to_onnx

    def exported_then_changed(graph, example, layer):
        proto = original(graph, example, layer)
        graph.network.conv2.bias.data += 0.01
        return proto

    monkeypatch.setattr(onnx_model, "_to_onnx", exported_then_changed)
    with pytest.raises(ExportMismatchError, match="differs from torch by"):
        export_onnx(
            model,
            tmp_path / "m.onnx",
            slices_of(np.uint8),
            layer="relu2",
            resolution="pooled",
            description={},
        )
    assert not list(tmp_path.iterdir())


def test_classifier_gives_the_probabilities_of_torch(finished_run, stacks):
    model = load_model(finished_run)
    with open_samples(stacks) as samples:
        slices = samples.read([0, 17, 63])
    with torch.inference_mode():
        expected = torch.softmax(model.network(torch.from_numpy(model.preprocessing(slices))[:, None]), 1)
    found = Classifier(finished_run / "model.onnx")(slices)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_gradient_that_the_kernels_do_not_compute_is_refused(tmp_path, monkeypatch):
    """The file is compared with the preprocessing that trained the model, not with its own."""
    monkeypatch.setattr(onnx_model.StandardizedGradient, "_standardize", lambda _, gradient: 1.01 * gradient)
    with pytest.raises(ExportMismatchError, match="differs from torch by"):
        export_onnx(
            small_model(),
            tmp_path / "m.onnx",
            slices_of(np.uint8),
            layer="relu2",
            resolution="pooled",
            description={},
        )


def test_large_slices_are_standardised_as_the_kernel_does(tmp_path):
    """One float32 sum over a slice of this size is off by 4e-4 in ONNX Runtime."""
    slices = np.random.default_rng(0).integers(0, 65535, (1, 2048, 2048), np.uint16)
    layer = onnx_model.StandardizedGradient(Preprocessing())
    torch.onnx.export(
        layer, (torch.from_numpy(slices),), tmp_path / "g.onnx", dynamo=True, input_names=["x"], verbose=False
    )
    found = onnxruntime.InferenceSession(tmp_path / "g.onnx").run(None, {"x": slices})[0]
    np.testing.assert_allclose(found[:, 0], Preprocessing()(slices), atol=1e-5)


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(InputError, match="is missing; export a model first"):
        Classifier(tmp_path / "absent.onnx")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x08garbage" * 9)
    with pytest.raises(InputError, match="is not an ONNX file"):
        Classifier(garbage)
    identity = onnx.helper.make_node("Identity", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    foreign = tmp_path / "foreign.onnx"
    onnx.save_model(
        onnx.helper.make_model(onnx.helper.make_graph([identity], "g", values[:1], values[1:])), foreign
    )
    with pytest.raises(InputError, match="was not exported by eigenfeatures"):
        Classifier(foreign)


def test_truncated_model_is_refused(finished_run, tmp_path):
    whole = (finished_run / "model.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"model\.onnx"):
        Classifier(path)


def test_weights_outside_the_file_are_refused(finished_run, tmp_path):
    """A model file may not make the runtime read another file."""
    proto = onnx.load_model(finished_run / "model.onnx")
    tensor = next(t for t in proto.graph.initializer if len(t.raw_data) > 1000)
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    (tmp_path / "models").mkdir()
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = tmp_path / "models" / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="keeps weights outside itself"):
        Classifier(path)


def test_cuda_is_refused_where_there_is_none(finished_run):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="this ONNX Runtime has no CUDA; install"):
        Classifier(finished_run / "model.onnx", "cuda")


def test_json_in_metadata_is_plain(finished_run):
    proto = onnx.load_model(finished_run / "model.onnx")
    values = {p.key: json.loads(p.value) for p in proto.metadata_props}
    assert all(key.startswith("eigenfeatures.") for key in values)
