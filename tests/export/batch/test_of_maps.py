"""ONNX Runtime's maps decomposed by the kernels: as by the graph, and as by nothing else."""

import numba
import numpy as np
import onnx
import onnxruntime
import pytest
from commands import without_named_maps
from onnx import helper

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.export.batch import of_maps
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, open_engine
from eigenfeatures.export.batch.of_maps import kernel_threads
from eigenfeatures.export.metadata import add_metadata, save_graph
from eigenfeatures.export.onnx_model import export_onnx
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, RESPONSE_MAPS
from eigenfeatures.export.quantisation import to_int8

# Its alpha is of the pooled maps, which are not those that the kernels get.
DENSE_GRAPH = "gradient, network and alpha"


@pytest.fixture(scope="module", params=["rank 1", "rank 2", "dense", "int8", "any size"])
def file(request, finished_run, raw, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "m.onnx"
    options = {
        "rank 1": {"outputs": (*DEFAULT_OUTPUTS, "relu2")},
        "rank 2": {"rank": 2},
        "dense": {"resolution": "dense"},
        "int8": {},
        "any size": {"outputs": DEFAULT_OUTPUTS[1:], "any_size": True},
    }[request.param]
    export_onnx(load_model(finished_run), path, raw[:2], description={}, **options)
    if request.param == "int8":
        save_graph(to_int8(onnx.load_model(path), raw[:8]), path)
    return path


def by_the_graph(file, slices):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"slices": slices}), strict=True))


@pytest.fixture
def slices(raw):
    """Of noise, and a constant one, whose maps after ReLU are whatever the biases make of zeros."""
    return np.concatenate([raw[:5], np.full_like(raw[:1], 7)])


def test_the_same_as_by_the_graph(file, slices):
    expected = by_the_graph(file, slices)
    clock = Clock()
    engine = open_engine(file, list(expected), "ort-cpu", clock=clock)
    found = engine(slices)
    assert set(clock.seconds) - {"alpha"} in ({"gradient and network", "SVD"}, {DENSE_GRAPH, "SVD"})
    assert tuple(found) == tuple(expected)
    # A vector of nearly no energy is rounding, whoever computes it.
    meant = expected["singular_values"] > 0.01 * expected["singular_values"][:, :1]
    for arrays in (found, expected):
        arrays["eigenfeatures"] = np.where(meant[:, :, None, None], arrays["eigenfeatures"], 0)
    for name, array in found.items():
        assert (array.shape, array.dtype) == (expected[name].shape, expected[name].dtype), name
        if name == "residual":
            assert (array <= 1e-5).all()
            continue
        # The kernel knows a gap to 0.001, the graph weak singular values no better.
        atol = {"gap": 2e-3, "singular_values": 5e-3}.get(name, 1e-4)
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=atol, err_msg=name)


def test_a_graph_that_decomposes_nothing_names_no_maps(finished_run, raw, tmp_path):
    model = load_model(finished_run)
    for outputs, named in ((["probabilities", "alpha"], False), (["gap"], True)):
        export_onnx(model, tmp_path / "m.onnx", raw[:2], outputs=outputs, description={})
        proto = onnx.load_model(tmp_path / "m.onnx")
        assert (RESPONSE_MAPS in {name for node in proto.graph.node for name in node.output}) == named
        assert RESPONSE_MAPS not in {output.name for output in proto.graph.output}


def test_files_that_name_no_maps_are_run_as_they_are(finished_run, raw, tmp_path):
    clock = Clock()
    engine = open_engine(without_named_maps(finished_run, tmp_path / "m.onnx"), None, "ort-cpu", clock=clock)
    found, expected = engine(raw[:3]), by_the_graph(finished_run / "model.onnx", raw[:3])
    assert set(clock.seconds) == {"gradient, network, alpha and SVD"}
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-6)
    # A run that was begun by one of them is not to be ended by the other.
    kernels = open_engine(finished_run, None, "ort-cpu").facts.identity
    assert {**engine.facts.identity, "sha256": ""} != {**kernels, "sha256": ""}


def test_a_file_that_lies_of_its_maps_is_refused(finished_run, raw, tmp_path):
    proto = onnx.load_model(finished_run / "model.onnx")
    add_metadata(proto, {"rank": 10**6})
    save_graph(proto, tmp_path / "rank.onnx")
    proto = onnx.load_model(without_named_maps(finished_run, tmp_path / "flat.onnx"))
    proto.graph.node.append(helper.make_node("Identity", ["probabilities"], [RESPONSE_MAPS]))
    save_graph(proto, tmp_path / "flat.onnx")
    for name in ("rank", "flat"):
        engine = open_engine(tmp_path / f"{name}.onnx", None, "ort-cpu")
        with pytest.raises(
            InputError, match=rf"{name}\.onnx can't be decomposed: .*; export the model again"
        ):
            engine(raw[:2])
    proto.graph.node[-1].CopyFrom(helper.make_node("Identity", ["alpha_index"], [RESPONSE_MAPS]))
    save_graph(proto, tmp_path / "whole.onnx")
    with pytest.raises(InputError, match=r"whole\.onnx can't be run by ONNX Runtime"):
        open_engine(tmp_path / "whole.onnx", None, "ort-cpu")


def test_kernels_that_find_no_memory_have_the_batch_halved(finished_run, raw, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("eigenfeatures.export.batch.ort_engine.triplets_of", full)
    with pytest.raises(DeviceMemoryError, match="9 GiB"):
        open_engine(finished_run, None, "ort-cpu")(raw[:1])


@pytest.mark.parametrize("engine", ["ort-cpu", "torch"])
def test_the_kernels_use_the_threads_that_were_asked_for(engine, finished_run, raw, monkeypatch):
    seen = []
    usual = of_maps.truncated_svd
    monkeypatch.setattr(
        of_maps,
        "truncated_svd",
        lambda *given, **options: seen.append(numba.get_num_threads()) or usual(*given, **options),
    )
    before = numba.get_num_threads()
    open_engine(finished_run, None, engine, "cpu", threads=1)(raw[:1])
    assert (seen, numba.get_num_threads()) == ([1], before)


def test_threads_are_as_before_after_an_error():
    before = numba.get_num_threads()
    with pytest.raises(KeyError), kernel_threads(1):
        raise KeyError
    assert numba.get_num_threads() == before
    with kernel_threads(10**6):
        assert numba.get_num_threads() == before
