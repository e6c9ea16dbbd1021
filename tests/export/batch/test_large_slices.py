"""Slices larger than the model's: classes from windows, the eigenfeature from the whole slice."""

import shutil
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import onnx
import pytest
import torch
import zarr
from commands import assert_refused, call, parsed, random_stack, with_layer
from fake_engine import FACTS, FakeEngine
from reference import singular_triplets, strongest_channel

from eigenfeatures import export
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import load_model, save_model
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.batch import large_slices
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, open_engine
from eigenfeatures.export.batch.fitting import fit_engine
from eigenfeatures.export.batch.job import choose_plan
from eigenfeatures.export.batch.large_slices import LargeSlices
from eigenfeatures.export.batch.ort_engine import OrtEngine
from eigenfeatures.export.batch.plan import Demand
from eigenfeatures.export.batch.source import Reading, open_sources
from eigenfeatures.export.batch.whole_graph import check_room, largest_maps
from eigenfeatures.export.batch.whole_slice import WholeSlice
from eigenfeatures.export.batch.windows import Windows
from eigenfeatures.export.metadata import save_graph
from eigenfeatures.export.tables import numbers, read_table
from eigenfeatures.kernels import standardized_gradient

SIZE = (90, 75)
WINDOW = (40, 40)  # of `finished_run`


@pytest.fixture(scope="module")
def slices(raw):
    """Slices of which one half is like one sample and the other half like another."""
    left, right = (np.tile(raw[first : first + 3], (1, 3, 3)) for first in (0, 32))
    return np.concatenate([left[:, : SIZE[0], :40], right[:, : SIZE[0], 5:40]], 2)


