"""A finished run: every file that is promised, with values that NumPy, LAPACK and torch agree to."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import tomllib
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import reference
import tifffile
import torch
from commands import QUICK, call, spawn
from conftest import quick_settings
from PIL import Image
from safetensors.numpy import load_file

from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export import run_figures
from eigenfeatures.export.settings import Settings

COLUMNS = [
    *("sample", "specimen", "slice", "split", "mean", "mean_gradient", "predicted", "probability"),
    *("alpha_relu1", "alpha_relu1_maximum", "alpha_relu1_mean", "alpha_relu1_positive_mean"),
    *("alpha_relu2", "alpha_relu2_maximum", "alpha_relu2_mean", "alpha_relu2_positive_mean"),
    *(f"sigma{k}" for k in range(1, 9)),
    *("sigma2_over_sigma1", "energy1", "residual", "flag"),
]
FIGURES = {
    *("fig01", "fig02", "fig03a", "fig03b", "fig05", "fig06", "fig07d", "fig08", "fig09", "fig10", "fig11"),
    *("fig13", "overlay", "confusion"),
}
# First and last slices of the stacks, and some between.
CHECKED = (0, 15, 16, 37, 63)


def rows(run):
    with (run / "slices.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def network_input(raw, preprocessing):
    """The standardised |∇Y| of one raw slice, by loops."""
    gradient = reference.gradient_magnitude(raw, preprocessing.operator)
    if preprocessing.mean is None:
        return reference.standardized(gradient)
    return (gradient - preprocessing.mean) / preprocessing.deviation


def outputs(model, raw):
    """What each layer makes of one raw slice, by layer name."""
    images = torch.tensor(network_input(raw, model.preprocessing)[None, None], dtype=torch.float32)
    found = {}
    with torch.inference_mode():
        for name, module in model.network.named_children():
            images = module(images.clone())
            found[name] = images[0].numpy()
    return found


def probabilities(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def assert_sines_small(found, expected, limit=1e-4):
    """The sine of the angle between unit vectors, as the part of one across the other."""
    found, expected = found.ravel().astype(np.float64), expected.ravel()
    assert found @ expected > 0
    assert np.linalg.norm(found - (found @ expected) * expected) <= limit


@pytest.fixture(scope="module")
def raw(stacks):
    """All raw slices in the order of `slices.csv`, read by tifffile alone."""
    return np.concatenate([tifffile.imread(stacks / f"sample{k}.tif") for k in (1, 2, 3, 4)])


@pytest.fixture(scope="module")
def model(finished_run):
    return load_model(finished_run)


# --- the folder ---------------------------------------------------------------------------------


def test_the_folder_holds_what_is_promised_and_nothing_else(finished_run):
    found = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file()}
    figures = {name for name in found if name.startswith("figures/")}
    assert found - figures == {
        *("slices.csv", "training.csv", "metrics.json", "model.safetensors", "model.json", "model.onnx"),
        *("report.html", "run.toml", *(f"eigenfeatures/sample{k}.tif" for k in (1, 2, 3, 4))),
    }
    assert {re.split("[_.]", Path(name).name)[0] for name in figures} == FIGURES


def test_run_toml_says_what_was_done_with_what(finished_run, stacks):
    record = tomllib.loads((finished_run / "run.toml").read_text(encoding="utf-8"))
    assert record["samples"] == str(stacks)
    assert Settings.from_toml(record["settings"], finished_run) == quick_settings()
    assert record["settings"]["seed"] == 0
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert {"python", "numba", "onnx", "onnxruntime", "tifffile", "imagecodecs"} <= set(record["versions"])
    assert record["device"]["name"]
    assert record["device"]["training_precision"] in ("float32", "bfloat16")
    files = sorted(stacks.glob("*.tif"))
    assert record["inputs"] == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# --- slices.csv ---------------------------------------------------------------------------------


def test_slices_csv_has_the_promised_columns_and_a_row_a_slice(finished_run):
    table = rows(finished_run)
    assert list(table[0]) == COLUMNS
    names = [(f"sample{k}", f"sample{k}", str(z)) for k in (1, 2, 3, 4) for z in range(16)]
    assert [(row["sample"], row["specimen"], row["slice"]) for row in table] == names


def test_the_block_split_holds_out_one_block_behind_guards(finished_run):
    for k in range(4):
        parts = "".join(row["split"][0] for row in rows(finished_run)[16 * k :][:16])
        assert re.fullmatch("t*g*v{5}g*t*", parts), parts
        assert "tv" not in parts
        assert "vt" not in parts


@pytest.mark.parametrize("index", CHECKED)
def test_statistics_are_those_of_the_raw_slice(index, finished_run, raw):
    row = rows(finished_run)[index]
    assert float(row["mean"]) == pytest.approx(raw[index].mean(dtype=np.float64), rel=1e-7)
    gradient = reference.gradient_magnitude(raw[index], "sobel")
    assert float(row["mean_gradient"]) == pytest.approx(gradient.mean(), rel=1e-6)


@pytest.mark.parametrize("index", CHECKED)
def test_predictions_are_those_of_the_network(index, finished_run, raw, model):
    row = rows(finished_run)[index]
    expected = probabilities(outputs(model, raw[index])["logits"])
    assert row["predicted"] == model.classes[int(expected.argmax())]
    assert float(row["probability"]) == pytest.approx(expected.max(), abs=1e-4)


@pytest.mark.parametrize("index", CHECKED)
@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_alpha_is_the_strongest_channel(index, layer, finished_run, raw, model):
    row = rows(finished_run)[index]
    channel, *values = reference.strongest_channel(outputs(model, raw[index])[layer])
    assert int(row[f"alpha_{layer}"]) == channel
    found = [float(row[f"alpha_{layer}_{name}"]) for name in ("maximum", "mean", "positive_mean")]
    assert found == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize("index", CHECKED)
def test_singular_values_and_vectors_are_lapacks(index, finished_run, raw, model):
    row, maps = rows(finished_run)[index], outputs(model, raw[index])["relu2"]
    u, s, _ = reference.singular_triplets(maps)
    found = np.array([float(row[f"sigma{k}"]) for k in range(1, 9)])
    np.testing.assert_allclose(found, s[:8], atol=1e-5 * s[0])
    assert float(row["sigma2_over_sigma1"]) == pytest.approx(s[1] / s[0], abs=1e-5)
    assert float(row["energy1"]) == pytest.approx(s[0] ** 2 / (s**2).sum(), abs=1e-5)
    assert 0 <= float(row["residual"]) < 1e-4
    assert row["flag"] == ("ill-determined" if s[1] > 0.99 * s[0] else "")
    stored = tifffile.imread(finished_run / "eigenfeatures" / f"{row['sample']}.tif")[index % 16]
    assert_sines_small(stored[0], u[0] * np.sign(u[0].sum()))
    # Its neighbours in the spectrum are nearer, and its sign is free.
    assert abs(stored[1].ravel() @ u[1]) == pytest.approx(1, abs=1e-4)


# --- training and metrics -----------------------------------------------------------------------


def test_training_csv_follows_the_training(finished_run, raw, model):
    with (finished_run / "training.csv").open(encoding="utf-8", newline="") as file:
        steps = list(csv.DictReader(file))
    split = np.array([row["split"] for row in rows(finished_run)])
    label = np.repeat(np.arange(4), 16)
    assert [int(step["iteration"]) for step in steps] == [1, 2, 3, 4, 5, 6]
    an_epoch = int(np.sum(split == "train")) // 8
    assert [int(step["epoch"]) for step in steps] == [1 + k // an_epoch for k in range(6)]
    assert all(float(step["training_loss"]) > 0 and float(step["penalty"]) > 0 for step in steps)
    assert [bool(step["validation_loss"]) for step in steps] == [False] * 4 + [True] * 2
    held_out = np.flatnonzero(split == "validation")
    truth = [probabilities(outputs(model, raw[k])["logits"])[label[k]] for k in held_out]
    # Loose, for processors that validate in bfloat16.
    assert float(steps[-1]["validation_loss"]) == pytest.approx(-np.log(truth).mean(), rel=0.02)
    reached = json.loads((finished_run / "model.json").read_text(encoding="utf-8"))["training"]
    assert reached["iterations"] == 6
    assert reached["validation_loss"] == pytest.approx(float(steps[-1]["validation_loss"]), rel=1e-6)


def test_metrics_follow_from_slices_csv(finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text(encoding="utf-8"))
    names = ["sample1", "sample2", "sample3", "sample4"]
    assert metrics["split"] == "block"
    for part in ("train", "validation"):
        table = [row for row in rows(finished_run) if row["split"] == part]
        pairs = [(row["sample"], row["predicted"]) for row in table]
        found = metrics[part]
        assert found["slices"] == len(table)
        assert found["confusion"] == [[pairs.count((truth, claim)) for claim in names] for truth in names]
        assert found["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
        for name in names:
            claimed = [truth == name for truth, claim in pairs if claim == name]
            present = [claim == name for truth, claim in pairs if truth == name]
            expected = (np.mean(claimed) if claimed else None, np.mean(present), len(present))
            of_class = found["per_class"][name]
            assert (of_class["precision"], of_class["recall"], of_class["slices"]) == pytest.approx(expected)


# --- models -------------------------------------------------------------------------------------


def test_the_model_is_safetensors_and_json(finished_run, model):
    described = json.loads((finished_run / "model.json").read_text(encoding="utf-8"))
    weights = finished_run / "model.safetensors"
    assert described["classes"] == ["sample1", "sample2", "sample3", "sample4"]
    assert (described["preset"], described["size"]) == ("small", [40, 40])
    assert described["preprocessing"] == {"operator": "sobel", "mean": None, "deviation": None}
    assert described["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    stored = load_file(weights)
    for name, tensor in model.network.state_dict().items():
        np.testing.assert_array_equal(stored[name], tensor.numpy())


def test_the_onnx_model_goes_from_raw_slices_to_probabilities_and_responses(finished_run, raw, model):
    """In one file, without torch or this project: what another program would do with it."""
    session = onnxruntime.InferenceSession(finished_run / "model.onnx", providers=["CPUExecutionProvider"])
    found, maps = session.run(["probabilities", "relu2"], {"slices": raw[list(CHECKED)]})
    for index, chances, response in zip(CHECKED, found, maps, strict=True):
        expected = outputs(model, raw[index])
        np.testing.assert_allclose(chances, probabilities(expected["logits"]), atol=1e-4)
        np.testing.assert_allclose(response, expected["relu2"], atol=1e-4)
        assert float(rows(finished_run)[index]["probability"]) == pytest.approx(chances.max(), abs=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    facts = {key.removeprefix("eigenfeatures."): json.loads(value) for key, value in metadata.items()}
    assert facts["classes"] == list(model.classes)
    assert (facts["operator"], facts["preset"], facts["layer"]) == ("sobel", "small", "relu2")
    assert facts["crop"] == {"size": None, "roi": []}
    assert facts["versions"]["torch"] == torch.__version__


# --- pictures -----------------------------------------------------------------------------------


def test_eigenfeatures_open_with_the_right_axes_and_voxels(finished_run):
    for k in (1, 2, 3, 4):
        with tifffile.TiffFile(finished_run / "eigenfeatures" / f"sample{k}.tif") as tiff:
            assert (tiff.series[0].axes, tiff.series[0].shape) == ("ZCYX", (16, 2, 20, 20))
            assert tiff.series[0].dtype == np.float32
            described = tiff.imagej_metadata
            assert described["spacing"] == pytest.approx(2.0)
            assert described["unit"] in ("um", "micron", "\\u00B5m")
            assert described["Labels"][:2] == ["u1", "u2"]
            # A pixel of a relu2 map is two of the slice's, and those are 2 µm wide.
            for tag in ("XResolution", "YResolution"):
                pixels, lengths = tiff.pages[0].tags[tag].value
                assert lengths / pixels == pytest.approx(4.0, rel=1e-6)
            vectors = tiff.asarray().reshape(16, 2, -1).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)
        np.testing.assert_allclose((vectors[:, 0] * vectors[:, 1]).sum(axis=1), 0, atol=1e-4)
        assert np.all(vectors[:, 0].sum(axis=1) > 0)


def assert_is_a_picture(png):
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert 300 <= image.shape[1] <= 1200
    assert 200 <= image.shape[0] <= 3000
    colours, pixels = np.unique(image @ np.array([65536, 256, 1]), return_counts=True)
    assert len(colours) > 20
    assert pixels.max() < 0.99 * pixels.sum(), "nothing but background"


def test_every_figure_is_a_picture(finished_run):
    for path in (finished_run / "figures").iterdir():
        assert_is_a_picture(path.read_bytes())


def test_the_report_holds_all_figures_and_needs_nothing_else(finished_run):
    text = (finished_run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert re.findall(r"https?:|url\(|@import|<link|<iframe", text) == []
    sources = re.findall(r'src="([^"]*)"', text)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))
    shown = {base64.b64decode(source.partition(",")[2], validate=True) for source in sources}
    assert shown == {path.read_bytes() for path in (finished_run / "figures").iterdir()}


def test_the_report_explains_each_figure_and_names_the_split(finished_run):
    text = (finished_run / "report.html").read_text(encoding="utf-8")
    explained = re.findall(r"<p>([^<]*)</p>\s*<figure>", text)
    assert len(explained) == len(list((finished_run / "figures").iterdir()))
    for paragraph in explained:
        assert len(re.findall(r"[.!?](?:\s|$)", paragraph)) >= 2, paragraph
    accuracy = json.loads((finished_run / "metrics.json").read_text())["validation"]["accuracy"]
    assert f"{accuracy:.1%}" in text
    assert re.search(r"<dt>split</dt><dd>block</dd>", text)
    assert re.search(r"neighbouring slices", text)


# --- the same, again ----------------------------------------------------------------------------

REPRODUCED = ("slices.csv", "training.csv", "metrics.json", "model.json", "model.safetensors")


def assert_same_files(run, other, names=REPRODUCED):
    for name in names:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


def test_the_same_command_gives_the_same_bytes_in_another_process(finished_run, stacks, tmp_path):
    process = spawn("run", stacks, "--out", tmp_path / "again", *QUICK)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert_same_files(finished_run, tmp_path / "again")
    for path in (finished_run / "eigenfeatures").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "eigenfeatures" / path.name).read_bytes()


def test_steps_one_by_one_give_the_same_bytes(finished_run, stacks, tmp_path):
    run = tmp_path / "run"
    steps = [("stats", stacks, "--out", run, *QUICK), ("train", stacks, "--out", run, *QUICK)]
    for step in (*steps, ("export", run), ("infer", run), ("features", run), ("report", run)):
        answer = call(*step)
        assert answer.code == 0, answer.error
    assert_same_files(finished_run, run)
    names = {path.relative_to(run) for path in run.rglob("*")}
    assert names == {path.relative_to(finished_run) for path in finished_run.rglob("*")}


def test_features_and_predictions_come_in_any_order_and_again(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for step in ("features", "infer", "features"):
        assert call(step, run).code == 0
    with (run / "slices.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == COLUMNS
    assert (run / "slices.csv").read_bytes() == (finished_run / "slices.csv").read_bytes()


def test_an_export_of_another_layer_leaves_the_run_as_it_is(finished_run, tmp_path):
    """The report draws the layer that slices.csv is of."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert call("export", run, "--layer", "relu1").code == 0
    assert (run / "run.toml").read_bytes() == (finished_run / "run.toml").read_bytes()
    assert call("features", run, "--layer", "relu1").code == 0
    assert tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))["settings"]["layer"] == "relu1"


