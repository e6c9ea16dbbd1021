"""Where a job was begun is recorded, and told where it goes on elsewhere."""

import json
import os
import platform

import numpy as np
import pytest
import torch
from commands import call, random_stack
from fake_engine import FakeEngine, run_job
from llvmlite.binding import get_host_cpu_name

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch import job
from eigenfeatures.export.batch.machine import machine
from eigenfeatures.export.batch.source import Source

OLD, NEW = "x86_64 znver3", "x86_64 znver4"
HERE = {"processor": NEW, "threads": 2}


def begin(stack, out, where, monkeypatch):
    """Do two of four blocks on some machine and return what the folder tells of it."""
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
    read = Source.read

    def fail(self, first, count):
        if first == 4:
            raise InputError("bad slice")
        return read(self, first, count)

    with monkeypatch.context() as patch:
        patch.setattr(Source, "read", fail)
        patch.setattr(job, "machine", lambda _: where)
        with pytest.raises(InputError, match="bad slice"):
            run_job(stack, out, batch=2)
    return json.loads((out / "infer.json").read_text())


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        (HERE, None),
        ({**HERE, "processor": OLD}, f"processor = {OLD}, and now it is processor = {NEW}"),
        ({**HERE, "threads": 3}, "threads = 3, and now it is threads = 2"),
        (
            {"processor": OLD, "threads": 3},
            f"processor = {OLD} and threads = 3, and now it is processor = {NEW} and threads = 2",
        ),
    ],
)
def test_another_machine_than_the_one_that_began_is_told(before, changed, stack, tmp_path, monkeypatch):
    """The results are the same bytes on the same type of processor with as many threads."""
    record = begin(stack, tmp_path / "out", before, monkeypatch)
    assert record["machine"] == before
    monkeypatch.setattr(job, "machine", lambda _: HERE)
    said = []
    run_job(stack, tmp_path / "out", batch=2, resume=True, say=said.append)
    lines = [line for line in said if line.startswith("they were made with ")]
    end = ": the other blocks may differ in their last digits"
    assert lines == ([] if changed is None else [f"they were made with {changed}{end}"])


def test_a_folder_of_a_version_that_told_no_machine_goes_on(stack, tmp_path, monkeypatch):
    record = begin(stack, tmp_path / "out", HERE, monkeypatch)
    del record["machine"]
    (tmp_path / "out" / "infer.json").write_text(json.dumps(record))
    said = []
    assert run_job(stack, tmp_path / "out", batch=2, resume=True, say=said.append)["slices"] == 8
    assert not any(line.startswith("they were made with ") for line in said)


def test_the_record_tells_the_processor_and_the_threads(stack, tmp_path, monkeypatch):
    run_job(stack, tmp_path / "asked", threads=5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 4}, raising=False)
    run_job(stack, tmp_path / "usual")
    found = [json.loads((tmp_path / out / "infer.json").read_text())["machine"] for out in ("asked", "usual")]
    processor = f"{platform.machine()} {get_host_cpu_name()}"
    assert found == [{"processor": processor, "threads": threads} for threads in (5, 3)]


def named(name, *, torch_on_cpu=False):
    engine = FakeEngine()
    engine.name, engine.torch_on_cpu = name, torch_on_cpu
    return engine


def test_threads_are_those_of_every_library_that_computes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 4}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    found = [
        machine(named("ort-cpu")),
        machine(named("ort-cpu", torch_on_cpu=True)),
        machine(named("torch-cpu")),
        machine(named("torch-cpu", torch_on_cpu=True)),
    ]
    for each in found:
        assert each.pop("processor") == f"{platform.machine()} {get_host_cpu_name()}"
    assert found == [{"threads": 3}, {"threads": 3, "torch_threads": 7}, {"threads": 7}, {"threads": 7}]


@pytest.mark.parametrize("outputs", ["probabilities", "probabilities,gap"])
def test_the_record_tells_the_threads_of_torch_where_it_decomposes_large_slices(
    outputs, finished_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    np.save(tmp_path / "scan.npy", random_stack((2, 60, 50)))
    job = ("infer", finished_run, tmp_path / "scan.npy", "--out", tmp_path / "out", "--engine", "ort-cpu")
    answer = call(*job, "--outputs", outputs)
    assert answer.code == 0, answer.error
    recorded = json.loads((tmp_path / "out" / "infer.json").read_text())["machine"]
    assert recorded.get("torch_threads") == (7 if "gap" in outputs else None)
