"""Copies to and from a GPU by torch, and what both engines give on one."""

import numpy as np
import onnxruntime
import pytest
import torch

from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.engine import open_engine
from eigenfeatures.export.batch.torch_copies import Upload

OUTPUTS = ("probabilities", "eigenfeatures", "gap")


class HostCopies:
    """In place of copies to a GPU."""

    def __init__(self):
        self.steps = []

    def upload(self, slices):
        self.steps.append("upload")
        return Upload(torch.from_numpy(slices), None)

    def arrived(self, upload):
        self.steps.append("compute")
        return upload.tensor

    def made(self):
        self.steps.append("made")
        return len(self.steps)

    def download(self, tensors, made):
        assert self.steps[made - 1] == "made"
        self.steps.append("download")
        return lambda: {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("keep", [True, False])
def test_torch_copies_beside_its_work(keep, finished_run, raw):
    engine = open_engine(finished_run, OUTPUTS, "torch", "cpu", keep=keep)
    expected = engine(raw[:7])
    copies = HostCopies()
    engine._copies = copies
    found = Batches(engine, 3, pytest.fail)(raw[:7])
    for name in OUTPUTS:
        assert isinstance(found[name], torch.Tensor) == keep
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert copies.steps.count("upload") == 3
    assert copies.steps.count("download") == (0 if keep else 3)
    assert [step for step in copies.steps if step in ("compute", "made")] == ["compute", "made"] * 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError], ids=["torch", "CuPy or NumPy"])
def test_a_batch_that_torch_has_no_room_for_is_halved(error, finished_run, raw, monkeypatch):
    engine = open_engine(finished_run, OUTPUTS, "torch", "cpu")
    expected = engine(raw[:7])
    evaluate, sizes = engine._evaluate, []

    def evaluate_few(slices):
        sizes.append(len(slices))
        if len(slices) > 2:
            raise error("out of memory")
        return evaluate(slices)

    monkeypatch.setattr(engine, "_evaluate", evaluate_few)
    found = Batches(engine, 5, lambda _: None)(raw[:7])
    assert sizes == [5, 2, 2, 2, 1]
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("engine", ["torch", "ort-cuda"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(engine, keep, finished_run, raw):
    if engine == "ort-cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    expected = open_engine(finished_run, OUTPUTS, "ort-cpu")(raw[:50])
    opened = open_engine(finished_run, OUTPUTS, engine, "cuda", keep=keep)
    for size in (16, 7):
        found = Batches(opened, size, pytest.fail)(raw[:50])
        for name in OUTPUTS:
            array = (
                found[name].get()
                if hasattr(found[name], "get")
                else np.asarray(torch.as_tensor(found[name]).cpu())
            )
            np.testing.assert_allclose(array, expected[name], atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_where_a_gpu_lacks_memory_the_batch_is_halved(finished_run, raw):
    """Of torch, which is left as much as it needed for a fraction of the batch, and some more."""
    slices = np.concatenate([raw] * (1 + 4096 // len(raw)))[:4096]
    opened = open_engine(finished_run, OUTPUTS, "torch", "cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    expected = Batches(opened, 512, pytest.fail)(slices)
    enough = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    said = []
    torch.cuda.set_per_process_memory_fraction(1.2 * enough / torch.cuda.mem_get_info()[1])
    try:
        batches = Batches(opened, 4096, said.append)
        found = batches(slices)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= len(said) <= 6
    assert batches.size == 4096 >> len(said)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
