"""Blocks from Python: the same numbers, in order, and nothing left running."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
import zarr
from commands import ENVIRONMENT, random_stack
from fake_engine import FakeEngine, results_of

from eigenfeatures import export
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.volumes import open_volume
from eigenfeatures.export.batch import api, opening
from eigenfeatures.export.batch.api import _of_library
from eigenfeatures.export.batch.engine import open_engine
from eigenfeatures.export.batch.source import Reading

OF_NUMPY = ("filled", "mean", "deviation", "mean_gradient", "total_variation")


def test_blocks_follow_each_other_and_hold_what_the_engine_gives(finished_run, stacks, raw):
    blocks = list(export.infer(finished_run, stacks / "sample2.tif", batch=1, max_memory="64GB"))
    assert [block.first for block in blocks] == [0, 8]
    assert np.concatenate([block.indices for block in blocks]).tolist() == list(range(16))
    expected = open_engine(finished_run, device="cpu")(raw[16:32])
    for name, array in expected.items():
        found = np.concatenate([block.arrays[name] for block in blocks])
        np.testing.assert_allclose(found, array, atol=1e-5)
    means = np.concatenate([block.arrays["mean"] for block in blocks])
    np.testing.assert_allclose(means, raw[16:32].mean((1, 2)))


@pytest.mark.parametrize("engine", ["torch", "ort-cpu"])
def test_outputs_are_tensors_where_they_are_asked_for(engine, finished_run, stacks):
    options = {"engine": engine, "device": "cpu", "batch": 3, "max_memory": "64GB"}
    usual = list(export.infer(finished_run, stacks / "sample2.tif", **options))
    tensors = list(export.infer(finished_run, stacks / "sample2.tif", library="torch", **options))
    assert [block.first for block in tensors] == [block.first for block in usual]
    for block, expected in zip(tensors, usual, strict=True):
        for name, array in expected.arrays.items():
            found = block.arrays[name]
            assert isinstance(found, torch.Tensor) == (name not in OF_NUMPY)
            np.testing.assert_array_equal(np.asarray(found), array)


def test_arrays_of_cupy_are_made_of_tensors_and_need_a_gpu(finished_run, stacks, monkeypatch):
    with pytest.raises(InputError, match=r"library 'cupy' needs a GPU, and this runs on 'torch-cpu'"):
        export.infer(finished_run, stacks / "sample1.tif", engine="torch", device="cpu", library="cupy")
    with pytest.raises(InputError, match=r"library 'jax' is unknown; choose one of numpy, torch, cupy"):
        export.infer(finished_run, stacks / "sample1.tif", library="jax")
    waited = []
    default = SimpleNamespace(synchronize=lambda: waited.append("for the default stream"))
    streams = SimpleNamespace(Stream=SimpleNamespace(null=default))
    fake = SimpleNamespace(asarray=lambda array: ("cupy", array), cuda=streams)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert _of_library(tensor := torch.ones(3), "cupy") == ("cupy", tensor)
    assert waited == ["for the default stream"]


def test_an_open_stack_stays_open(finished_run, stacks):
    with open_volume(stacks / "sample1.tif") as stack:
        (block,) = export.infer(finished_run, stack, outputs=["gap"], reading=Reading(every=8))
        assert block.indices.tolist() == [0, 8]
        assert set(block.arrays) == {"gap", *OF_NUMPY}
        stack.read([0])


@pytest.mark.parametrize(
    "given", [{"axis": 1}, {"dtype": "uint16"}, {"shape": (1, 2, 3)}, {"missing": "fill"}]
)
def test_an_open_stack_can_t_be_opened_otherwise(given, finished_run, stacks):
    message = f"sample1.tif is open, so that its {next(iter(given))} is settled; give it to open_volume"
    with open_volume(stacks / "sample1.tif") as stack, pytest.raises(InputError, match=message):
        export.infer(finished_run, stack, reading=Reading(**given))


def test_stopping_early_leaves_no_thread(finished_run, stacks):
    blocks = export.infer(finished_run, stacks / "sample1.tif", batch=1, max_memory="64GB")
    next(blocks)
    blocks.close()
    names = {thread.name for thread in threading.enumerate()}
    assert names & {"read", "prepare", "infer"} == set()


@pytest.fixture
def fake(monkeypatch):
    engine = FakeEngine()
    monkeypatch.setattr(api, "open_engine", lambda *_, **__: engine)
    return engine


def test_a_missing_stack_leaves_no_engine_open(fake, tmp_path):
    with pytest.raises(InputError, match=r"none\.tif"):
        export.infer("fake", tmp_path / "none.tif")
    assert fake.closed


@pytest.mark.parametrize("end", ["close", "forget"])
def test_stopping_before_the_first_block_leaves_nothing_open(end, fake, noise, monkeypatch):
    closed, opened = [], api.open_any
    monkeypatch.setattr(api, "open_any", lambda *given: watched(opened(*given)))

    def watched(stack):
        monkeypatch.setattr(type(stack), "close", lambda _: closed.append("stack"))
        return stack

    blocks = export.infer("fake", noise, max_memory="64GB")
    assert not fake.closed
    if end == "close":
        blocks.close()
    del blocks
    assert fake.closed
    assert closed == ["stack"]


@pytest.mark.usefixtures("fake")
def test_the_engine_that_took_the_place_of_another_is_closed(noise, monkeypatch):
    large = FakeEngine()
    monkeypatch.setattr(api, "fit_engine", lambda *_, **__: large)
    list(export.infer("fake", noise, max_memory="64GB"))
    assert large.closed


def test_no_model_is_opened_for_what_is_no_size(noise, monkeypatch):
    monkeypatch.setattr(api, "open_engine", lambda *_, **__: pytest.fail("a model was opened"))
    for size in ("9" * 400, float("inf"), float("nan"), "much"):
        with pytest.raises(InputError, match="is no size; give one such as 4GB"):
            export.infer("fake", noise, max_memory=size)


def test_a_mistake_is_told_at_once(finished_run, stacks):
    with pytest.raises(InputError, match="gives no output 'colour'"):
        export.infer(finished_run, stacks / "sample1.tif", outputs=["colour"])
    with pytest.raises(InputError, match="30×30 pixels, but the model was made for 40×40"):
        export.infer(finished_run, stacks / "sample1.tif", reading=Reading(region=Region(0, 0, 30, 30)))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"batch": 0}, "batch 0 is out of range; give at least 1"),
        ({"batch": -3}, "batch -3 is out of range; give at least 1"),
        ({"batch": 2.5}, "batch 2.5: must be a whole number"),
        ({"max_memory": 0.5}, "--max-memory '0.500000' is no size"),
        ({"max_memory": "much"}, "--max-memory 'much' is no size"),
        ({"outputs": ""}, "names no output; give some"),
        (
            {"stack": np.zeros((3, 40, 40), np.uint8)},
            "stack is a ndarray, no path; save it to a file and give",
        ),
        ({"model": None}, "model is a NoneType, no path"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(given, reason, finished_run, stacks):
    with pytest.raises(InputError, match=reason):
        export.infer(**{"model": finished_run, "stack": stacks / "sample1.tif", **given})


@pytest.mark.parametrize("max_memory", [4 * 10**10, 4e10, np.int64(4 * 10**10)])
def test_memory_may_be_a_number_and_outputs_a_text(max_memory, finished_run, stacks):
    path = str(stacks / "sample1.tif")
    blocks = list(export.infer(finished_run, path, max_memory=max_memory, outputs="probabilities, gap"))
    assert {*blocks[0].arrays} == {"probabilities", "gap", *OF_NUMPY}


def test_an_exported_file_is_run_without_torch(finished_run, stacks, tmp_path):
    """Importing it takes longer than all else that comes before the first result."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from eigenfeatures.export.cli import main\n"
        f"sys.argv = ['eigenfeatures', 'infer', {str(finished_run / 'model.onnx')!r},"
        f" {str(stacks / 'sample1.tif')!r}, '--out', {str(tmp_path / 'out')!r}, '--engine', 'ort-cpu']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "slices.csv").open(encoding="utf-8") as file:
        assert len(file.readlines()) == 1 + 16
    assert zarr.open_array(tmp_path / "out/eigenfeatures/sample1.ome.zarr/0").shape == (2, 16, 20, 20)


