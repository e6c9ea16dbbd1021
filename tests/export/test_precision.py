"""Files of float16 and int8: like the float32 file, or there is no file."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import assert_refused, call, parsed
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, TensorsData

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export import accuracy, half_precision, precision, quantisation
from eigenfeatures.export.accuracy import compare_files
from eigenfeatures.export.agreement import ExportCheck
from eigenfeatures.export.graph_edits import LAYERS
from eigenfeatures.export.half_precision import emulate_float16, to_float16
from eigenfeatures.export.metadata import model_info, read_metadata
from eigenfeatures.export.onnx_model import export_onnx
from eigenfeatures.export.quantisation import to_int8
from eigenfeatures.export.tables import read_table

REDUCED = ("float16", "int8")
SMALL_TYPES = {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8}


@pytest.fixture(scope="module")
def variants(finished_run, tmp_path_factory):
    """Each precision to its file and to what the command said, all made from one run."""
    folder = tmp_path_factory.mktemp("variants")
    answers = {}
    for name in ("float32", *REDUCED):
        path = folder / f"{name}.onnx"
        answers[name] = (
            path,
            parsed(call("export", finished_run, "--precision", name, "--out", path, "--json")),
        )
    return answers


@pytest.fixture(scope="module")
def held_out(finished_run, raw):
    """The raw validation slices."""
    return raw[np.array(read_table(finished_run / "slices.csv")["split"]) == "validation"]


def run(path, slices):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"slices": slices}), strict=True))


def types_of(path):
    """Every tensor's type by its name, and the nodes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model(path), strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}, list(graph.node)


@pytest.mark.parametrize("name", REDUCED)
def test_differences_of_the_float32_graph_are_not_told_as_this_files(name, variants):
    told, single = variants[name][1], variants["float32"][1]
    largest = max(value for key, value in single.items() if key.startswith("largest_difference_of_"))
    shown = {key: value for key, value in told.items() if key.startswith("largest_difference_of_")}
    assert shown == {"largest_difference_of_float32_from_torch": largest}
    assert told["accuracy"]["largest_difference_of_probabilities"] > 10 * largest


@pytest.mark.parametrize("name", REDUCED)
def test_the_report_is_what_numpy_finds(variants, held_out, tmp_path, name):
    single, other = (variants[kind][0] for kind in ("float32", name))
    if name == "float16":  # as a GPU rounds
        other = tmp_path / "emulated.onnx"
        onnx.save_model(emulate_float16(onnx.load_model(single)), other)
    expected, found = run(single, held_out), run(other, held_out)
    report = variants[name][1]["accuracy"]
    cosine = np.abs(np.sum(expected["eigenfeatures"][:, 0] * found["eigenfeatures"][:, 0], axis=(1, 2)))
    assert report["slices"] == len(held_out) == 20
    assert report["undetermined_vectors"] == np.sum(expected["gap"] > 0.99) == 0
    assert report["class_agreement"] == 1
    assert report["u1_cosine_mean"] == pytest.approx(cosine.mean(), abs=1e-6)
    assert report["u1_cosine_minimum"] == pytest.approx(cosine.min(), abs=1e-6)
    assert report["u1_cosine_percentile_1"] == pytest.approx(np.percentile(cosine, 1), abs=1e-6)
    assert report["alpha_agreement"] == np.mean(expected["alpha_index"] == found["alpha_index"])
    for measure, array in (("sigma1", "singular_values"), ("probabilities", "probabilities")):
        difference = np.abs(expected[array] - found[array])
        if measure == "sigma1":
            difference = difference[:, 0] / expected[array][:, 0]
        assert report[f"largest_difference_of_{measure}"] == pytest.approx(difference.max(), abs=1e-6)


@pytest.mark.parametrize(("name", "cosine", "sigma"), [("float16", 1e-6, 1e-3), ("int8", 1e-3, 0.03)])
def test_values_are_near_those_of_float32_and_not_the_same(variants, name, cosine, sigma):
    report = variants[name][1]["accuracy"]
    assert 1 - report["u1_cosine_minimum"] <= cosine
    assert 0 < report["largest_difference_of_sigma1"] <= sigma
    assert 0 < report["largest_difference_of_probabilities"] <= 0.05


