"""What stops a run before it writes anything, beyond bad files; and what does not."""

import shutil
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import tifffile
from commands import QUICK, assert_refused, call

from eigenfeatures.export.batch import ort_engine
from eigenfeatures.export.run_folder import RunFolder, check_same_settings
from eigenfeatures.export.settings import Settings


def write(folder, **stacks):
    folder.mkdir()
    for name, images in stacks.items():
        tifffile.imwrite(folder / f"{name}.tif", images, photometric="minisblack")
    return folder


def noise(seed, depth=16):
    return np.random.default_rng(seed).normal(1.0, 0.1, (depth, 40, 40)).astype(np.float32)


def test_an_output_folder_among_the_samples_is_refused(tmp_path):
    """It would be taken for a sample by the next command."""
    samples = write(tmp_path / "samples", a=noise(0), b=noise(1))
    for out in (samples / "out", samples):
        answer = call("run", samples, "--out", out, *QUICK)
        assert answer.code == 2
        assert "lies inside the samples" in answer.error or "is not empty and holds no run" in answer.error
    assert sorted(path.name for path in samples.iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_intensities_beyond_float32s_squares_are_refused(tmp_path, scale):
    samples = write(tmp_path / "samples", a=noise(0), b=noise(1) * np.float32(scale))
    answer = call("run", samples, "--out", tmp_path / "out", *QUICK)
    assert answer.code == 2
    assert "b.tif: slice 0 (counted from 0) has intensities too large or too small" in answer.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_other_scales_make_no_difference(tmp_path, scale):
    samples = write(tmp_path / "samples", a=noise(0) * np.float32(scale), b=noise(1) * np.float32(scale))
    answer = call("train", samples, "--out", tmp_path / "out", *QUICK)
    assert answer.code == 0, answer.error


def test_a_stack_of_one_slice_is_refused_with_advice(tmp_path):
    folder = tmp_path / "samples"
    for sample, depth in (("a", 1), ("b", 16)):
        for specimen in range(2):
            (folder / sample / f"s{specimen}").mkdir(parents=True)
            for number, image in enumerate(noise(specimen, depth)):
                tifffile.imwrite(folder / sample / f"s{specimen}" / f"{number}.tif", image)
    answer = call("run", folder, "--out", tmp_path / "out", *QUICK)
    assert answer.code == 2
    assert "sample 'a' has too few slices for a" in answer.error
    assert "use stacks of at least 10 slices" in answer.error


def test_a_run_is_resumed_on_another_device(finished_run):
    settings = RunFolder.open(finished_run).settings
    assert settings.device == "auto"
    check_same_settings(finished_run, Settings(**{**vars(settings), "device": "cpu"}))


def test_a_session_that_falls_back_to_the_cpu_is_no_gpu(finished_run, tmp_path, monkeypatch):
    """ONNX Runtime's GPU build names CUDA on any machine, makes its session on the CPU and doesn't fail."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    made = onnxruntime.InferenceSession
    memory = SimpleNamespace(stream=0, number=0, settle=lambda: None)
    monkeypatch.setattr(ort_engine, "_cuda_memory", lambda: memory)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda file, *_, **__: made(file, providers=["CPUExecutionProvider"])
    )
    assert_refused(call("infer", run, "--device", "cuda"), "ONNX Runtime made no session on the GPU")
    answer = call("infer", run)
    refused = "not ort-cuda: ONNX Runtime made no session on the GPU"
    assert answer.code == 0
    assert answer.error.startswith(f"classifying on 'ort-cpu' ({refused}")


def test_the_report_calls_only_a_phantom_synthetic(tmp_path):
    samples = write(tmp_path / "samples", a=noise(0), b=noise(1))
    (samples / "README.txt").write_text("Synthetic rubber, batch 3")
    assert call("run", samples, "--out", tmp_path / "out", *QUICK).code == 0
    assert "simulated" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
