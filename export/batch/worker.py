"""What a worker of a cluster does: it opens a job's model and stacks once, and computes blocks of it.

A block is written by the worker that computed it: its maps into the one Zarr of each volume, where no
two blocks share a chunk, and its numbers as one file. Doing a block twice writes the same bytes, so a block
whose worker was lost is simply given to another one.
"""

import hashlib
import json
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numba
from distributed import Worker, WorkerPlugin, get_worker

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.folder import RECORD_FILE, write_block
from eigenfeatures.export.batch.job import Survey, Work, infer_part, prepare_part, read_part, survey
from eigenfeatures.export.batch.opening import open_work
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import BlockPlan, Part
from eigenfeatures.export.batch.source import Source
from eigenfeatures.export.batch.table import split_volumes
from eigenfeatures.export.batch.volumes import Volumes, make_volumes


@dataclass(frozen=True)
class Order:
    """A job as it was planned; every worker compares what it sees with it.

    Attributes
    ----------
    out : Path
        Folder of the results, on a file system that all share.
    record : str
        SHA-256 of ``infer.json`` in it.
    engine : str
        Its name.
    model : dict
        `ModelFacts.identity` of the model.
    stacks : str
        `fingerprint` of the stacks.
    plan : BlockPlan
        Slices at once and slices a block.
    shapes : dict
        Output to the shape ``(C, h, w)`` of its maps.
    """

    out: Path
    record: str
    engine: str
    model: dict[str, Any]
    stacks: str
    plan: BlockPlan
    shapes: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Done:
    """A block that is written.

    Attributes
    ----------
    digest : str
        SHA-256 of its file.
    seconds : dict
        What this worker measured since the block before.
    said : tuple of str
        What a person should know.
    """

    digest: str
    seconds: dict[str, float]
    said: tuple[str, ...]


class Desk(WorkerPlugin):
    """Model and stacks in one worker, opened when the first task needs them and closed with the job.

    Parameters
    ----------
    model
        An exported ``.onnx`` file, or the folder of a run.
    stacks
        Each a stack, or a folder of samples.
    options
        With the threads that a worker computes with.
    """

    def __init__(self, model: Path, stacks: Sequence[Path], options: Options) -> None:
        self._model, self._stacks, self._options = model, tuple(stacks), options

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Begin in a worker; called by Dask, also in one that joins later."""
        self._lock = threading.Lock()
        self._opened = ExitStack()
        self._clock, self._said = Clock(), list[str]()
        self._work: tuple[Engine, list[Source]] | None = None
        self._bench: _Bench | None = None

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Close all, once the block in hand is written."""
        with self._lock:
            self._opened.close()
            self._work = self._bench = None

    def survey(self, share: int) -> tuple[Survey, tuple[str, ...]]:
        """Run one slice and plan the blocks; `share` workers use this machine's memory."""
        with self._lock:
            engine, sources = self._open()
            found = survey(engine, sources, self._options.batch, self._options.max_memory, share)
            self._clock.take()  # of the warm-up
            return found, self._take_said()

    def run(self, order: Order, part: Part) -> Done:
        """Read, compute and write one block."""
        with self._lock:
            engine, sources = self._open()
            if self._bench is None:
                self._said.clear()  # which the survey told already
                self._bench = _Bench(order, engine, sources, self._clock, self._said.append)
            return Done(self._bench.run(part), self._clock.take(), self._take_said())

    def _open(self) -> tuple[Engine, list[Source]]:
        threads = self._options.threads
        if threads is not None:  # of the kernels, in this thread
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        if self._work is None:
            opening = open_work(self._model, self._stacks, self._options, self._clock, self._said.append)
            self._work = self._opened.enter_context(opening)
        return self._work

    def _take_said(self) -> tuple[str, ...]:
        said = tuple(self._said)
        self._said.clear()
        return said


class _Bench:
    """A job in hand: what computes and writes its blocks."""

    def __init__(
        self, order: Order, engine: Engine, sources: Sequence[Source], clock: Clock, say: Any
    ) -> None:
        _check(order, engine, sources)
        self._order, self._engine, self._sources, self._clock = order, engine, sources, clock
        self._batches = Batches(engine, order.plan.batch, say)
        self._volumes: Volumes = make_volumes(
            "zarr", order.out, sources, order.shapes, engine.facts, order.plan.block
        )

    def run(self, part: Part) -> str:
        with self._clock.span("read"):
            work = read_part(self._sources, part)
        with self._clock.span("prepare"):
            prepare_part(self._engine, work)
        with self._clock.span("infer"):
            infer_part(self._batches, work)
        with self._clock.span("write"):
            return self._write(work)

    def _write(self, work: Work) -> str:
        maps, numbers = split_volumes(work.arrays)
        self._volumes.write(work.part, maps)
        return write_block(self._order.out, work.part.number, numbers)


def dask_setup(worker: Worker) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the command; for workers that share its terminal, where this module is a preload."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def survey_task(name: str, share: int) -> tuple[Survey, tuple[str, ...]]:
    """Plan a job in a worker; the task of `Desk.survey`."""
    return _desk(name).survey(share)


def block_task(name: str, order: Order, part: Part) -> Done:
    """Do a block in a worker; the task of `Desk.run`."""
    return _desk(name).run(order, part)


def fingerprint(sources: Sequence[Source]) -> str:
    """Return a hash of what this machine sees of stacks: paths, shapes, sizes and times of their files.

    No pixels are read: with hundreds of stacks and workers that would be a part of the whole work.
    """
    text = json.dumps([source.description for source in sources])
    return hashlib.sha256(text.encode()).hexdigest()


def _desk(name: str) -> Desk:
    return cast(Desk, get_worker().plugins[name])


def _check(order: Order, engine: Engine, sources: Sequence[Source]) -> None:
    """Refuse a worker that sees other files or another device than the one that made the plan."""
    host, record = socket.gethostname(), order.out / RECORD_FILE
    if not record.is_file() or sha256(record) != order.record:
        raise InputError(
            f"the worker on {host} doesn't see {record}; put --out on a file system that all workers share"
        )
    if engine.name != order.engine:
        raise InputError(
            f"the worker on {host} runs on '{engine.name}' and another on '{order.engine}'; use workers "
            "of one kind, or name --engine and --device"
        )
    if engine.facts.identity != order.model or fingerprint(sources) != order.stacks:
        raise InputError(
            f"the worker on {host} sees another model or other stacks; put them on a file system "
            "that all workers share"
        )
