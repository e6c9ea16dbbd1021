"""The profile of a job has all its stages, and is written by the job that has the folder."""

import json

import pytest
from fake_engine import run_job

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.folder import open_folder
from eigenfeatures.export.batch.source import Source


def test_the_profile_has_every_stage(stack, tmp_path):
    run_job(stack, tmp_path / "out", profile=True, batch=2)
    events = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    assert {event["name"] for event in events if event["ph"] == "X"} >= {
        "read",
        "prepare",
        "infer",
        "write",
        "finish",
    }


@pytest.mark.parametrize("begun", [False, True])
def test_a_job_that_fails_is_profiled_as_far_as_it_came(begun, stack, tmp_path, monkeypatch):
    read = Source.read

    def fail(self, first, count):
        if count > 1:
            raise InputError("bad slice")
        return read(self, first, count)

    monkeypatch.setattr(Source, "read", fail)
    if begun:
        with pytest.raises(InputError, match="bad slice"):
            run_job(stack, tmp_path / "out", batch=2)
    with pytest.raises(InputError, match="bad slice"):
        run_job(stack, tmp_path / "out", batch=2, profile=True, resume=begun)
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]


def test_a_job_that_is_refused_leaves_the_profile_of_another(stack, tmp_path):
    """Be it for its settings, its memory, or since the other one is at work."""
    out = tmp_path / "out"
    run_job(stack, out, batch=2, profile=True)
    trace, record = out / "trace.json", json.loads((out / "infer.json").read_text())
    before = trace.read_bytes()
    with pytest.raises(InputError, match="with batch_size = 2, and now it is 3"):
        run_job(stack, out, batch=3, profile=True, resume=True)
    assert trace.read_bytes() == before
    with pytest.raises(InputError, match=r"none\.tif"):
        run_job(tmp_path / "none.tif", out, batch=2, profile=True, resume=True)
    assert trace.read_bytes() == before
    with open_folder(out, record, True), pytest.raises(InputError, match="a job that is at work"):
        run_job(stack, out, batch=2, profile=True, resume=True)
    assert trace.read_bytes() == before
