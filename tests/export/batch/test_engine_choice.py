"""Which engine and device a model is run on, and what is said of the choice."""

import shutil
from types import SimpleNamespace as Namespace

import onnxruntime
import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch import ort_engine, torch_engine
from eigenfeatures.export.batch.engine import NoDeviceError, open_engine


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(("engine", "device"), [("auto", "cuda"), ("ort-cuda", "auto"), ("torch", "cuda")])
def test_cuda_without_a_gpu_is_refused_and_never_the_cpu(engine, device, finished_run):
    with pytest.raises(InputError, match=r"no GPU can be used: .*; use --device cpu"):
        open_engine(finished_run, None, engine, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_auto_says_why_it_is_the_cpu(finished_run):
    opened = open_engine(finished_run)
    assert opened.name == "ort-cpu"
    assert "no CUDA" in opened.reason
    assert "torch finds no GPU" in opened.reason


class Found:
    """An engine on a device that may not be there."""

    def __init__(self, library, refusals, tried, device):
        self.name = f"{library}-{device}"
        tried.append(self.name)
        if self.name in refusals:
            raise NoDeviceError(refusals[self.name])
        self.reason = f"a GPU, by {library}" if device == "cuda" else ""


NO_CUDA, NO_GPU = {"ort-cuda": "it has no CUDA"}, {"torch-cuda": "torch finds no GPU"}


@pytest.mark.parametrize(
    ("held", "device", "refusals", "tried", "reason"),
    [
        ("run", "auto", {}, ["ort-cuda"], "a GPU, by ort"),
        (
            "run",
            "auto",
            NO_CUDA,
            ["ort-cuda", "torch-cuda"],
            "a GPU, by torch; not ort-cuda: it has no CUDA",
        ),
        (
            "run",
            "auto",
            NO_CUDA | NO_GPU,
            ["ort-cuda", "torch-cuda", "ort-cpu"],
            "not ort-cuda: it has no CUDA; not torch-cuda: torch finds no GPU",
        ),
        ("run", "cuda", NO_CUDA, ["ort-cuda", "torch-cuda"], "a GPU, by torch; not ort-cuda: it has no CUDA"),
        ("run", "cpu", {}, ["ort-cpu"], "as asked"),
        ("file", "auto", NO_CUDA | NO_GPU, ["ort-cuda", "ort-cpu"], "not ort-cuda: it has no CUDA"),
        ("weights", "auto", {}, ["torch-cuda"], "a GPU, by torch"),
        ("weights", "auto", NO_GPU, ["torch-cuda", "torch-cpu"], "not torch-cuda: torch finds no GPU"),
    ],
)
def test_auto_takes_the_first_device_that_is_there_and_says_why(
    held, device, refusals, tried, reason, tmp_path, monkeypatch
):
    """Of a run with its export, of an export alone, and of a run's weights alone."""
    found = []

    def opener(library):
        return lambda *given, **_: Found(library, refusals, found, given[2])

    monkeypatch.setattr(ort_engine, "OrtEngine", opener("ort"))
    monkeypatch.setattr(torch_engine, "TorchEngine", opener("torch"))
    model = tmp_path / ("m.onnx" if held == "file" else "run")
    if held == "file":
        model.touch()
    else:
        model.mkdir()
        if held == "run":
            (model / "model.onnx").touch()
    opened = open_engine(model, None, "auto", device)
    assert (opened.name, opened.reason, found) == (tried[-1], reason, tried)


def test_the_gpu_is_named(finished_run, monkeypatch):
    """Here the session is the processor's, but says otherwise."""
    made = onnxruntime.InferenceSession

    def on_cuda(file, *_, **__):
        session = made(file, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: ["CUDAExecutionProvider"]
        return session

    memory = Namespace(stream=0, number=0, settle=lambda: None, name="NVIDIA H100")
    monkeypatch.setattr(ort_engine, "_cuda_memory", lambda: memory)
    monkeypatch.setattr(ort_engine, "_check_cuda", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cuda)
    opened = open_engine(finished_run)
    assert (opened.name, opened.reason) == ("ort-cuda", "NVIDIA H100, by ONNX Runtime")
    assert opened._content == "gradient, network, alpha and SVD"
    opened.close()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    assert torch_engine._gpu() == "NVIDIA H100"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_too_old_for_the_kernels_is_none(finished_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(InputError, match=r"no GPU can be used: .*compute capability 8\.0"):
        open_engine(finished_run, None, "torch", "cuda")
    opened = open_engine(finished_run)
    assert opened.name == "ort-cpu"
    assert "compute capability 8.0" in opened.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_that_cuda_is_named_is_no_proof_of_a_gpu(finished_run, monkeypatch):
    """ONNX Runtime's GPU build names CUDA on any machine, and then makes a session on the CPU."""
    names = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]  # noqa: E731
    monkeypatch.setattr(onnxruntime, "get_available_providers", names)
    made = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda file, *_, **__: made(file, providers=["CPUExecutionProvider"])
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"no GPU can be used: CuPy (finds no GPU|is missing)"):
        open_engine(finished_run, None, "ort-cuda")
    memory = Namespace(stream=0, number=0, settle=lambda: None)
    monkeypatch.setattr(ort_engine, "_cuda_memory", lambda: memory)
    with pytest.raises(InputError, match="made no session on the GPU"):
        open_engine(finished_run, None, "ort-cuda")
    assert open_engine(finished_run).name == "ort-cpu"


def test_one_file_is_no_run(finished_run, tmp_path):
    shutil.copy(finished_run / "model.onnx", tmp_path / "m.onnx")
    with pytest.raises(
        InputError, match=r"m\.onnx is one file, and --engine torch needs the folder of a run"
    ):
        open_engine(tmp_path / "m.onnx", None, "torch", "cpu")
    assert open_engine(tmp_path / "m.onnx", None, device="cpu").name == "ort-cpu"


def test_a_run_without_an_export_runs_in_torch(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "model.onnx").unlink()
    assert open_engine(run, device="cpu").name == "torch-cpu"
