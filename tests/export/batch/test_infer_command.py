"""`eigenfeatures infer` on other stacks, as a user calls it, with a trained model."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import zarr
from commands import assert_refused, call, parsed, random_stack, with_layer
from folders import content

from eigenfeatures.export.metadata import save_graph
from eigenfeatures.export.tables import numbers, read_table


@pytest.fixture(scope="module")
def done(finished_run, stacks, tmp_path_factory):
    """The run's own stacks under another path, run through its exported model."""
    root = tmp_path_factory.mktemp("done")
    shutil.copytree(stacks, root / "samples")
    answer = call("infer", finished_run, root / "samples", "--out", root / "out", "--json")
    return root / "out", parsed(answer), answer.error


def test_other_stacks_get_the_answers_of_the_run(done, finished_run):
    out, facts, _ = done
    ours, theirs = read_table(finished_run / "slices.csv"), read_table(out / "slices.csv")
    assert theirs["stack"] == ours["sample"]
    assert theirs["slice"] == ours["slice"]
    assert theirs["predicted"] == ours["predicted"]
    for name, column in {
        "probability": "probability",
        "mean": "mean",
        "mean_gradient": "mean_gradient",
        "sigma1": "sigma1",
        "gap": "sigma2_over_sigma1",
        "alpha_index": "alpha_relu2",
        "alpha_maximum": "alpha_relu2_maximum",
    }.items():
        np.testing.assert_allclose(numbers(theirs[name]), numbers(ours[column]), rtol=1e-4)
    right = np.mean(np.array(ours["sample"]) == np.array(ours["predicted"]))
    assert facts["accuracy"] == pytest.approx(right)
    assert (facts["slices"], facts["engine"]) == (64, "ort-cpu")


def test_eigenfeatures_are_those_of_the_run(done, finished_run):
    out, _, _ = done
    maps = zarr.open_array(out / "eigenfeatures" / "sample3.ome.zarr" / "0", mode="r")[:]
    theirs = tifffile.imread(finished_run / "eigenfeatures" / "sample3.tif")
    assert maps.shape == (2, 16, 20, 20)
    np.testing.assert_allclose(maps, np.moveaxis(theirs, 1, 0), atol=2e-3)


def test_it_says_what_it_does_and_where_the_time_went(done):
    _, facts, error = done
    lines = error.splitlines()
    assert lines[0].startswith("running on 'ort-cpu' (")
    assert lines[1] == "samples: ignored README.txt"
    assert lines[2].startswith("blocks of 32 slices, 4 at once: at most about ")
    assert len(lines) == 3
    assert set(facts["seconds"]) == {
        *("read", "prepare", "gradient and network", "alpha", "SVD", "infer", "write", "finish")
    }
    assert sum(facts["share"].values()) == pytest.approx(1)
    assert facts["slices_per_second"] > 0


def test_an_onnx_file_alone_and_torch_agree(finished_run, stacks, tmp_path):
    shutil.copy(finished_run / "model.onnx", tmp_path / "m.onnx")
    stack = stacks / "sample2.tif"
    assert call("infer", tmp_path / "m.onnx", stack, "--out", tmp_path / "a").code == 0
    answer = call(
        "infer", finished_run, stack, "--out", tmp_path / "b", "--engine", "torch", "--format", "tiff"
    )
    assert answer.code == 0, answer.error
    ours, theirs = (read_table(tmp_path / name / "slices.csv") for name in "ab")
    assert list(ours) == list(theirs)
    for name in ours:
        if name in ("stack", "slice", "predicted", "flag"):
            assert ours[name] == theirs[name]
        elif name != "residual":
            np.testing.assert_allclose(numbers(ours[name]), numbers(theirs[name]), rtol=1e-3)
    assert (tmp_path / "b" / "eigenfeatures" / "sample2.ome.tif").is_file()


