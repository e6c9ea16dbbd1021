"""The exported file computes what torch and the kernels compute, or there is no file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import spectra
import tifffile
import torch

from eigenfeatures.eigen.gradient_layer import StandardizedGradient
from eigenfeatures.eigen.model_file import Model, load_model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.export import onnx_model, svd_layer
from eigenfeatures.export.agreement import ExportMismatchError
from eigenfeatures.export.half_precision import to_float16
from eigenfeatures.export.onnx_model import export_onnx
from eigenfeatures.export.outputs import DECOMPOSITION
from eigenfeatures.export.quantisation import to_int8
from eigenfeatures.kernels import strongest_channel

SIZE = (40, 34)
# They bar CUDA graphs, and land on the CPU.
UNWANTED = {"Shape", "If", "Loop", "Scan"}


def small_model(**preprocessing):
    return Model(
        build_network("small", 3, SIZE, 1).eval(), ("a", "b", "c"), Preprocessing(**preprocessing), {}
    )


def slices_of(dtype, count=5, size=SIZE):
    return np.random.default_rng(2).integers(0, 200, (count, *size)).astype(dtype)


def run(path, slices, names=None):
    """What ONNX Runtime alone makes of raw slices, by array name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = names or [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"slices": slices}), strict=True))


def maps_of(model, slices, layer, resolution="pooled"):
    with torch.inference_mode():
        images = torch.from_numpy(model.preprocessing(slices))[:, None]
        return responses(model.network, images, [layer], resolution)[layer].numpy()


def by_lapack(maps):
    """Singular values and left vectors, as rows, of maps (C, h, w) in float64."""
    _, s, u = np.linalg.svd(maps.reshape(len(maps), -1).astype(np.float64), full_matrices=False)
    return s, u


def assert_decomposes(found, maps, rank):
    """Compare with LAPACK: here all spectra have gaps, and all responses are at least 0."""
    assert found["eigenfeatures"].shape == (len(maps), rank, *maps.shape[2:])
    for number, one in enumerate(maps):
        s, u = by_lapack(one)
        np.testing.assert_allclose(found["singular_values"][number], s[:rank], rtol=1e-5)
        assert found["gap"][number] == pytest.approx(s[1] / s[0], rel=1e-4)
        for k in range(rank):
            assert spectra.sine(found["eigenfeatures"][number, k], u[k]) <= (1e-3 if k else 1e-4)
        assert found["eigenfeatures"][number, 0].sum() > 0
        assert found["residual"][number] <= 2e-6


def operators(path):
    return {node.op_type for node in onnx.load_model(path).graph.node}