def test_a_run_is_compared_only_with_one_on_the_same_slices(finished_run, stacks, tmp_path):
    other = tmp_path / "other"
    assert call("run", stacks, "--out", other, *QUICK, "--roi", "0,0,40,38").code == 0
    for first, second in ((finished_run, other), (other, finished_run)):
        answer = call("report", first, "--compare", second)
        assert answer.code == 2
        assert f"{second} is a run on other samples or regions" in answer.error


def test_a_report_no_longer_compared_drops_the_other_training(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert call("report", run, "--compare", finished_run).code == 0
    assert (run / "figures" / "fig12_training_compared.png").is_file()
    assert call("report", run).code == 0
    assert not (run / "figures" / "fig12_training_compared.png").exists()


def test_another_seed_gives_another_result(finished_run, stacks, tmp_path):
    assert call("train", stacks, "--out", tmp_path / "run", *QUICK, "--seed", "1").code == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != (
        finished_run / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "run" / "training.csv").read_bytes() != (finished_run / "training.csv").read_bytes()
    splits = [[row["split"] for row in rows(run)] for run in (tmp_path / "run", finished_run)]
    assert splits[0] != splits[1]


# --- other layers, other runs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "layer", "resolution", "side", "pixel"),
    [
        (["--layer", "relu1", "--rank", "3"], "relu1", "pooled", 40, 2.0),
        (["--resolution", "dense"], "relu2", "dense", 40, 2.0),
        (["--layer", "relu3", "--rank", "1"], "relu3", "pooled", 10, 8.0),
    ],
)
def test_features_of_another_layer_or_resolution(
    options, layer, resolution, side, pixel, finished_run, raw, model, tmp_path
):
    run = shutil.copytree(finished_run, tmp_path / "run")
    answer = call("features", run, *options)
    assert answer.code == 0, answer.error
    settings = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))["settings"]
    assert (settings["layer"], settings["resolution"]) == (layer, resolution)
    with tifffile.TiffFile(run / "eigenfeatures" / "sample3.tif") as tiff:
        vectors = tiff.asarray().reshape(16, settings["rank"], side, side)
        pixels, lengths = tiff.pages[0].tags["XResolution"].value
    assert lengths / pixels == pytest.approx(pixel, rel=1e-6)
    image = torch.tensor(network_input(raw[37], model.preprocessing)[None, None], dtype=torch.float32)
    with torch.inference_mode():
        maps = responses(model.network, image, [layer], resolution)[layer][0].numpy()
    u, s, _ = reference.singular_triplets(maps)
    row = rows(run)[37]
    assert float(row["sigma1"]) == pytest.approx(s[0], rel=1e-5)
    assert float(row["energy1"]) == pytest.approx(s[0] ** 2 / (s**2).sum(), rel=1e-4)
    assert_sines_small(vectors[37 - 32, 0], u[0] * np.sign(u[0].sum()))
    assert row["alpha_relu2_maximum"] == rows(finished_run)[37]["alpha_relu2_maximum"]


