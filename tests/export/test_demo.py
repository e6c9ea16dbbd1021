"""The demonstration at its smallest, as a user starts it, and everything that it wrote."""

import csv
import json
import re
import tomllib

import numpy as np
import onnxruntime
import pytest
import tifffile
from commands import call, spawn
from PIL import Image
from safetensors.numpy import load_file


def _table(path):
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert {len(row) for row in rows} == {len(header)}
    return rows


def _picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def _text(path):
    return path.read_text(encoding="utf-8")


def _session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


OPEN = {
    ".csv": _table,
    ".json": lambda path: json.loads(_text(path)),
    ".toml": lambda path: tomllib.loads(_text(path)),
    ".tif": tifffile.imread,
    ".png": _picture,
    ".html": _text,
    ".txt": _text,
    ".onnx": _session,
    ".safetensors": load_file,
}


def test_the_demo_makes_samples_and_does_the_main_job_on_them(tmp_path):
    process = spawn("demo", "--slices", "10", "--size", "32", "--iterations", "2", cwd=tmp_path)
    output, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "phantom, no measured data" in error
    folder = tmp_path / "eigenfeatures-demo"
    assert str(folder / "run" / "report.html") in "".join(re.split(r"[^\w./-]+", output)), "folded, not cut"
    opened = {
        path.relative_to(folder).as_posix(): OPEN[path.suffix](path)
        for path in folder.rglob("*")
        if path.is_file()
    }
    stacks = [[opened.pop(f"samples/sample{k}/slice_{z}.tif") for z in range(10)] for k in (1, 2, 3, 4)]
    assert np.shape(stacks) == (4, 10, 32, 32)
    assert opened.pop("samples/README.txt").startswith("Synthetic data, not measured")
    assert all(name.startswith("run/") for name in opened)

    rows = opened["run/slices.csv"]
    assert [float(row[4]) for row in rows] == pytest.approx(np.mean(stacks, axis=(2, 3)).ravel(), rel=1e-6)
    slices = np.array(stacks).reshape(-1, 32, 32)
    (probabilities,) = opened["run/model.onnx"].run(["probabilities"], {"slices": slices})
    assert [row[6] for row in rows] == [f"sample{1 + k}" for k in probabilities.argmax(axis=1)]
    for k in (1, 2, 3, 4):
        vectors = opened[f"run/eigenfeatures/sample{k}.tif"]
        assert vectors.shape == (10, 16, 16)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=(1, 2)), 1, atol=1e-5)
    assert opened["run/metrics.json"]["validation"]["slices"] == 4 * 3
    assert len(opened["run/training.csv"]) == 2
    assert opened["run/run.toml"]["settings"]["preset"] == "small"
    assert len(opened["run/run.toml"]["inputs"]) == 40
    figures = [picture for name, picture in opened.items() if name.startswith("run/figures/")]
    assert len(figures) == opened["run/report.html"].count("<figure>") == 14
    assert all(picture.std() > 0 for picture in figures)
    assert "Nothing in this report was measured" in opened["run/report.html"]

    answer = call("demo", "--out", folder)
    assert answer.code == 2
    assert "is not empty" in answer.error