def test_importing_export_stays_light():
    script = "import sys, eigenfeatures.export; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert {"torch", "onnx", "onnxruntime", "numba"} & set(done.stdout.split()) == set()
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = export.colour


def test_tf32_is_refused_on_a_processor(finished_run, stacks):
    with pytest.raises(InputError, match="--tf32 is for a GPU"):
        export.infer(finished_run, stacks / "sample2.tif", device="cpu", tf32=True)


@pytest.fixture
def noise(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((10, 16, 16)), photometric="minisblack")
    return tmp_path / "scan.tif"


def test_what_a_person_should_know_is_logged(noise, monkeypatch, caplog):
    """A batch that was halved as a warning, which Python prints unless told otherwise."""
    monkeypatch.setattr(api, "open_engine", lambda *_, **__: FakeEngine(room=2))
    caplog.set_level("INFO", "eigenfeatures")
    blocks = list(export.infer("fake", noise, batch=8, max_memory="64GB"))
    np.testing.assert_array_equal(
        np.concatenate([block.arrays["eigenfeatures"] for block in blocks]),
        results_of(random_stack((10, 16, 16)))["eigenfeatures"],
    )
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("eigenfeatures", "INFO", "running on 'fake-cpu' (a test)"),
        ("eigenfeatures", "WARNING", "the memory is too small for the batch: going on with 4 slices at once"),
        ("eigenfeatures", "WARNING", "the memory is too small for the batch: going on with 2 slices at once"),
    ]


def test_or_whoever_asks_is_told(noise, monkeypatch, caplog):
    monkeypatch.setattr(api, "open_engine", lambda *_, **__: FakeEngine(room=2))
    caplog.set_level("INFO", "eigenfeatures")
    said = []
    list(export.infer("fake", noise, batch=4, max_memory="64GB", say=said.append))
    assert said == [
        "running on 'fake-cpu' (a test)",
        "the memory is too small for the batch: going on with 2 slices at once",
    ]
    assert caplog.records == []


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_what_tf32_changes_is_measured_and_said(library, noise, monkeypatch):
    """Against an engine without it, also where results stay tensors."""

    class Rounding(FakeEngine):
        def __call__(self, slices):
            found = super().__call__(slices)
            found["probabilities"] = found["probabilities"] + np.float32([0.125, -0.125])
            return {name: torch.from_numpy(array) for name, array in found.items()} if keep else found

    keep, exact, said = library == "torch", FakeEngine(), []
    monkeypatch.setattr(api, "open_engine", lambda *_, **__: Rounding())
    monkeypatch.setattr(opening, "open_engine", lambda *_, tf32, **__: pytest.fail("TF32") if tf32 else exact)
    options = {"tf32": True, "library": library, "max_memory": "64GB", "say": said.append}
    list(export.infer("fake", noise, **options))
    assert exact.closed
    assert said[1].startswith("TF32 against float32, by 1 slices: ")
    assert "largest_difference_of_probabilities 0.125000" in said[1]
    assert "u1_cosine_minimum 1.000000" in said[1]
