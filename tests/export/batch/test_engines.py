"""Every engine gives what the run's own network and NumPy give, or says why it can't."""

import hashlib
import json
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import assert_refused, call, random_stack, with_layer, without_named_maps
from onnx import TensorProto, helper

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.export import agreement
from eigenfeatures.export.accuracy import compare_files
from eigenfeatures.export.batch import ort_engine
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, open_engine
from eigenfeatures.export.batch.source import Reading, open_sources
from eigenfeatures.export.graph_edits import folded
from eigenfeatures.export.metadata import _checksum, add_metadata, save_graph
from eigenfeatures.kernels import standardized_gradient

SLICES = slice(0, 64, 9)
ON_CPU = ("ort-cpu", "torch")


@pytest.fixture(scope="module", params=ON_CPU)
def engine(request, finished_run):
    return open_engine(finished_run, None, request.param, "cpu")


@pytest.fixture(scope="module")
def expected(raw, model):
    """Logits and response maps of the trained network in torch, in float64 from there on."""
    images = torch.from_numpy(standardized_gradient(raw[SLICES], "sobel"))[:, None]
    with torch.inference_mode():
        found = responses(model.network, images, ["relu2", "logits"])
    return {name: tensor.numpy().astype(np.float64) for name, tensor in found.items()}


def test_class_probabilities(engine, raw, expected):
    exponentials = np.exp(expected["logits"])
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(engine(raw[SLICES])["probabilities"], probabilities, atol=1e-5)


def test_singular_vectors(engine, raw, expected):
    found = engine(raw[SLICES])
    for k, maps in enumerate(expected["relu2"]):
        u, s, _ = np.linalg.svd(maps.reshape(len(maps), -1).T, full_matrices=False)
        np.testing.assert_allclose(found["singular_values"][k], s[:2], rtol=1e-4)
        np.testing.assert_allclose(found["gap"][k], s[1] / s[0], rtol=1e-3)
        ours = found["eigenfeatures"][k].reshape(2, -1)
        assert ours[0].sum() > 0
        np.testing.assert_allclose(np.abs(ours @ u[:, :2]), np.eye(2), atol=1e-3)
        assert found["residual"][k] < 1e-4