@pytest.mark.parametrize("name", REDUCED)
def test_inputs_outputs_and_metadata_are_those_of_float32(variants, name):
    single, other = (model_info(variants[kind][0]) for kind in ("float32", name))
    told = variants[name][1]["accuracy"]
    assert single.pop("precision") == "float32"
    assert (other.pop("precision"), other.pop("accuracy")) == (name, told)
    calibration = other.pop("calibration", None)
    assert calibration == (None if name == "float16" else {"slices": 31, "percentile": None})
    assert single.pop("model") != other.pop("model")
    assert single.pop("checksum") != other.pop("checksum")
    assert single == other


@pytest.mark.parametrize("name", REDUCED)
def test_a_bit_that_flips_is_refused(variants, tmp_path, name):
    """Wherever it stands: among the weights, or where the format says what comes next (the first bytes)."""
    path = tmp_path / "flipped.onnx"
    whole = variants[name][0].read_bytes()
    for place in (*range(0, 64), *range(64, len(whole) - 200, len(whole) // 50)):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"flipped\.onnx was changed since its export"):
            read_metadata(path)


@pytest.mark.parametrize("name", REDUCED)
def test_only_the_network_is_of_less_precision(variants, name):
    """Gradient, standardisation and decomposition read and write float32, whole numbers and truth values."""
    types, nodes = types_of(variants[name][0])
    layers = [node for node in nodes if node.op_type in LAYERS]
    others = [
        node for node in nodes if node.op_type not in (*LAYERS, "Cast", "QuantizeLinear", "DequantizeLinear")
    ]
    assert sum(node.op_type == "Conv" for node in layers) == 5
    assert len(others) > 100
    for node in others:
        assert not {types[tensor] for tensor in (*node.input, *node.output) if tensor} & SMALL_TYPES, (
            node.name
        )
    if name == "float16":
        assert {types[tensor] for node in layers for tensor in node.input} == {TensorProto.FLOAT16}
    onnx.checker.check_model(onnx.load_model(variants[name][0]), full_check=True)
    assert {node.domain for node in nodes} == {""}
    assert not {node.op_type for node in nodes} & {"Shape", "If", "Loop", "Scan"}, "they bar CUDA graphs"


def test_weights_are_int8_by_channel_and_activations_uint8(variants):
    """7 bits of the weights are used, so that no processor overflows."""
    types, nodes = types_of(variants["int8"][0])
    made = {node.output[0]: node for node in nodes}
    weights = {tensor.name: tensor for tensor in onnx.load_model(variants["int8"][0]).graph.initializer}
    convolutions = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
    for node in convolutions:
        activation, weight = (made[name].input for name in node.input[:2])
        assert types[activation[0]] == TensorProto.UINT8
        assert types[weight[0]] == TensorProto.INT8
        values = numpy_helper.to_array(weights[weight[0]])
        assert np.abs(values.astype(int)).max() <= 64
        assert list(weights[weight[1]].dims) == [values.shape[0]]
    assert len(convolutions) == 6


def optimised(path, folder):
    """The operators that ONNX Runtime makes of a file, in order."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load_model(folder / "optimised.onnx").graph.node]


def test_the_runtime_computes_layers_in_integers_and_the_gram_matrix_not(variants, tmp_path):
    operators = optimised(variants["int8"][0], tmp_path)
    assert operators.count("QLinearConv") == 5
    assert not {"Conv", "FusedConv", "Relu", "BatchNormalization"} & set(operators)
    assert not [name for name in operators if "Integer" in name or name == "QLinearMatMul"]


def test_the_runtime_computes_float_maps_once_for_all_their_readers(variants, tmp_path):
    inside = onnx.load_model(variants["int8"][0]).graph.node
    apart = [node.output[0] for node in inside if node.name.endswith("_apart")]
    readers = [node for node in inside for name in node.input if name in apart]
    assert [node.op_type for node in readers] == ["Reshape"] * len(apart)
    optimised(variants["int8"][0], tmp_path)
    made = onnx.load_model(tmp_path / "optimised.onnx").graph.node
    scales = [node.input[1] for node in made if node.op_type == "DequantizeLinear"]
    assert len([name for name in scales if name.endswith("_scales")]) == len(apart)


def test_without_our_arithmetic_the_runtime_would_make_an_integer_gram_matrix(
    variants, raw, tmp_path, monkeypatch
):
    """The test above can fail."""
    monkeypatch.setattr(quantisation, "_dequantise_apart", lambda _: {})
    onnx.save_model(to_int8(onnx.load_model(variants["float32"][0]), raw[:2]), tmp_path / "fused.onnx")
    assert any("Integer" in name for name in optimised(tmp_path / "fused.onnx", tmp_path))


def model_of(preset="small", size=(64, 64)):
    """Untrained, with batch normalisation that does something."""
    network = build_network(preset, 3, size, 1)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(3)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
                module.bias.normal_(0, 0.3, generator=draw)
    return Model(network.eval(), ("a", "b", "c"), Preprocessing(), {})


def maps_of(model, slices, resolution):
    """What torch makes of raw slices at relu2."""
    images = torch.from_numpy(model.preprocessing(slices))[:, None]
    with torch.inference_mode():
        return responses(model.network, images, ["relu2"], resolution)["relu2"].numpy()


def smooth_slices(count, size=(64, 64)):
    noise = np.random.default_rng(2).normal(size=(count, *size))
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(5) for j in range(5))
    return (128 + 8 * smooth).clip(0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "outputs", "options"),
    [
        ("small", ("eigenfeatures", "conv2", "relu1"), {}),
        ("small", ("logits", "eigenfeatures", "relu2"), {"resolution": "dense"}),
        ("small", ("eigenfeatures", "gap"), {"layer": "conv2"}),
        ("small", ("relu2",), {"any_size": True}),
        ("alexnet", ("logits", "eigenfeatures"), {}),
    ],
)
def test_every_kind_of_graph_can_be_converted(tmp_path, preset, outputs, options):
    slices = smooth_slices(8)
    model = model_of(preset)
    single = tmp_path / "single.onnx"
    export_onnx(model, single, slices[:2], outputs=outputs, description={}, **options)
    original = onnx.load_model(single)
    maps = maps_of(model, slices, options.get("resolution", "pooled"))
    for converted, cosine, share in (
        (to_float16(original), 1e-5, 0.002),
        (to_int8(original, slices[4:]), 5e-3, 0.08),
    ):
        other = tmp_path / "other.onnx"
        onnx.save_model(converted, other)
        found = compare_files(single, other, [slices[:2], slices[2:4]])
        assert found.slices == 4
        assert 1 - min(value for name, value in found.measures.items() if "_cosine_" in name) <= cosine
        if "relu2" in outputs:
            np.testing.assert_allclose(run(other, slices)["relu2"], maps, atol=share * float(maps.max()))


def wrecked_ranges(monkeypatch):
    """Ranges of a hundredth: nearly all activations are cut off."""
    original = quantisation._ranges

    def narrow(*given):
        ranges = original(*given)
        narrowed = {
            name: tuple(end / np.float32(100) for end in data.range_value) for name, data in ranges.items()
        }
        return TensorsData(CalibrationMethod.MinMax, narrowed)

    monkeypatch.setattr(quantisation, "_ranges", narrow)


def wrecked_weights(monkeypatch):
    """Weights that float16 can't hold."""
    original = half_precision._rounded

    def huge(tensor):
        values = numpy_helper.to_array(tensor) * np.float32(1e7)
        return original(numpy_helper.from_array(values, tensor.name))

    monkeypatch.setattr(half_precision, "_rounded", huge)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wreck"), [("int8", wrecked_ranges), ("float16", wrecked_weights)])
def test_a_wrecked_file_is_refused(finished_run, tmp_path, monkeypatch, name, wreck):
    wreck(monkeypatch)
    answer = call("export", finished_run, "--precision", name, "--out", tmp_path / "new.onnx")
    assert_refused(answer, rf"{name} is too far from float32 on 20 held-out slices", "is asked", "--force")
    assert not list(tmp_path.iterdir())


def test_force_writes_what_falls_short_and_says_so(finished_run, tmp_path, monkeypatch):
    """A bound that nothing meets: then the second way to calibrate is tried, and kept."""
    monkeypatch.setattr(accuracy, "COSINE", 1.1)
    out = tmp_path / "new.onnx"
    told = parsed(call("export", finished_run, "--precision", "int8", "--out", out, "--force", "--json"))
    found = read_metadata(tmp_path / "new.onnx")
    assert found["accuracy"] == told["accuracy"]
    assert found["calibration"]["percentile"] == 99.999
    assert list(tmp_path.iterdir()) == [tmp_path / "new.onnx"]


def test_vectors_of_which_none_was_compared_are_refused_or_forced(
    finished_run, variants, tmp_path, monkeypatch
):
    """As where every slice is ill-determined. (The float32 file is there already, which saves its export.)"""
    monkeypatch.setattr(accuracy, "ILL_DETERMINED_RATIO", 0.01)

    def copied(*_, path, **__):
        shutil.copy(variants["float32"][0], path)
        return ExportCheck(8, {"gap": 0.0}, 0)

    monkeypatch.setattr(precision, "export_step", copied)
    out = tmp_path / "new.onnx"
    command = ("export", finished_run, "--precision", "float16", "--out", out)
    assert_refused(
        call(*command),
        "float16 can't be told to be near float32 on 20 held-out slices: no eigenfeature could be compared, "
        r"since the first one is ill-determined in every slice \(σ₂/σ₁ above 0.01\); .* add --force",
    )
    assert not out.exists()
    told = parsed(call(*command, "--force", "--json"))
    assert read_metadata(out)["accuracy"] == told["accuracy"]
    assert (told["accuracy"]["slices"], told["accuracy"]["undetermined_vectors"]) == (20, 20)


def test_what_can_not_be_had_is_refused_before_any_work(finished_run, tmp_path):
    command = ("export", finished_run, "--out", tmp_path / "new.onnx", "--precision")
    assert_refused(
        call(*command, "int4"), "precision 'int4' is unknown; choose one of float32, float16, int8"
    )
    answer = call(*command, "int8", "--outputs", "gap,alpha")
    assert_refused(answer, "accuracy of 'gap,alpha' alone can't be told; ask for probabilities")
    assert not list(tmp_path.iterdir())


def test_float16_is_emulated_as_numpy_rounds_it(tmp_path):
    """Of the first convolution, with float32 sums as a GPU has them."""
    single, other = tmp_path / "single.onnx", tmp_path / "other.onnx"
    model, slices = model_of(), smooth_slices(2)
    export_onnx(model, single, slices, outputs=("relu1", "relu2"), description={})
    original = onnx.load_model(single)
    convolution = next(node for node in onnx.load_model(single).graph.node if node.op_type == "Conv")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in original.graph.initializer}
    given = [model.preprocessing(slices)[:, None], *(weights[name] for name in convolution.input[1:])]
    images, weight, bias = (torch.from_numpy(array.astype(np.float16).astype(np.float32)) for array in given)
    exact = torch.relu(torch.conv2d(images, weight, bias, padding=1)).numpy()
    onnx.save_model(emulate_float16(original), other)
    found = run(other, slices)
    # Values that differ in float32's last digit may round to neighbours.
    assert np.mean(found["relu1"] == exact.astype(np.float16)) > 0.99
    np.testing.assert_allclose(found["relu1"], exact.astype(np.float16), atol=2e-3)
    kept = found["relu2"][found["relu2"] > 1e-4]
    np.testing.assert_array_equal(kept, kept.astype(np.float16))


def test_an_overflow_between_layers_is_seen(tmp_path):
    """The weights fit into float16, and what they make of the slices does not."""
    single, other = tmp_path / "single.onnx", tmp_path / "other.onnx"
    model, slices = model_of(), smooth_slices(2)
    with torch.no_grad():
        model.network.norm1.weight.mul_(3e4)
        model.network.norm1.bias.mul_(3e4)
        model.network.conv2.weight.div_(3e4)
    export_onnx(model, single, slices, outputs=("eigenfeatures",), description={})
    for made, missed in ((to_float16, False), (emulate_float16, True)):
        onnx.save_model(made(onnx.load_model(single)), other)
        assert bool(compare_files(single, other, [slices]).missed) == missed