def test_a_compared_run_adds_a_column_and_its_training(finished_run, stacks, tmp_path):
    answer = call(
        "run", stacks, "--out", tmp_path / "other", *QUICK, "--augment", "none", "--resolution", "dense"
    )
    assert answer.code == 0, answer.error
    run = shutil.copytree(finished_run, tmp_path / "run")
    with mock.patch.object(run_figures, "sample_grid", wraps=run_figures.sample_grid) as grid:
        answer = call("report", run, "--compare", tmp_path / "other", "--json")
    assert answer.code == 0, answer.error
    assert len(grid.call_args_list) == 2
    for drawn in grid.call_args_list:
        columns = drawn.args[0]
        first, ours, theirs = columns
        assert first == "|∇Y|"
        assert "augment flips" in ours
        assert "augment none" in theirs
        # A dense relu2 map is twice as large as the pooled one beside it.
        assert [image.shape for image in columns[ours]] == [(20, 20)] * 4
        assert [image.shape for image in columns[theirs]] == [(40, 40)] * 4
    added = {path.name for path in (run / "figures").iterdir()} - {
        path.name for path in (finished_run / "figures").iterdir()
    }
    assert [name.split("_")[0] for name in added] == ["fig12"]
    for name in ("fig11", "fig13"):
        (before,), (after,) = ((folder / "figures").glob(f"{name}*") for folder in (finished_run, run))
        assert before.read_bytes() != after.read_bytes()
        assert_is_a_picture(after.read_bytes())
    assert (run / "report.html").read_text(encoding="utf-8").count("<figure>") == len(FIGURES) + 1


