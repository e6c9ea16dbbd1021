"""Runs again: the same bytes, other layers, other runs beside them, other kinds of samples."""

import csv
import hashlib
import shutil
import tomllib
from unittest import mock

import numpy as np
import pytest
import reference
import tifffile
import torch
from commands import QUICK, call, spawn, with_layer
from folders import assert_same_files
from run_oracles import (
    COLUMNS,
    FIGURES,
    RESULTS,
    assert_is_a_picture,
    assert_sines_small,
    network_input,
    outputs,
    probabilities,
    rows,
)

from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.eigen.progress import silent
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export import run_figures
from eigenfeatures.export.finished import Finished
from eigenfeatures.export.steps import open_run
from eigenfeatures.export.talk import Talk


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes_in_another_process(finished_run, stacks, tmp_path):
    process = spawn("run", stacks, "--out", tmp_path / "again", *QUICK)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert_same_files(finished_run, tmp_path / "again", RESULTS)
    for path in (finished_run / "eigenfeatures").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "eigenfeatures" / path.name).read_bytes()


@pytest.mark.slow
def test_steps_one_by_one_give_the_same_bytes(finished_run, stacks, tmp_path):
    run = tmp_path / "run"
    steps = [("stats", stacks, "--out", run, *QUICK), ("train", stacks, "--out", run, *QUICK)]
    for step in (*steps, ("export", run), ("infer", run), ("features", run), ("report", run)):
        answer = call(*step)
        assert answer.code == 0, answer.error
    assert_same_files(finished_run, run, RESULTS)
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


def test_changed_features_say_which_files_are_of_the_former_ones(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    answer = call("features", run, "--layer", "relu1")
    assert "report.html and model.onnx" in answer.error
    assert f"still have layer = relu2; renew with 'eigenfeatures report {run}' and" in answer.error
    assert "renew" not in call("features", run).error


def test_a_column_of_another_layer_says_so(finished_run, tmp_path):
    other = with_layer(finished_run, tmp_path / "other", "relu1")
    talk = Talk(silent, str)
    with open_run(finished_run, talk) as opened, open_run(other, talk) as compared:
        figures = run_figures.run_figures(Finished(*opened), Finished(*compared))
        figure = figures["eigenfeatures"][1]()
    assert figure.get_suptitle() == "Eigenfeatures"
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert any("layer relu2" in title for title in titles)
    assert any("layer relu1" in title for title in titles)


def test_a_column_says_how_many_more_settings_differ(finished_run, tmp_path):
    """The first two are those of the features; ``early_stop`` is set in the other run only."""
    other = with_layer(finished_run, tmp_path / "other", "relu1")
    text = (other / "run.toml").read_text(encoding="utf-8")
    changed = text.replace("rank = 2", "rank = 1").replace(
        "seed = 0", "seed = 0\nearly_stop = 3\nl2 = 0.2", 1
    )
    changed = changed.replace("l2 = 0.1\n", "", 1)
    (other / "run.toml").write_text(changed, encoding="utf-8")
    talk = Talk(silent, str)
    with open_run(finished_run, talk) as opened, open_run(other, talk) as compared:
        figures = run_figures.run_figures(Finished(*opened), Finished(*compared))
        figure = figures["eigenfeatures"][1]()
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert sum("(layer relu2, rank 2, 2 more)" in title for title in titles) == 1
    assert sum("(layer relu1, rank 1, 2 more)" in title for title in titles) == 1


@pytest.mark.slow
def test_a_run_is_compared_only_with_one_on_the_same_slices(finished_run, stacks, tmp_path):
    other = tmp_path / "other"
    assert call("run", stacks, "--out", other, *QUICK, "--roi", "0,0,40,38").code == 0
    for first, second in ((finished_run, other), (other, finished_run)):
        answer = call("report", first, "--compare", second)
        assert answer.code == 2
        assert f"{second} is a run on other samples or regions" in answer.error


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