def test_options_choose_slices_and_outputs(finished_run, stacks, tmp_path):
    options = ["--outputs", "probabilities,gap", "--every", "5", "--max-memory", "64GB", "--batch-size", "2"]
    answer = call(
        "infer", finished_run, stacks / "sample2.tif", "--out", tmp_path / "out", *options, "--profile"
    )
    assert answer.code == 0, answer.error
    assert all(name in answer.output for name in ("network", "SVD"))
    table = read_table(tmp_path / "out" / "slices.csv")
    assert table["slice"] == ["0", "5", "10", "15"]
    assert "sigma1" not in table
    assert "gap" in table
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "infer.json",
        "slices.csv",
        "trace.json",
    ]


def test_any_kind_of_stack_and_a_region(finished_run, stacks, tmp_path):
    images = tifffile.imread(stacks / "sample1.tif")
    wide = np.pad(images, ((0, 0), (3, 5), (7, 2)))
    zarr.create_array(tmp_path / "s.zarr", data=wide)
    wide.tofile(tmp_path / "s.raw")
    raw = ["--shape", ",".join(map(str, wide.shape)), "--dtype", "uint8"]
    tables = []
    for name, source, options in (
        ("tiff", stacks / "sample1.tif", []),
        ("zarr", tmp_path / "s.zarr", ["--roi", "3,7,40,40"]),
        ("raw", tmp_path / "s.raw", ["--roi", "3,7,40,40", *raw]),
    ):
        answer = call("infer", finished_run, source, "--out", tmp_path / name, *options)
        assert answer.code == 0, answer.error
        table = read_table(tmp_path / name / "slices.csv")
        tables.append({column: cells for column, cells in table.items() if column != "stack"})
    assert tables[0] == tables[1] == tables[2]


def test_a_missing_chunk_is_refused_or_filled_and_reported(finished_run, stacks, tmp_path):
    images = tifffile.imread(stacks / "sample1.tif") + np.uint8(1)
    zarr.create_array(tmp_path / "s.zarr", data=images, chunks=(4, 40, 40))
    (tmp_path / "s.zarr" / "c" / "1" / "0" / "0").unlink()
    answer = call("infer", finished_run, tmp_path / "s.zarr", "--out", tmp_path / "a")
    assert_refused(answer, r"s\.zarr: slice 4 ")
    filled = ["--missing", "fill", "--json"]
    facts = parsed(call("infer", finished_run, tmp_path / "s.zarr", "--out", tmp_path / "b", *filled))
    assert facts["filled_slices"] == 4
    flags = read_table(tmp_path / "b" / "slices.csv")["flag"]
    assert [k for k, flag in enumerate(flags) if "constant" in flag] == [4, 5, 6, 7]


def test_resume_goes_on_only_with_the_same_job(done, finished_run, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "out")
    samples = done[0].parent / "samples"
    before = content(out)
    assert_refused(call("infer", finished_run, samples, "--out", out), "holds a job; add --resume")
    for options, reason in (
        (["--every", "2"], "with every = 1, and now it is 2"),
        (["--engine", "torch", "--device", "cpu"], "with engine = ort-cpu, and now it is torch-cpu"),
        (["--outputs", "gap"], r"with outputs = \['probabilities'.*now it is \['gap'\]"),
    ):
        assert_refused(call("infer", finished_run, samples, "--out", out, "--resume", *options), reason)
    assert content(out) == before
    assert parsed(call("infer", finished_run, samples, "--out", out, "--resume", "--json"))["slices"] == 64
    assert content(out) == before