def weights(path):
    """The stored tensors that are as large as a convolution's."""
    return {tensor.name for tensor in onnx.load_model(path).graph.initializer if len(tensor.dims) == 4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model, the file with all that can be asked for, and what its check said."""
    model, path = small_model(), tmp_path_factory.mktemp("whole") / "model.onnx"
    outputs = ("probabilities", "logits", "conv2", "relu2", "alpha", *DECOMPOSITION)
    check = export_onnx(model, path, slices_of(np.uint8), outputs=outputs, rank=2, description={})
    return model, path, check


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_output_is_that_of_torch_and_lapack_for_any_batch(whole, count):
    model, path, _ = whole
    slices = slices_of(np.uint8, count)
    found = run(path, slices)
    maps = maps_of(model, slices, "relu2")
    np.testing.assert_allclose(found["relu2"], maps, atol=1e-4)
    np.testing.assert_allclose(found["conv2"], maps_of(model, slices, "conv2"), atol=1e-4)
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(model.preprocessing(slices))[:, None])
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(found["probabilities"], torch.softmax(logits, 1), atol=1e-5)
    alpha = strongest_channel(maps)
    np.testing.assert_array_equal(found["alpha_index"], alpha.index)
    np.testing.assert_allclose(found["alpha_maximum"], alpha.maximum, rtol=1e-5)
    np.testing.assert_allclose(found["alpha_mean"], alpha.mean, rtol=1e-5)
    assert_decomposes(found, maps, 2)


def test_the_file_is_one_static_graph_of_standard_operators(whole):
    _, path, check = whole
    proto = onnx.load_model(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(domain.domain, domain.version) for domain in proto.opset_import] == [("", onnx_model.OPSET)]
    assert not operators(path) & UNWANTED
    assert len(proto.functions) == 0
    assert list(path.parent.iterdir()) == [path]
    assert check.slices == 5
    assert list(check.differences) == [output.name for output in proto.graph.output]
    assert 0 < check.largest <= 1e-4


def test_vectors_that_rounding_decides_on_are_counted_and_not_compared(whole):
    model, _, check = whole
    s = np.array([by_lapack(maps)[0] for maps in maps_of(model, slices_of(np.uint8), "relu2")])
    near = (s[:, 2] > 0.95 * s[:, 1]) | (s[:, 1] > 0.95 * s[:, 0]) | (s[:, 1] < 0.05 * s[:, 0])
    assert check.undetermined == near.sum() > 0


@pytest.mark.parametrize(
    ("dtype", "layer", "resolution"),
    [
        (np.uint8, "relu2", "pooled"),
        (np.uint16, "conv1", "dense"),
        (np.int16, "relu2", "dense"),
        (np.float32, "conv2", "pooled"),
    ],
)
def test_raw_slices_of_any_dtype_enter_the_graph(tmp_path, dtype, layer, resolution):
    model = small_model(operator="scharr", mean=300.0, deviation=90.0)
    path = tmp_path / "model.onnx"
    slices = slices_of(dtype)
    names = (layer, "logits")
    export_onnx(model, path, slices, outputs=names, layer=layer, resolution=resolution, description={})
    found = run(path, slices)
    assert tuple(found) == names
    np.testing.assert_allclose(found[layer], maps_of(model, slices, layer, resolution), atol=1e-4)


def test_eigenfeatures_alone_leave_out_the_rest_of_the_network(tmp_path, whole):
    path = tmp_path / "model.onnx"
    export_onnx(small_model(), path, slices_of(np.uint8), outputs=("eigenfeatures",), description={})
    assert weights(path) == {"network.conv1.weight", "network.conv2.weight"}
    assert not operators(path) & {*UNWANTED, "Gemm", "Softmax"}
    assert {"Gemm", "Softmax"} <= operators(whole[1])
    assert len(weights(whole[1])) == 5
    slices = slices_of(np.uint8, 3)
    found, expected = (run(file, slices, ["eigenfeatures"])["eigenfeatures"] for file in (path, whole[1]))
    np.testing.assert_allclose(found, expected[:, :1], atol=1e-5)


def test_a_dense_graph_decomposes_one_response_a_pixel(tmp_path):
    model, path = small_model(), tmp_path / "model.onnx"
    outputs = ("probabilities", "alpha", *DECOMPOSITION)
    export_onnx(model, path, slices_of(np.uint8), outputs=outputs, resolution="dense", rank=2, description={})
    slices = slices_of(np.uint8, 3)
    found = run(path, slices)
    assert_decomposes(found, maps_of(model, slices, "relu2", "dense"), 2)
    # As in a run's table, the strongest channel is that of the network as it was trained.
    alpha = strongest_channel(maps_of(model, slices, "relu2"))
    np.testing.assert_allclose(found["alpha_maximum"], alpha.maximum, rtol=1e-5)
    assert not operators(path) & UNWANTED


@pytest.fixture(scope="module")
def for_any_size(tmp_path_factory):
    """A model and its file for slices of any size."""
    model, path = small_model(), tmp_path_factory.mktemp("any") / "model.onnx"
    outputs = ("relu2", "alpha", *DECOMPOSITION)
    export_onnx(model, path, slices_of(np.uint16), outputs=outputs, any_size=True, description={})
    return model, path


def test_a_graph_for_any_size_takes_slices_of_every_size(for_any_size):
    model, path = for_any_size
    for count, size in ((1, SIZE), (3, (57, 90)), (2, (131, 24))):
        slices = slices_of(np.uint16, count, size)
        maps = maps_of(model, slices, "relu2")
        found = run(path, slices)
        np.testing.assert_allclose(found["relu2"], maps, atol=1e-4)
        np.testing.assert_array_equal(found["alpha_index"], strongest_channel(maps).index)
        assert_decomposes(found, maps, 1)
    assert weights(path) == {"network.conv1.weight", "network.conv2.weight"}
    assert not operators(path) & UNWANTED


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_graph_for_any_size_keeps_it_in_less_precision(for_any_size, tmp_path, precision):
    model, path = for_any_size
    original = onnx.load_model(path)
    made = to_float16(original) if precision == "float16" else to_int8(original, slices_of(np.uint16, 2))
    onnx.save_model(made, tmp_path / "other.onnx")
    assert not operators(tmp_path / "other.onnx") & UNWANTED
    slices = slices_of(np.uint16, 2, (57, 90))
    maps, found = maps_of(model, slices, "relu2"), run(tmp_path / "other.onnx", slices)
    assert found["eigenfeatures"].shape == (2, 1, 28, 45)
    for number, one in enumerate(maps):
        s, u = by_lapack(one)
        assert spectra.sine(found["eigenfeatures"][number, 0], u[0]) <= 0.03
        assert found["singular_values"][number, 0] == pytest.approx(s[0], rel=0.03)


@pytest.mark.parametrize(("preset", "layer"), [("alexnet", "conv3"), ("paper", "relu1")])
def test_other_presets_export_on_real_slices(tmp_path, ct_data, preset, layer):
    slices = tifffile.imread(ct_data / "cement.tif", key=[0, 1])[:, :64, :64]
    model = Model(build_network(preset, 2, (64, 64), 1).eval(), ("a", "b"), Preprocessing(), {})
    check = export_onnx(model, tmp_path / "m.onnx", slices, layer=layer, description={})
    assert check.undetermined == 0
    assert 0 < check.differences["eigenfeatures"] <= 1e-4
    assert not operators(tmp_path / "m.onnx") & UNWANTED


def test_a_blank_slice_does_not_decide_over_an_export(tmp_path):
    """Its maps are nearly one image, so that σ₂ is below what XᵀX holds in float32."""
    model = small_model()
    with torch.no_grad():
        model.network.conv1.bias.fill_(1)
        model.network.conv2.bias.fill_(1)
        model.network.conv2.weight.mul_(3e-3)
    slices = np.concatenate([np.zeros((1, *SIZE), np.uint8), slices_of(np.uint8, 2)])
    s, _ = by_lapack(maps_of(model, slices[:1], "relu2")[0])
    assert 1e-4 < s[1] / s[0] < 1e-3
    outputs = ("gap", "singular_values")
    check = export_onnx(model, tmp_path / "m.onnx", slices, outputs=outputs, rank=2, description={})
    assert check.slices == 3


def refused(tmp_path, **options):
    """The message with which an export is refused; no file is left."""
    with pytest.raises(ExportMismatchError, match="differs from torch by") as caught:
        export_onnx(small_model(), tmp_path / "m.onnx", slices_of(np.uint8), **options, description={})
    assert not list(tmp_path.iterdir())
    return str(caught.value)


def test_weights_that_differ_are_refused(tmp_path, monkeypatch):
    """The check can fail: torch answers with other weights than those exported."""
    original = onnx_model._to_onnx

    def exported_then_changed(graph, example):
        proto = original(graph, example)
        graph.network.conv2.bias.data += 0.01
        return proto

    monkeypatch.setattr(onnx_model, "_to_onnx", exported_then_changed)
    assert "in relu2" in refused(tmp_path, outputs=("relu2",))


def test_a_gradient_that_the_kernels_do_not_compute_is_refused(tmp_path, monkeypatch):
    """The file is compared with the preprocessing that trained the model, not with its own."""
    monkeypatch.setattr(StandardizedGradient, "_standardize", lambda _, gradient: 1.01 * gradient)
    assert "in relu2" in refused(tmp_path, outputs=("relu2",))


def test_a_decomposition_that_the_kernels_do_not_find_is_refused(tmp_path, monkeypatch):
    """Here torch and ONNX Runtime agree, on vectors that have not converged."""
    monkeypatch.setattr(svd_layer, "_SQUARINGS", 0)
    message = refused(tmp_path, outputs=("eigenfeatures", "singular_values"))
    assert "in eigenfeatures" in message


def test_a_turned_eigenfeature_is_refused(tmp_path, monkeypatch):
    original = svd_layer.SvdLayer._sign
    monkeypatch.setattr(svd_layer.SvdLayer, "_sign", lambda *given: -original(*given))
    assert "2.0e+00 in eigenfeatures" in refused(tmp_path, outputs=("eigenfeatures",))


def test_a_file_gives_the_probabilities_of_torch(finished_run, stacks):
    model = load_model(finished_run)
    with open_samples(stacks) as samples:
        slices = samples.read([0, 17, 63])
    with torch.inference_mode():
        expected = torch.softmax(model.network(torch.from_numpy(model.preprocessing(slices))[:, None]), 1)
    found = onnxruntime.InferenceSession(finished_run / "model.onnx").run(
        ["probabilities"], {"slices": slices}
    )
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-5)


def test_large_slices_are_standardised_as_the_kernel_does(tmp_path):
    """One float32 sum over a slice of this size is off by 4e-4 in ONNX Runtime."""
    slices = np.random.default_rng(0).integers(0, 65535, (1, 2048, 2048), np.uint16)
    layer = StandardizedGradient(Preprocessing()).eval()
    torch.onnx.export(
        layer, (torch.from_numpy(slices),), tmp_path / "g.onnx", dynamo=True, input_names=["x"], verbose=False
    )
    found = onnxruntime.InferenceSession(tmp_path / "g.onnx").run(None, {"x": slices})[0]
    np.testing.assert_allclose(found[:, 0], Preprocessing()(slices), atol=1e-5)
