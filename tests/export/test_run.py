"""A finished run: every file that is promised, with values that NumPy, LAPACK and torch agree to."""

import base64
import csv
import hashlib
import html
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import reference
import tifffile
import torch
from commands import call
from conftest import quick_settings
from run_oracles import (
    CHECKED,
    COLUMNS,
    FIGURES,
    assert_is_a_picture,
    assert_sines_small,
    outputs,
    probabilities,
    rows,
)
from safetensors.numpy import load_file

from eigenfeatures.eigen.likeness import likeness
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.export.remarks import remarks
from eigenfeatures.export.settings import Settings


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
    assert metrics["guard_slices"] == sum(row["split"] == "guard" for row in rows(finished_run)) > 0
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


def test_likeness_is_measured_told_and_shown_beside_the_accuracy(finished_run, stacks, tmp_path):
    """The phantom's samples have 16 slices each, of which a guard of two leaves most alike."""
    shutil.copytree(finished_run, tmp_path / "run")
    answer = call("infer", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    with open_samples(stacks) as samples:
        split = np.array([row["split"] for row in rows(finished_run)])
        assert metrics["likeness"] == likeness(samples, split)
    told = remarks(metrics)
    assert len(told) > 0
    report = html.unescape((finished_run / "report.html").read_text(encoding="utf-8"))
    for remark in told:
        assert remark in answer.error.splitlines()
        assert f"<li>{remark}</li>" in report
    table = rows(finished_run)
    for name, value in metrics["likeness"].items():
        parts = [row["split"] for row in table if row["sample"] == name]
        numbers = [f"{value:.4g}", *(str(parts.count(part)) for part in ("validation", "train", "guard"))]
        cells = "".join(f'<td class="number">{number}</td>\n' for number in numbers)
        assert re.search(rf'<th scope="row">{name}</th>\n(<td>.*</td>\n){{2}}{cells}', report)


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


def test_the_onnx_model_goes_from_raw_slices_to_probabilities_and_eigenfeatures(finished_run, raw, model):
    """In one file, without torch or this project: what another program would do with it."""
    session = onnxruntime.InferenceSession(finished_run / "model.onnx", providers=["CPUExecutionProvider"])
    names = ["probabilities", "alpha_index", "eigenfeatures", "singular_values", "residual"]
    found = session.run(names, {"slices": raw[list(CHECKED)]})
    for index, chances, channel, vectors, values, residual in zip(CHECKED, *found, strict=True):
        expected = outputs(model, raw[index])
        np.testing.assert_allclose(chances, probabilities(expected["logits"]), atol=1e-4)
        maps = expected["relu2"].reshape(len(expected["relu2"]), -1)
        assert channel == maps.max(axis=1).argmax()
        _, s, u = np.linalg.svd(maps.astype(np.float64), full_matrices=False)
        np.testing.assert_allclose(values, s[:2], rtol=1e-4)
        assert_sines_small(vectors[0], u[0] * np.sign(u[0].sum()))
        assert residual <= 1e-5
        assert float(rows(finished_run)[index]["probability"]) == pytest.approx(chances.max(), abs=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    facts = {key.removeprefix("eigenfeatures."): json.loads(value) for key, value in metadata.items()}
    assert facts["classes"] == list(model.classes)
    assert (facts["operator"], facts["preset"], facts["layer"]) == ("sobel", "small", "relu2")
    assert facts["crop"] == {"size": None, "roi": []}
    assert facts["versions"]["torch"] == torch.__version__


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
    for setting in ("batch_size", "early_stop", "split_seed"):
        assert f'<th scope="row">{setting}</th>' in text