def test_a_job_goes_on_only_with_the_layer_that_it_began_with(finished_run, stacks, tmp_path):
    """Without an exported file the run's settings decide, and `features --layer` changes them."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "model.onnx").unlink()
    job = ("infer", run, stacks / "sample1.tif", "--out", tmp_path / "out", "--outputs", "eigenfeatures,gap")
    assert call(*job).code == 0
    shutil.rmtree(run)
    with_layer(finished_run, run, "conv2")
    (run / "model.onnx").unlink()
    assert_refused(call(*job, "--resume"), r"from another model \(layer differs\)")


REFUSED = {
    "a smaller window": (["--roi", "0,0,30,30"], "30×30 pixels, but the model was made for 40×40"),
    "a region outside": (["--roi", "9,0,40,40"], "leaves its 40×40 slices"),
    "no region": (["--roi", "9,0"], "must be top,left,height,width"),
    "an axis": (["--axis", "5"], "axis 5"),
    "a step": (["--every", "0"], "--every 0 is out of range"),
    "threads": (["--threads", "2000"], "--threads 2000 is out of range; give 1 to 1024"),
    "a batch": (["--batch-size", "0"], "--batch-size 0 is out of range"),
    "a size": (["--max-memory", "lots"], "--max-memory 'lots' is no size"),
    "more than there are numbers for": (["--max-memory", "9" * 400 + "GB"], "9GB' is no size; give one"),
    "too little memory": (["--max-memory", "20MB"], "--max-memory 19 MiB is too little"),
    "a format": (["--format", "png"], "--format 'png' is unknown; choose one of zarr, tiff"),
    "an engine": (["--engine", "jax"], "engine 'jax' is unknown"),
    "an output": (["--outputs", "colour"], "gives no output 'colour'"),
    "missing chunks": (["--missing", "guess"], "--missing 'guess' is unknown; choose one of refuse, fill"),
    "no outputs": (["--outputs", ","], "names no output"),
    "a shape": (["--shape", "3,4", "--dtype", "uint8"], "'3,4' is no shape; give slices,height,width"),
    "a voxel of nothing": (["--voxel-size", "0"], "--voxel-size '0' is no size; give µm above 0"),
    "two edges of a voxel": (["--voxel-size", "2,2"], "--voxel-size '2,2' is no size"),
    "a voxel in words": (["--voxel-size", "2 mm"], "--voxel-size '2 mm' is no size"),
    "half of a raw file's facts": (["--shape", "3,4,5"], "needs both, shape and dtype"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_option_is_one_line_and_nothing_is_left(what, finished_run, stacks, tmp_path):
    options, reason = REFUSED[what]
    out = ["--out", tmp_path / "out", "--profile"]
    assert_refused(call("infer", finished_run, stacks / "sample1.tif", *out, *options), reason)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_no_model_is_opened_for_what_is_no_size(stacks, tmp_path):
    answer = call("infer", tmp_path / "none", stacks, "--out", tmp_path / "out", "--max-memory", "9" * 400)
    assert_refused(answer, "9' is no size; give one such as 4GB")


def test_a_folder_that_no_permission_bars_but_can_t_be_made_is_refused_at_once(finished_run, stacks):
    """Before the model is opened."""
    answer = call("infer", finished_run, stacks / "sample1.tif", "--out", "/proc/deep/x")
    assert_refused(answer, "/proc can't be written; choose another folder for --out")
    assert len(answer.error.splitlines()) == 1


def test_names_that_can_t_be_used(finished_run, stacks, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    reason = "is a link that leads to itself"
    job = ("infer", finished_run, stacks / "sample1.tif", "--out")
    assert_refused(call(*job, tmp_path / "loop"), reason)
    assert_refused(call("infer", finished_run, tmp_path / "loop", "--out", tmp_path / "out"), reason)
    named = Path(os.fsdecode(bytes(tmp_path) + b"/lat\xe9.tif"))
    shutil.copy(stacks / "sample1.tif", named)
    assert_refused(call("infer", finished_run, named, "--out", tmp_path / "out"), r"lat.*is no UTF-8; rename")
    assert not (tmp_path / "out").exists()


def test_a_file_with_other_classes_than_it_names_is_refused(finished_run, stacks, tmp_path):
    graph = onnx.load(finished_run / "model.onnx")
    for entry in graph.metadata_props:
        if entry.key == "eigenfeatures.classes":
            entry.value = json.dumps(json.loads(entry.value)[:1])
    save_graph(graph, tmp_path / "m.onnx")
    answer = call("infer", tmp_path / "m.onnx", stacks / "sample1.tif", "--out", tmp_path / "out")
    assert_refused(answer, "names 1 classes, and gives probabilities of 4; export the model again")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--engine", "ort-cuda"], ["--every", "2"], ["--tf32"], ["--resume"], ["--cluster", "local:2"]],
)
def test_a_run_s_own_slices_take_no_options_of_other_stacks(options, finished_run, tmp_path):
    """They would be ignored, and a GPU that was asked for be the CPU."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = content(run)
    assert_refused(call("infer", run, *options), f"{options[0]} is for other stacks; give STACKS and --out")
    assert content(run) == before