# --- other kinds of samples ---------------------------------------------------------------------


def test_two_regions_of_each_float_stack_on_one_scale(stacks, tmp_path):
    """Regions, a voxel size, another operator and the data set's own scale, on 32-bit stacks."""
    root = tmp_path / "samples"
    root.mkdir()
    for path in stacks.glob("*.tif"):
        tifffile.imwrite(root / path.name, tifffile.imread(path).astype(np.float32) / 100 - 1, imagej=True)
    regions = [(0, 0, 32, 36), (8, 4, 32, 36)]
    options = [text for region in regions for text in ("--roi", ",".join(map(str, region)))]
    answer = call(
        *("run", root, "--out", tmp_path / "run", *QUICK, *options, "--voxel-size", "3"),
        *("--operator", "scharr", "--normalise", "dataset", "--augment", "none", "--rank", "1"),
    )
    assert answer.code == 0, answer.error
    table = rows(tmp_path / "run")
    assert len(table) == 4 * 2 * 16
    assert [row["specimen"] for row in table[:32:16]] == ["sample1#1", "sample1#2"]
    assert [row["split"] for row in table[:16]] == [row["split"] for row in table[16:32]]

    cut = [
        tifffile.imread(root / f"sample{k}.tif")[:, top : top + height, left : left + width]
        for k in (1, 2, 3, 4)
        for top, left, height, width in regions
    ]
    raw = np.concatenate(cut)
    model = load_model(tmp_path / "run")
    gradients = np.stack([reference.gradient_magnitude(image, "scharr") for image in raw])
    training = gradients[[row["split"] == "train" for row in table]]
    assert model.preprocessing.mean == pytest.approx(training.mean(), rel=1e-5)
    assert model.preprocessing.deviation == pytest.approx(training.std(), rel=1e-4)
    for index in (0, 16, 127):
        assert float(table[index]["mean"]) == pytest.approx(raw[index].mean(dtype=np.float64), rel=1e-5)
        assert float(table[index]["mean_gradient"]) == pytest.approx(gradients[index].mean(), rel=1e-5)
        expected = probabilities(outputs(model, raw[index])["logits"])
        assert table[index]["predicted"] == model.classes[int(expected.argmax())]
        assert float(table[index]["probability"]) == pytest.approx(expected.max(), abs=1e-4)
    found = {p.relative_to(tmp_path / "run" / "eigenfeatures").as_posix() for p in tmp_path.rglob("*#*.tif")}
    assert found == {f"sample{k}#{region}.tif" for k in (1, 2, 3, 4) for region in (1, 2)}
    with tifffile.TiffFile(tmp_path / "run" / "eigenfeatures" / "sample2#1.tif") as tiff:
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("ZYX", (16, 16, 18))
        assert tiff.imagej_metadata["spacing"] == pytest.approx(3.0)
        pixels, lengths = tiff.pages[0].tags["XResolution"].value
        assert lengths / pixels == pytest.approx(6.0, rel=1e-6)