def test_strongest_channel(engine, raw, expected):
    found = engine(raw[SLICES])
    maps = expected["relu2"]
    index = maps.max((2, 3)).argmax(1)
    np.testing.assert_array_equal(found["alpha_index"], index)
    chosen = maps[np.arange(len(maps)), index]
    np.testing.assert_allclose(found["alpha_maximum"], chosen.max((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["alpha_mean"], chosen.mean((1, 2)), rtol=1e-4)


def test_it_says_what_it_is(engine, raw):
    assert engine.name in ("ort-cpu", "torch-cpu")
    assert engine.facts.classes == ("sample1", "sample2", "sample3", "sample4")
    assert (engine.facts.size, engine.facts.operator, engine.facts.layer) == ((40, 40), "sobel", "relu2")
    assert engine.facts.stride("eigenfeatures") == 2
    assert engine.facts.stride("relu1") == 1
    assert engine.facts.offset("eigenfeatures") == 0.5
    assert tuple(engine(raw[:1])) == engine.outputs


def test_all_engines_decompose_what_was_exported(finished_run, raw, tmp_path):
    """And not what `features` wrote into `run.toml` since."""
    run = with_layer(finished_run, tmp_path / "run", "relu1")
    for name in ON_CPU:
        opened = open_engine(run, ["eigenfeatures"], name, "cpu")
        assert (opened.facts.layer, opened.facts.resolution, opened.facts.rank) == ("relu2", "pooled", 2)
        assert opened(raw[:1])["eigenfeatures"].shape == (1, 2, 20, 20)
    (run / "model.onnx").unlink()
    assert open_engine(run, ["eigenfeatures"], "torch", "cpu").facts.layer == "relu1"


def test_threads_are_those_asked_for(finished_run):
    engine = open_engine(finished_run, engine="ort-cpu", threads=1)
    assert engine._session.get_session_options().intra_op_num_threads == 1
    before = torch.get_num_threads()
    try:
        open_engine(finished_run, engine="torch", device="cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_outputs_are_those_asked_for(finished_run, raw):
    opened = open_engine(finished_run, ["gap", "alpha"], "torch", "cpu")
    assert tuple(opened(raw[:1])) == ("gap", "alpha_index", "alpha_maximum", "alpha_mean")
    opened = open_engine(finished_run, ["gap", "alpha"], "ort-cpu")
    assert tuple(opened(raw[:1])) == ("gap", "alpha_index", "alpha_maximum", "alpha_mean")
    opened = open_engine(finished_run, ["relu1", "logits"], "torch", "cpu")
    assert opened(raw[:1])["relu1"].shape == (1, 16, 40, 40)


def nodes_run(file, outputs, slices, monkeypatch, folder):
    """The kinds of nodes that ONNX Runtime's own profile has of a batch."""

    usual = onnxruntime.SessionOptions

    def profiling():
        options = usual()
        options.enable_profiling, options.profile_file_prefix = True, str(folder)
        return options

    with monkeypatch.context() as patch:
        patch.setattr("eigenfeatures.export.batch.ort_engine.onnxruntime.SessionOptions", profiling)
        opened = open_engine(file, outputs, "ort-cpu")
    opened(slices)
    events = json.loads(Path(opened._session.end_profiling()).read_text())
    opened.close()
    return Counter(event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time"))


def test_nothing_is_computed_that_only_other_outputs_need(finished_run, raw, monkeypatch, tmp_path):
    """Classes need no SVD, whose squarings of the Gram matrix are the products; here the kernels make it."""
    unnamed = without_named_maps(finished_run, tmp_path / "m.onnx")
    found = {
        name: nodes_run(file, outputs, raw[:1], monkeypatch, tmp_path / name)
        for name, file, outputs in (
            ("all", finished_run, None),
            ("all in the graph", unnamed, None),
            ("classes", unnamed, ["probabilities"]),
            ("eigenfeatures", finished_run, ["eigenfeatures"]),
        )
    }
    assert found["all"]["Gemm"] == found["classes"]["Gemm"] > 0 == found["eigenfeatures"]["Gemm"]
    assert found["all in the graph"]["MatMul"] > 10 > 0 == found["classes"]["MatMul"]
    assert found["all"]["MatMul"] == found["eigenfeatures"]["MatMul"] == 0


def test_eigenfeatures_alone_take_slices_of_any_size(finished_run, raw):
    opened = open_engine(finished_run, ["eigenfeatures"], "torch", "cpu")
    assert opened.facts.size is None
    assert opened(raw[:1, :30, :36])["eigenfeatures"].shape == (1, 2, 15, 18)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("outputs", [None, ["eigenfeatures"]])
def test_every_engine_gets_the_centre_that_the_training_cut(name, outputs, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    text = (run / "run.toml").read_text(encoding="utf-8")
    (run / "run.toml").write_text(text.replace("[settings]", "[settings]\nsize = 40"), encoding="utf-8")
    proto = onnx.load_model(run / "model.onnx")
    add_metadata(proto, {"crop": {"size": 40}})
    save_graph(proto, run / "model.onnx")
    np.save(tmp_path / "scan.npy", random_stack((2, 50, 60)))
    (source,) = open_sources([tmp_path / "scan.npy"], Reading(), open_engine(run, outputs, name, "cpu").facts)
    assert source.region == Region(5, 10, 40, 40)


def test_the_clock_has_the_parts_of_the_work(finished_run, raw):
    for name, parts in (
        ("torch", {"gradient", "network", "alpha", "SVD"}),
        ("ort-cpu", {"gradient and network", "alpha", "SVD"}),
    ):
        clock = Clock()
        open_engine(finished_run, None, name, "cpu", clock)(raw[:2])
        assert set(clock.seconds) == parts
        assert min(clock.seconds.values()) > 0


@pytest.mark.parametrize(
    ("outputs", "part"),
    [
        (["probabilities"], "gradient and network"),
        (["alpha"], "gradient, network and alpha"),
        (["gap"], "gradient, network and SVD"),
        (["probabilities", "alpha", "gap"], "gradient, network, alpha and SVD"),
    ],
)
def test_the_clock_names_what_a_graph_holds(outputs, part, finished_run, raw, tmp_path):
    """Where ONNX Runtime computes all of it, as it does on a GPU."""
    clock = Clock()
    unnamed = without_named_maps(finished_run, tmp_path / "m.onnx")
    open_engine(unnamed, outputs, "ort-cpu", clock=clock)(raw[:1])
    assert set(clock.seconds) == {part}


REFUSED = {
    "unknown engine": (["onnx", "auto"], {}, "engine 'onnx' is unknown"),
    "unknown device": (["auto", "tpu"], {}, "device 'tpu' is unknown"),
    "contradiction": (["ort-cpu", "cuda"], {}, "--engine ort-cpu and --device cuda contradict"),
    "unknown output": (
        ["ort-cpu", "auto"],
        {"outputs": ["relu9"]},
        "gives no output 'relu9', only probabi.*--outputs",
    ),
    "unknown output in torch": (["torch", "cpu"], {"outputs": ["relu9"]}, "'relu9' is unknown; choose among"),
    "no output": (["ort-cpu", "auto"], {"outputs": []}, "gives no output"),
    "TF32 on a processor": (["ort-cpu", "auto"], {"tf32": True}, "--tf32 is for a GPU, and this runs on"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_t_be_had_is_refused(what, finished_run):
    (engine, device), given, reason = REFUSED[what]
    options = dict(given)
    with pytest.raises(InputError, match=reason):
        open_engine(finished_run, options.pop("outputs", None), engine, device, **options)


def _someone_elses(path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save_model(helper.make_model(graph), path)


def _truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_someone_elses, "was not exported by eigenfeatures"),
        (_truncated, "is not an ONNX file"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_file_that_is_no_model_of_ours_is_refused(make, reason, finished_run, tmp_path):
    path = tmp_path / "m.onnx"
    shutil.copy(finished_run / "model.onnx", path)
    make(path)
    with pytest.raises(InputError, match=rf"m\.onnx {reason}"):
        open_engine(path)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"size": [-500_000_000, 40]}, "a side of -500000000"),
        ({"size": [40.0, 40]}, "a side of 40.0"),
        ({"size": [1, 1]}, "slices of 1×1 pixels beside an input of 40×40"),
        ({"crop": {"size": -3}}, "a crop of -3"),
    ],
)
def test_sizes_that_can_not_be_are_refused(facts, reason, finished_run, tmp_path):
    """They would decide how many windows are cut, and where; the checksum is right."""
    proto = onnx.load_model(finished_run / "model.onnx")
    add_metadata(proto, facts)
    save_graph(proto, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=rf"m\.onnx does not say what it takes \({reason}\)"):
        open_engine(tmp_path / "m.onnx", device="cpu")


@pytest.fixture
def unreadable(finished_run, tmp_path):
    """A file of which ONNX Runtime can't even say what is wrong; its checksum is right."""
    path = tmp_path / "m.onnx"
    end = len(_checksum(b""))
    content = (finished_run / "model.onnx").read_bytes()[:-end].replace(b"MaxPool", b"\xffaxPool")
    path.write_bytes(content + _checksum(content))
    return path


def test_a_file_that_fails_in_the_runtime_is_one_line_and_no_output(unreadable, stacks, tmp_path):
    """ONNX Runtime would print to standard output that it falls back to the processor."""
    job = ("infer", unreadable, stacks / "sample1.tif", "--out", tmp_path / "out", "--json")
    assert_refused(call(*job), r"m\.onnx can't be run by ONNX Runtime on 'cpu'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "use",
    [
        lambda path: compare_files(path, path, []),
        lambda path: agreement.check_agreement(None, None, path, None),
        lambda path: folded(onnx.load_model(path)),
    ],
    ids=["accuracy", "agreement", "folded"],
)
def test_no_session_of_ours_prints(use, unreadable, capfd):
    with pytest.raises(UnicodeDecodeError):
        use(unreadable)
    assert capfd.readouterr().out == ""


def test_where_maps_lie_is_in_the_file_or_asked_of_the_network(finished_run, tmp_path):
    """Files were exported without it too."""
    proto = onnx.load_model(finished_run / "model.onnx")
    add_metadata(proto, {"offsets": {"relu2": 3.5}})
    save_graph(proto, tmp_path / "m.onnx")
    assert open_engine(tmp_path / "m.onnx").facts.offset("eigenfeatures") == 3.5
    add_metadata(proto, {"offsets": {}, "strides": {}})
    save_graph(proto, tmp_path / "m.onnx")
    facts = open_engine(tmp_path / "m.onnx").facts
    assert (facts.stride("eigenfeatures"), facts.offset("eigenfeatures")) == (2, 0.5)
    add_metadata(proto, {"offsets": {"relu2": float("nan")}})
    save_graph(proto, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"does not say what it takes \(an offset of nan\)"):
        open_engine(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "classes", [[["a"], ["b"], ["c"], ["d"]], ["a", "a", "b", "c"], ["a", "b", "c", 4], ["a", None, "c", "d"]]
)
def test_classes_are_distinct_names_as_they_become_columns(classes, finished_run, tmp_path):
    proto = onnx.load_model(finished_run / "model.onnx")
    add_metadata(proto, {"classes": classes})
    save_graph(proto, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx does not say .* \(classes that are not distinct names\)"):
        open_engine(tmp_path / "m.onnx")


@pytest.mark.parametrize("outputs", [None, ["eigenfeatures"]])
@pytest.mark.parametrize("named", [True, False])
def test_what_was_checked_is_what_is_run(named, outputs, finished_run, raw, tmp_path, monkeypatch):
    """Whatever takes the file's place meanwhile. Where the maps aren't named, the whole graph is run."""
    file = tmp_path / "m.onnx"
    if named:
        shutil.copy(finished_run / "model.onnx", file)
    else:
        without_named_maps(finished_run, file)
    digest, read = hashlib.sha256(file.read_bytes()).hexdigest(), ort_engine.open_graph
    expected = open_engine(file, outputs, "ort-cpu")(raw[:1])

    def read_and_replace(path):
        found = read(path)
        path.write_bytes(b"another file")
        return found

    monkeypatch.setattr(ort_engine, "open_graph", read_and_replace)
    opened = open_engine(file, outputs, "ort-cpu")
    assert opened.facts.sha256 == digest
    for name, array in opened(raw[:1]).items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("named", [True, False])
def test_an_engine_keeps_no_copy_of_its_file(named, finished_run, tmp_path):
    """Beside the weights that ONNX Runtime makes of it."""
    file = finished_run / "model.onnx" if named else without_named_maps(finished_run, tmp_path / "m.onnx")
    tracemalloc.start()
    try:
        opened = open_engine(file, None, "ort-cpu")
        kept = max(trace.size for trace in tracemalloc.take_snapshot().traces)
    finally:
        tracemalloc.stop()
    opened.close()
    assert kept < file.stat().st_size // 2


@pytest.mark.parametrize("name", ["../../outside", "/outside", "blocks", "file", "relu2/../../outside"])
def test_a_file_can_t_name_the_folder_of_its_maps(name, finished_run, tmp_path):
    """The name of an output becomes that of a folder below the results."""
    proto = onnx.load_model(finished_run / "model.onnx")
    maps = next(output for output in proto.graph.output if output.name == "eigenfeatures")
    proto.graph.node.append(helper.make_node("Identity", ["eigenfeatures"], [name]))
    maps.name = name
    save_graph(proto, tmp_path / "m.onnx")
    for outputs in (None, [name], ["gap"]):
        with pytest.raises(InputError, match=r"m\.onnx gives .*, which no model of ours does; export"):
            open_engine(tmp_path / "m.onnx", outputs, "ort-cpu")


def test_a_device_without_room_is_told_from_other_errors(finished_run, raw):
    opened = open_engine(finished_run, ["gap"], "ort-cpu")

    class Session:
        def get_inputs(self):
            return [type("Input", (), {"name": "slices"})]

        def run(self, *_):
            raise RuntimeError(self.text)

    opened._session = Session()
    opened._session.text = (
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9"
    )
    with pytest.raises(DeviceMemoryError, match="Failed to allocate memory"):
        opened(raw[:1])
    opened._session.text = "Invalid rank for input"
    with pytest.raises(RuntimeError, match="Invalid rank"):
        opened(raw[:1])
