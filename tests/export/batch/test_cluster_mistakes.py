"""Mistakes about clusters are told in one line that says what to do."""

import subprocess
import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import tifffile
from commands import ENVIRONMENT, assert_refused, call, random_stack
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError
from fake_engine import run_job

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch import cluster as clusters
from eigenfeatures.export.versions import versions

# Modules of batch inference that a scheduler needs.
LOADED = ("tasks", "watch")

OPTIONS = {"batch": 1, "max_memory": "100GB", "threads": 1}

# Processes of a cluster, each until its input ends, and what makes them lack our packages.
SCHEDULER = """
import asyncio
from distributed import Scheduler

async def main():
    async with Scheduler(port=0, host="127.0.0.1", dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
WORKER = """
import asyncio
from distributed import Worker

async def main():
    async with Worker(sys.argv[1]):
        print("works", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
LACKING = """
import sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "eigenfeatures":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lacking())
"""


@contextmanager
def running(script, *arguments):
    """A process of a cluster, and the line that it prints when it is ready."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "scan.tif"
    tifffile.imwrite(path, random_stack((8, 32, 32)), photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    path.touch()
    return path


REFUSED = {
    "no number": (["--cluster", "local:many"], "'local:many' is no cluster; give local:N or tcp://host:port"),
    "no worker": (["--cluster", "local:0"], "'local:0' is no cluster"),
    "another protocol": (["--cluster", "http://host:80"], "is no cluster"),
    "no address": (
        ["--cluster", "tcp://a:b:1"],
        r"--cluster tcp://a:b:1 can't be used \(invalid address.*\); give tcp://host:port",
    ),
    "no certificates": (
        ["--cluster", "tls://127.0.0.1:9"],
        r"--cluster tls://127.0.0.1:9 can't be used \(TLS .*\); .* with Dask's TLS configured",
    ),
    "no scheduler": (["--cluster", "tcp://127.0.0.1:9"], "no scheduler answers in 1 s; check the address"),
    "one file": (["--cluster", "local:2", "--format", "tiff"], "use zarr with --cluster"),
    "a trace": (["--cluster", "local:2", "--profile"], "leave it out with --cluster"),
    "threads": (["--threads", "0"], "--threads 0 is out of range"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_option_is_one_line(what, stack, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 1)
    options, reason = REFUSED[what]
    (tmp_path / "m.onnx").touch()
    assert_refused(call("infer", tmp_path / "m.onnx", stack, "--out", tmp_path / "out", *options), reason)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_workers_is_refused(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 1)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty,
        pytest.raises(InputError, match=r"has no worker; start some by 'dask worker'"),
    ):
        run_job(stack, tmp_path / "out", cluster=empty.scheduler_address, **OPTIONS)


def test_a_missing_package_is_one_line(stack, tmp_path, monkeypatch):
    for name in ("cluster", "worker"):
        monkeypatch.delitem(sys.modules, f"eigenfeatures.export.batch.{name}")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'eigenfeatures\[cluster\]'"):
        run_job(stack, tmp_path / "out", cluster="local:2", **OPTIONS)


@pytest.mark.parametrize("lacking", ["scheduler", "worker"])
def test_a_machine_without_our_packages_is_named(lacking, stack, tmp_path):
    scripts = {
        kind: (LACKING if kind == lacking else "import sys") + script
        for kind, script in (("scheduler", SCHEDULER), ("worker", WORKER))
    }
    with running(scripts["scheduler"]) as address, running(scripts["worker"], address) as said:
        assert said == "works"
        reason = (
            rf"^the {lacking} at tcp://127\S* can't load eigenfeatures \(.*No module named .*eigenfeatures"
        )
        with pytest.raises(InputError, match=reason + r".*\); install the same versions there$"):
            run_job(stack, tmp_path / "out", cluster=address, **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", ["run", "register_plugin"])
def test_a_scheduler_that_is_lost_at_once_is_told_as_such(lost, stack, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise CommClosedError("in <TCP>: Stream is closed")

    found = {"tcp://w": ("host", 2, versions())}
    client = SimpleNamespace(id="c", run=lambda *_, **__: found, register_plugin=lambda *_, **__: None)
    setattr(client, lost, fail)
    monkeypatch.setattr(clusters, "_reach", lambda *_: nullcontext(client))
    with pytest.raises(InputError, match="the scheduler is lost; start it again and go on with --resume"):
        run_job(stack, tmp_path / "out", cluster="tcp://a:1", **OPTIONS)


def test_a_worker_that_is_lost_at_once_is_named(stack, tmp_path, monkeypatch):
    found = {"tcp://w:1": ("host", 2, versions()), "tcp://w:2": CommClosedError("Stream is closed")}
    monkeypatch.setattr(
        clusters, "_reach", lambda *_: nullcontext(SimpleNamespace(id="c", run=lambda *_, **__: found))
    )
    with pytest.raises(
        InputError, match=r"the worker at tcp://w:2 was lost \(Stream is closed\); start again"
    ):
        run_job(stack, tmp_path / "out", cluster="tcp://a:1", **OPTIONS)


def test_what_a_scheduler_loads_of_a_job_needs_dask_alone():
    script = (
        "import sys, distributed; before = {*sys.modules}\n"
        "import eigenfeatures.export.batch.watch, eigenfeatures.export.batch.tasks\n"
        "print(*{*sys.modules} - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    ours = {"eigenfeatures", "eigenfeatures.export", "eigenfeatures.export.batch"}
    assert set(done.stdout.split()) == ours | {f"eigenfeatures.export.batch.{name}" for name in LOADED}


def test_a_scheduler_loads_no_more_of_a_job_than_that(stack, tmp_path):
    """Neither the plugin that it unpickles nor the tasks lead to numba, zarr or a model's libraries."""
    faking = "import sys, fake_engine\nfake_engine.dask_setup(None)\n"
    with running("import sys" + SCHEDULER) as address, running(faking + WORKER, address) as said:
        assert said == "works"
        assert run_job(stack, tmp_path / "out", cluster=address, **OPTIONS)["slices"] == 8
        with Client(address, set_as_default=False) as client:
            loaded = client.run_on_scheduler(eval, "sorted(__import__('sys').modules)")
    ours = {name for name in loaded if name.startswith("eigenfeatures.")}
    assert ours == {
        "eigenfeatures.export",
        "eigenfeatures.export.batch",
        *(f"eigenfeatures.export.batch.{name}" for name in LOADED),
    }
    assert not {"numba", "zarr", "onnx", "onnxruntime", "torch"} & {*loaded}