@pytest.fixture(scope="module")
def stack(slices, tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "scan.npy"
    np.save(path, slices)
    return path


def fitted(model, stacks, outputs=None, engine="auto", overlap=None, say=lambda _: None):
    opened = open_engine(model, outputs, engine, "cpu")
    sources = open_sources(stacks, Reading(overlap=overlap), opened.facts)
    return fit_engine(opened, model, outputs, sources, Clock(), say, overlap=overlap)


@pytest.fixture(scope="module", params=["ort-cpu", "torch"])
def found(request, finished_run, stack, slices):
    return fitted(finished_run, [stack], engine=request.param)(slices)


def window_probabilities(network, slices):
    """By the network itself, window by window, each standardised on its own."""
    found = np.empty((len(slices), len(Windows(SIZE, WINDOW).regions), 4))
    for image, rows in zip(slices, found, strict=True):
        places = [(top, left) for top in (0, 20, 40, 50) for left in (0, 20, 35)]
        for k, (top, left) in enumerate(places):
            window = standardized_gradient(image[top : top + 40, left : left + 40])
            rows[k] = torch.softmax(network(torch.from_numpy(window)[None, None]), 1)[0]
    return found


@torch.inference_mode()
def test_classes_are_those_of_the_windows(found, model, slices):
    windows = Windows(SIZE, WINDOW)
    for k, answers in enumerate(window_probabilities(model.network, slices)):
        np.testing.assert_allclose(found["class_probabilities"][k], windows.class_map(answers), atol=1e-5)
        np.testing.assert_allclose(found["probabilities"][k], windows.mean(answers), atol=1e-5)
        # The slices have two halves, so that a map that was turned or mirrored would show.
        assert np.ptp(found["class_probabilities"][k], axis=(1, 2)).max() > 1e-3


@torch.inference_mode()
def test_the_eigenfeature_is_that_of_the_whole_slice(found, model, slices):
    images = torch.from_numpy(standardized_gradient(slices))[:, None]
    for k, maps in enumerate(responses(model.network, images, ["relu2"])["relu2"].numpy()):
        u, s, _ = singular_triplets(maps)
        np.testing.assert_allclose(found["singular_values"][k], s[:2], rtol=1e-5)
        np.testing.assert_allclose(found["gap"][k], s[1] / s[0], rtol=1e-5)
        ours = found["eigenfeatures"][k].reshape(2, -1)
        assert np.linalg.norm(ours[0] - np.sign(u[0].sum()) * u[0]) < 1e-5
        index, maximum, mean, _ = strongest_channel(maps)
        assert found["alpha_index"][k] == index
        np.testing.assert_allclose(found["alpha_maximum"][k], maximum, rtol=1e-5)
        np.testing.assert_allclose(found["alpha_mean"][k], mean, rtol=1e-5)
        assert found["residual"][k] < 1e-5


def test_the_layer_is_that_of_the_exported_file(finished_run, stack, slices, tmp_path):
    """And not what `features --layer` wrote into `run.toml` since."""
    engine = fitted(with_layer(finished_run, tmp_path / "run", "relu1"), [stack], ["eigenfeatures"])
    assert isinstance(engine, LargeSlices)
    assert engine.facts.layer == "relu2"
    assert engine(slices[:1])["eigenfeatures"].shape == (1, 2, 45, 37)


def test_slices_of_the_models_size_keep_their_engine(finished_run, stacks):
    engine = open_engine(finished_run, device="cpu")
    sources = open_sources([stacks], Reading(), engine.facts)
    assert fit_engine(engine, finished_run, None, sources, Clock(), lambda _: None) is engine


def test_eigenfeatures_alone_come_from_tiles_too(finished_run, stack, slices, found):
    engine = fitted(finished_run, [stack], ["eigenfeatures", "alpha"], "torch")
    assert isinstance(engine, LargeSlices)
    arrays = engine(slices[:1])
    assert list(arrays) == ["eigenfeatures", "alpha_index", "alpha_maximum", "alpha_mean"]
    np.testing.assert_array_equal(arrays["eigenfeatures"], found["eigenfeatures"][:1])


def test_one_file_gives_probabilities(finished_run, stack, slices, found, tmp_path):
    shutil.copy(finished_run / "model.onnx", tmp_path / "m.onnx")
    arrays = fitted(tmp_path / "m.onnx", [stack], ["probabilities"])(slices)
    assert list(arrays) == ["probabilities", "class_probabilities"]
    np.testing.assert_allclose(arrays["class_probabilities"], found["class_probabilities"], atol=1e-5)
    with pytest.raises(InputError, match=r"m\.onnx gives no 'gap' of slices of 90×75 .* folder of its run"):
        fitted(tmp_path / "m.onnx", [stack], ["probabilities", "gap"])


def test_what_one_file_leaves_out_of_large_slices_is_said(finished_run, stack, tmp_path):
    """Only where something is: the folder of the run gives all."""
    file, said = tmp_path / "m.onnx", []
    shutil.copy(finished_run / "model.onnx", file)
    engine = fitted(file, [stack], say=said.append)
    assert engine.outputs == ("probabilities", "class_probabilities")
    assert said[0] == (
        f"{file} gives no alpha, eigenfeatures, singular_values, gap, residual of slices of 90×75 pixels, "
        "which are larger than its 40×40: left out; give the folder of its run, whose weights allow tiles, "
        "or a file made by 'export --any-size'"
    )
    said.clear()
    fitted(finished_run, [stack], say=said.append)
    fitted(file, [stack], ["probabilities"], say=said.append)
    assert not any("left out" in line for line in said)


def test_logits_are_left_out_of_large_slices_and_no_other_model_gives_them(stack, monkeypatch):
    class Scores(FakeEngine):
        outputs = ("probabilities", "logits")

    engine, said = Scores(replace(FACTS, size=WINDOW, window=WINDOW)), []
    monkeypatch.setattr(large_slices, "LargeSlices", lambda *_, **__: "large")
    sources = open_sources([stack], Reading(), engine.facts)
    assert fit_engine(engine, Path("m.onnx"), None, sources, Clock(), said.append) == "large"
    assert said == [
        "m.onnx gives no logits of slices of 90×75 pixels, which are larger than its 40×40: left out"
    ]


@pytest.fixture(scope="module")
def any_size(finished_run, tmp_path_factory):
    file = tmp_path_factory.mktemp("any") / "m.onnx"
    answer = call("export", finished_run, "--outputs", "eigenfeatures,gap", "--any-size", "--out", file)
    assert answer.code == 0, answer.error
    return file


def test_maps_that_a_file_for_any_size_has_no_room_for_are_refused_before_any_are_made(
    any_size, stack, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(OrtEngine, "run", lambda *_: pytest.fail("the engine was run"))
        answer = call("infer", any_size, stack, "--out", tmp_path / "out", "--max-memory", "20MB")
    assert_refused(
        answer,
        r"m\.onnx computes slices of 90×75 pixels as a whole, and the maps of one layer alone "
        r"are 432000 bytes, where --max-memory leaves 0 bytes .*; give the folder of its run, which computes",
    )
    assert not (tmp_path / "out").exists()
    engine = open_engine(any_size, device="cpu")
    # 16 channels of float32 at full resolution, after the first layer.
    assert largest_maps(any_size, (2048, 2000)) == 16 * 2048 * 2000 * 4
    check_room(engine, SIZE, 432_000)
    with pytest.raises(InputError, match="leaves 431999 bytes"):
        check_room(engine, SIZE, 431_999)


def test_slices_too_small_for_the_rank_are_told_as_such(any_size, finished_run, stack, tmp_path):
    """And not as a mistake in the file."""
    for model, further in ((any_size, ()), (finished_run, ("--engine", "torch", "--outputs", "gap"))):
        job = ("infer", model, stack, "--out", tmp_path / "out", "--device", "cpu", *further)
        assert_refused(
            call(*job, "--roi", "0,0,2,3"),
            r"slices of 2×3 pixels are too small for rank 2 of .*; use a larger --roi$",
        )
        assert not (tmp_path / "out").exists()
    answer = call("infer", any_size, stack, "--out", tmp_path / "out", "--roi", "0,0,4,3")
    assert answer.code == 0, answer.error


def test_a_graph_may_hold_values_that_are_no_tensors(any_size, tmp_path):
    proto = onnx.load_model(any_size)
    for kind, inputs, output in (
        ("SequenceConstruct", [proto.graph.input[0].name], "slices_in_a_list"),
        ("SequenceLength", ["slices_in_a_list"], "length"),
    ):
        proto.graph.node.append(onnx.helper.make_node(kind, inputs, [output]))
    save_graph(proto, tmp_path / "m.onnx")
    assert largest_maps(tmp_path / "m.onnx", SIZE) == largest_maps(any_size, SIZE) > 0


def test_where_not_even_one_whole_slice_fits_the_folder_of_the_run_is_the_way_out(any_size, finished_run):
    needs = Demand(raw=1, results=1, working=10**9, resident=10**8, reading=0)
    for model, advice in (
        (any_size, "give the folder of its run, which"),
        (finished_run, "use a smaller --roi"),
    ):
        with pytest.raises(InputError, match=f"even one slice at once: .*; allow that much or {advice}"):
            choose_plan(open_engine(model, device="cpu"), needs, None, "1GB")


def test_a_file_for_any_size_computes_the_whole_slice_itself(any_size, finished_run, stack, slices):
    said = []
    engine = fitted(any_size, [stack], say=said.append)
    assert not isinstance(engine, LargeSlices)
    assert said == [
        f"{any_size} computes each slice as a whole; the folder of its run does so in tiles, in less memory"
    ]
    arrays = engine(slices)
    tiled = fitted(finished_run, [stack], ["eigenfeatures", "gap"], "torch")(slices)
    np.testing.assert_allclose(arrays["eigenfeatures"][:, 0], tiled["eigenfeatures"][:, 0], atol=1e-5)
    np.testing.assert_allclose(arrays["gap"], tiled["gap"], rtol=1e-3)


@pytest.mark.parametrize("outputs", [["logits"], ["probabilities", "relu1"]])
def test_what_large_slices_have_not_is_refused(outputs, finished_run, stack):
    with pytest.raises(InputError, match=f"gives no '{outputs[-1]}' of slices of 90×75 pixels.*choose among"):
        fitted(finished_run, [stack], outputs, "torch")


def test_the_kernels_keep_to_the_threads_that_were_asked_for(finished_run, stack, slices, monkeypatch):
    seen = []

    def counting(*given, **options):
        seen.append(numba.get_num_threads())
        return standardized_gradient(*given, **options)

    monkeypatch.setattr(large_slices, "standardized_gradient", counting)
    before = (numba.get_num_threads(), torch.get_num_threads())
    for threads in (1, 2):
        opened = open_engine(finished_run, ["gap"], "torch", "cpu", threads=threads)
        sources = open_sources([stack], Reading(), opened.facts)
        fit_engine(opened, finished_run, ["gap"], sources, Clock(), str, threads=threads)(slices[:1])
    assert seen == [1, min(2, before[0])]
    assert numba.get_num_threads() == before[0]
    torch.set_num_threads(before[1])


def test_classes_and_eigenfeatures_of_two_trainings_are_not_mixed(finished_run, stack, tmp_path):
    """As where files of another run were copied into this one."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    model = load_model(run)
    with torch.no_grad():
        next(model.network.parameters())[0] += 1
    save_model(model, run)
    for outputs in (["probabilities", "gap"], ["gap"]):
        with pytest.raises(
            InputError, match=r"model\.onnx was exported from other weights than .*safetensors"
        ):
            fitted(run, [stack], outputs, "ort-cpu")
    assert fitted(run, [stack], ["gap"], "torch").outputs == ("gap",)


def test_what_is_open_is_closed_where_the_rest_can_not_be_opened(finished_run, stack, monkeypatch):
    closed = []
    monkeypatch.setattr(OrtEngine, "close", lambda engine: closed.append(engine.outputs))

    def fail(*_):
        raise InputError("no model")

    monkeypatch.setattr(large_slices, "load_model", fail)
    with pytest.raises(InputError, match="no model"):
        fitted(finished_run, [stack], ["probabilities", "gap"], "ort-cpu")
    assert closed == [("probabilities",)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError], ids=["torch", "CuPy or NumPy"])
def test_too_little_memory_is_told_from_other_errors(error, finished_run, stack, slices, monkeypatch):
    engine = fitted(finished_run, [stack], ["gap"], "torch")

    def fail(*_):
        raise error("out of memory allocating 9 bytes")

    monkeypatch.setattr(WholeSlice, "__call__", fail)
    with pytest.raises(DeviceMemoryError, match=r"^out of memory allocating 9 bytes$"):
        engine(slices)


def test_slices_of_several_sizes_are_refused(finished_run, stack, tmp_path):
    np.save(tmp_path / "other.npy", random_stack((3, 60, 60)))
    with pytest.raises(InputError, match=r"other\.npy gives slices of 60×60 pixels and .*scan\.npy of 90×75"):
        fitted(finished_run, [stack, tmp_path / "other.npy"])


def test_the_command(finished_run, stack, found, tmp_path):
    answer = call("infer", finished_run, stack, "--out", tmp_path / "out", "--json", "--max-memory", "64GB")
    assert parsed(answer)["slices"] == 3
    assert "classes from 12 windows a slice, 20 pixels apart" in answer.error
    table = read_table(tmp_path / "out" / "slices.csv")
    np.testing.assert_allclose(numbers(table["probability"]), found["probabilities"].max(1), atol=1e-5)
    names = np.array(["sample1", "sample2", "sample3", "sample4"])
    assert table["predicted"] == names[found["probabilities"].argmax(1)].tolist()
    np.testing.assert_allclose(numbers(table["sigma1"]), found["singular_values"][:, 0], rtol=1e-5)
    for output, step in (("class_probabilities", 20), ("eigenfeatures", 2)):
        group = zarr.open_group(tmp_path / "out" / output / "scan.ome.zarr", mode="r")
        np.testing.assert_allclose(group["0"][:], np.moveaxis(found[output], 1, 0), atol=1e-5)
        scale, origin = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert scale["scale"] == [1, 1, step, step]
        assert origin["translation"] == [0, 0, (step - 1) / 2, (step - 1) / 2]


def test_the_command_with_another_overlap(finished_run, stack, tmp_path):
    command = ["infer", finished_run, stack, "--outputs", "probabilities", "--overlap", "0.75"]
    assert call(*command, "--out", tmp_path / "out", "--format", "tiff").code == 0
    assert (tmp_path / "out" / "class_probabilities" / "scan.ome.tif").is_file()
    assert not (tmp_path / "out" / "eigenfeatures").exists()
    answer = call(*command[:-1], "0.5", "--out", tmp_path / "out", "--format", "tiff", "--resume")
    assert_refused(answer, "with overlap = 0.75, and now it is 0.5")
    assert_refused(call(*command[:-1], "1", "--out", tmp_path / "new"), "--overlap 1.0 is out of range")


def test_from_python(finished_run, stack, found):
    (block,) = export.infer(finished_run, stack, device="cpu", max_memory="64GB")
    np.testing.assert_allclose(block.arrays["class_probabilities"], found["class_probabilities"], atol=1e-5)