def test_whole_specimens_are_held_out(stacks, tmp_path):
    """Two 16-bit specimens a material, one as a stack and one as a folder of slices, cropped to 36.

    The materials' names need care in a table, in HTML, in a formula and in a file name.
    """
    root, glass, resin = tmp_path / "samples", 'glass, "clear" & <thin>', "härz $5_x$"
    images = {k: tifffile.imread(stacks / f"sample{k}.tif").astype(np.uint16) * 200 for k in (1, 2, 3, 4)}
    for material, (first, second) in {glass: (1, 2), resin: (3, 4)}.items():
        (root / material / "s10").mkdir(parents=True)
        tifffile.imwrite(root / material / "s2.tif", images[first], imagej=True)
        for number, image in enumerate(images[second]):
            tifffile.imwrite(root / material / "s10" / f"z{number}.tif", image)
    answer = call("run", root, "--out", tmp_path / "run", *QUICK, "--split", "specimen", "--size", "36")
    assert answer.code == 0, answer.error
    table = rows(tmp_path / "run")
    order = [(row["sample"], row["specimen"]) for row in table[::16]]
    assert order == [(glass, "s2"), (glass, "s10"), (resin, "s2"), (resin, "s10")]
    parts = [{row["split"] for row in table[start : start + 16]} for start in (0, 16, 32, 48)]
    assert all(len(part) == 1 for part in parts)
    assert parts[0] | parts[1] == parts[2] | parts[3] == {"train", "validation"}
    row = table[16 + 11]
    assert float(row["mean"]) == pytest.approx(images[2][11, 2:38, 2:38].mean(), rel=1e-7)
    expected = probabilities(outputs(load_model(tmp_path / "run"), images[2][11, 2:38, 2:38])["logits"])
    assert float(row["probability"]) == pytest.approx(expected.max(), abs=1e-4)
    folder = tmp_path / "run" / "eigenfeatures"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.tif")}
    assert found == {f"{material}/{name}.tif" for material in (glass, resin) for name in ("s2", "s10")}
    recorded = tomllib.loads((tmp_path / "run" / "run.toml").read_text(encoding="utf-8"))["inputs"]
    assert len(recorded) == 2 * (1 + 16)
    last = root / glass / "s10" / "z11.tif"
    assert recorded[f"{glass}/s10/z11.tif"] == hashlib.sha256(last.read_bytes()).hexdigest()
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<thin>" not in text
    assert "&lt;thin&gt;" in text
    assert resin in text
