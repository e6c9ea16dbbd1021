"""The main job on measured stacks of four materials."""

import csv

import numpy as np
import pytest
import reference
import scipy.ndimage
import tifffile
import torch
from commands import call

from eigenfeatures.eigen.model_file import load_model

MATERIALS = {"cement": 128, "fibres": 150, "nerve": 128, "polymer": 128}


@pytest.fixture(scope="module")
def real_run(ct_data, tmp_path_factory):
    """A run of a few iterations, and what it said."""
    folder = tmp_path_factory.mktemp("real") / "run"
    options = ["--preset", "small", "--iterations", "4", "--batch-size", "16"]
    answer = call("run", ct_data, "--out", folder, *options)
    assert answer.code == 0, answer.error
    return folder, answer.error


@pytest.fixture(scope="module")
def rows(real_run):
    with (real_run[0] / "slices.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def raw_slice(ct_data, material, number):
    """A slice as tifffile reads it, fibres cropped to their central 128×128."""
    if material == "polymer":
        return tifffile.imread(ct_data / "polymer" / f"slice_{number:04d}.tif")
    image = tifffile.imread(ct_data / f"{material}.tif", key=number)
    return image[11:139, 11:139] if material == "fibres" else image


CHECKED = [("cement", 0), ("fibres", 149), ("nerve", 64), ("polymer", 10)]


def row_of(rows, material, number):
    (found,) = (row for row in rows if (row["sample"], row["slice"]) == (material, str(number)))
    return found


def test_every_slice_of_every_material_is_in_the_table(real_run, rows):
    _, notes = real_run
    assert [(row["sample"], int(row["slice"])) for row in rows] == [
        (material, number) for material, slices in MATERIALS.items() for number in range(slices)
    ]
    assert "fibres: 150×150 slices are cropped at the centre to 128×128" in notes
    assert "ignored LICENSE" in notes


def test_samples_that_the_network_does_not_recognise_are_named(real_run, rows):
    folder, notes = real_run
    held_out = [row for row in rows if row["split"] == "validation"]
    missed = []
    for material in MATERIALS:
        right = [row["predicted"] == material for row in held_out if row["sample"] == material]
        if np.mean(right) < 0.5:
            missed.append(material)
    assert missed, "four iterations teach little"
    told = f"of {', '.join(missed)} less than half of the validation slices are recognised"
    assert told in notes
    assert told in (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_does_not_call_measured_data_simulated(real_run):
    text = (real_run[0] / "report.html").read_text(encoding="utf-8")
    assert "cement" in text
    assert "simulated" not in text


@pytest.mark.parametrize(("material", "number"), CHECKED)
def test_statistics_are_those_of_numpy_and_scipy(material, number, ct_data, rows):
    image, row = raw_slice(ct_data, material, number).astype(np.float64), row_of(rows, material, number)
    gradient = np.hypot(*(scipy.ndimage.sobel(image, axis, mode="nearest") for axis in (0, 1)))
    assert float(row["mean"]) == pytest.approx(image.mean(), rel=1e-7)
    assert float(row["mean_gradient"]) == pytest.approx(gradient.mean(), rel=1e-6)


@pytest.mark.parametrize(("material", "number"), CHECKED)
def test_eigenfeatures_equal_lapacks_on_real_responses(material, number, ct_data, real_run, rows):
    """sin ∠(u₁, LAPACK's in float64) ≤ 1e-4, as the part of one vector across the other."""
    model = load_model(real_run[0])
    image = torch.from_numpy(model.preprocessing(raw_slice(ct_data, material, number)))
    layers = dict(model.network.named_children())
    with torch.inference_mode():
        maps = image[None, None]
        for name in ("conv1", "norm1", "relu1", "pool1", "conv2", "norm2", "relu2"):
            maps = layers[name](maps)
    u, s, _ = reference.singular_triplets(maps[0].numpy())
    stored = tifffile.imread(real_run[0] / "eigenfeatures" / f"{material}.tif", key=number)
    found = stored.ravel().astype(np.float64)
    assert np.linalg.norm(found - (found @ u[0]) * u[0]) <= 1e-4
    assert found.sum() >= 0
    row = row_of(rows, material, number)
    np.testing.assert_allclose([float(row[f"sigma{k}"]) for k in range(1, 9)], s[:8], atol=1e-5 * s[0])
    assert row["flag"] == ""


def test_no_slice_of_these_is_flagged_or_unconverged(rows):
    assert {row["flag"] for row in rows} == {""}
    assert max(float(row["residual"]) for row in rows) < 1e-5