def test_a_voxel_size_is_stated_or_corrected(finished_run, stacks, tmp_path):
    np.save(tmp_path / "s.npy", tifffile.imread(stacks / "sample1.tif"))
    job = ("infer", finished_run, tmp_path / "s.npy", "--out", tmp_path / "out", "--outputs", "eigenfeatures")
    assert call(*job, "--voxel-size", "3,0.5,2", "--every", "4").code == 0
    group = zarr.open_group(tmp_path / "out" / "eigenfeatures" / "s.ome.zarr", mode="r")
    (image,) = group.attrs["ome"]["multiscales"]
    scale, origin = image["datasets"][0]["coordinateTransformations"]
    assert (scale["scale"], origin["translation"]) == ([1, 12, 1, 4], [0, 0, 0.25, 1])
    assert image["axes"][1]["unit"] == "micrometer"
    again = (*job, "--every", "4", "--resume", "--voxel-size")
    assert_refused(call(*again, "2"), r"with voxel_size = \[3.0, 0.5, 2.0\], and now it is \[2.0, 2.0, 2.0\]")
    assert call(*again, "3,0.5,2").code == 0


def test_stacks_of_another_kind_are_refused(finished_run, stacks, tmp_path):
    images = tifffile.imread(stacks / "sample1.tif")
    tifffile.imwrite(tmp_path / "deep.tif", images.astype(np.uint16), photometric="minisblack")
    answer = call("infer", finished_run, tmp_path / "deep.tif", "--out", tmp_path / "out")
    assert_refused(answer, "uint16 slices, but the model takes uint8; convert the stack")
    tifffile.imwrite(tmp_path / "narrow.tif", images[:, :36], photometric="minisblack")
    answer = call("infer", finished_run, tmp_path / "narrow.tif", "--out", tmp_path / "out")
    assert_refused(answer, "36×40 pixels, but the model was made for 40×40")
    assert_refused(call("infer", finished_run, tmp_path / "none.tif", "--out", tmp_path / "out"), "none.tif")
    answer = call("infer", tmp_path / "none", stacks, "--out", tmp_path / "out")
    assert_refused(answer, "none is missing; give an exported .onnx or the folder of a run")
    answer = call("infer", finished_run, stacks, "--out", stacks / "out")
    assert_refused(answer, "lies inside the samples")
    assert not (tmp_path / "out").exists()


def test_a_bad_slice_ends_the_job_where_it_was(finished_run, tmp_path):
    """What came before is kept, and the slice is named."""
    tifffile.imwrite(
        tmp_path / "s.tif", random_stack((40, 40, 40)), compression="zlib", photometric="minisblack"
    )
    with tifffile.TiffFile(tmp_path / "s.tif") as tiff:
        offset = tiff.pages[37].dataoffsets[0]
    data = bytearray((tmp_path / "s.tif").read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    (tmp_path / "s.tif").write_bytes(data)
    answer = call("infer", finished_run, tmp_path / "s.tif", "--out", tmp_path / "out")
    assert_refused(answer, r"s\.tif: slice 37 .*can't be read")
    assert len((tmp_path / "out" / "journal.txt").read_text().splitlines()) == 1
    assert not (tmp_path / "out" / "slices.csv").exists()


def test_the_record_says_what_the_results_were_made_from(done):
    record = json.loads((done[0] / "infer.json").read_text())
    assert record["plan"] == {"batch": 4, "block": 32}
    assert list(record["stacks"]) == ["sample1", "sample2", "sample3", "sample4"]
    assert record["stacks"]["sample1"]["shape"] == [16, 40, 40]
    assert set(record["versions"]) >= {"numpy", "onnxruntime"}
