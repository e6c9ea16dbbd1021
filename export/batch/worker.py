"""What a worker of a cluster does: it opens a job's model and stacks once, and computes blocks of it.

A block is written by the worker that computed it: its maps into the one Zarr of each volume, where no
two blocks share a chunk, and its numbers as one file. Doing a block twice writes the same bytes, so a block
whose worker was lost is simply given to another one.

A worker with several threads has as many tasks at once, and these overlap: while one block is inferred, the
next is read and the one before is written. With one thread they go on in turn.
"""

import asyncio
import hashlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numba
from distributed import Worker, WorkerPlugin

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.folder import RECORD_FILE, write_block
from eigenfeatures.export.batch.job import Survey, Work, infer_part, prepare_part, read_part, survey
from eigenfeatures.export.batch.opening import open_work
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import WORKER_BLOCKS, BlockPlan, Part
from eigenfeatures.export.batch.source import Source
from eigenfeatures.export.batch.stages import StageThreads
from eigenfeatures.export.batch.table import split_volumes
from eigenfeatures.export.batch.volumes import Volumes, make_volumes

# Of a block, in this order.
_STAGES = ("read", "prepare", "infer", "write")

Result = TypeVar("Result")


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

    def to_text(self) -> str:
        """Return all of it as a text, for a task."""
        return json.dumps({**asdict(self), "out": str(self.out)})

    @classmethod
    def from_text(cls, text: str) -> "Order":
        """Read back what `to_text` gave."""
        found = json.loads(text)
        shapes = {name: tuple(sides) for name, sides in found["shapes"].items()}
        plan = BlockPlan(**found["plan"])
        return cls(**{**found, "out": Path(found["out"]), "plan": plan, "shapes": shapes})


@dataclass(frozen=True)
class Done:
    """A block that is written.

    Attributes
    ----------
    digest : str
        SHA-256 of its file.
    seconds : dict
        What this worker measured since it last told, in all its threads.
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
        self._room = threading.BoundedSemaphore(WORKER_BLOCKS)
        self._threads = StageThreads(_STAGES, self._limit_kernels)
        self._opening, self._opened = threading.Lock(), ExitStack()
        self._clock, self._told = Clock(), _Told()
        self._work: tuple[Engine, list[Source]] | None = None
        self._bench: _Bench | None = None

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Close all, once no stage has a block in hand; the worker answers the scheduler meanwhile."""
        await asyncio.to_thread(self._close)

    def survey(self, share: int) -> tuple[Survey, tuple[str, ...]]:
        """Run one slice and plan the blocks; `share` workers use this machine's memory."""
        found = self._threads.do("infer", self._survey, share)
        self._clock.take()  # of the warm-up
        return found, self._told.take()

    def run(self, order: str, part: Sequence[int]) -> Done:
        """Read, compute and write one block, while other threads do the same with others.

        Parameters
        ----------
        order
            What `Order.to_text` gave.
        part
            The fields of a `Part`.
        """
        with self._room:
            digest = self._bench_for(order).run(Part(*part))
            return Done(digest, self._clock.take(), self._told.take())

    def _survey(self, share: int) -> Survey:
        return survey(*self._open(), self._options.batch, self._options.max_memory, share)

    def _bench_for(self, order: str) -> "_Bench":
        with self._opening:
            if self._bench is None:
                self._bench = self._threads.do("infer", self._make_bench, order)
            return self._bench

    def _make_bench(self, order: str) -> "_Bench":
        engine, sources = self._open()
        self._told.take()  # which the survey told already
        return _Bench(Order.from_text(order), engine, sources, self._threads, self._clock, self._told.add)

    def _open(self) -> tuple[Engine, list[Source]]:
        """Open the work in the thread that will infer, where some libraries set up what they need."""
        if self._work is None:
            opening = open_work(self._model, self._stacks, self._options, self._clock, self._told.add)
            self._work = self._opened.enter_context(opening)
        return self._work

    def _limit_kernels(self) -> None:
        threads = self._options.threads
        if threads is not None:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]

    def _close(self) -> None:
        self._threads.close()
        self._opened.close()
        self._work = self._bench = None


class _Bench:
    """A job in hand: what computes and writes its blocks, each stage in a thread of its own."""

    def __init__(
        self,
        order: Order,
        engine: Engine,
        sources: Sequence[Source],
        threads: StageThreads,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        _check(order, engine, sources)
        self._order, self._engine, self._sources = order, engine, sources
        self._threads, self._clock = threads, clock
        self._batches = Batches(engine, order.plan.batch, say)
        self._volumes: Volumes = make_volumes(
            "zarr", order.out, sources, order.shapes, engine.facts, order.plan.block
        )

    def run(self, part: Part) -> str:
        work = self._stage("read", partial(read_part, self._sources, part))
        work = self._stage("prepare", partial(prepare_part, self._engine, work))
        work = self._stage("infer", partial(infer_part, self._batches, work))
        return self._stage("write", partial(self._write, work))

    def _stage(self, name: str, work: Callable[[], Result]) -> Result:
        def measured() -> Result:
            with self._clock.span(name):
                return work()

        return self._threads.do(name, measured)

    def _write(self, work: Work) -> str:
        maps, numbers = split_volumes(work.arrays)
        self._volumes.write(work.part, maps)
        return write_block(self._order.out, work.part.number, numbers)


class _Told:
    """What a person should know, until a task takes it along."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._change = threading.Lock()

    def add(self, line: str) -> None:
        with self._change:
            self._lines.append(line)

    def take(self) -> tuple[str, ...]:
        with self._change:
            taken, self._lines = self._lines, []
        return tuple(taken)


def dask_setup(worker: Worker) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the command; for workers that share its terminal, where this module is a preload."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fingerprint(sources: Sequence[Source]) -> str:
    """Return a hash of what this machine sees of stacks: paths, shapes, sizes and times of their files.

    No pixels are read: with hundreds of stacks and workers that would be a part of the whole work.
    """
    text = json.dumps([source.description for source in sources])
    return hashlib.sha256(text.encode()).hexdigest()


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
