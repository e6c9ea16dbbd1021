"""Batch inference into a folder, which goes on where it was stopped."""

import csv
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.folder import (
    RECORD_FILE,
    JobFolder,
    check_vacant,
    check_writable,
    open_folder,
    read_record,
    writing,
)
from eigenfeatures.export.batch.interrupts import heed_interrupts
from eigenfeatures.export.batch.job import Probe, Survey, Work, run_blocks, survey
from eigenfeatures.export.batch.machine import change
from eigenfeatures.export.batch.opening import open_work
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import BlockPlan, Part, format_bytes, parse_bytes
from eigenfeatures.export.batch.source import Source, close_sources, describe, open_sources
from eigenfeatures.export.batch.stages import Stage
from eigenfeatures.export.batch.table import columns, holds_rows, is_volume, split_volumes, write_blocks
from eigenfeatures.export.batch.volumes import Shapes, Volumes, check_names, damaged_file, make_volumes
from eigenfeatures.export.run_folder import check_outside
from eigenfeatures.export.talk import Talk
from eigenfeatures.export.versions import difference, versions

# What a job needs is measured anew when it goes on, so that the same limit may then seem a little too small.
_TOLERANCE = 1.1

# From the blocks that are left to those that are written.
_Compute = Callable[[list[Part]], Generator[Any, None, None]]


def infer_to_folder(
    model: Path, stacks: Sequence[Path], out: Path, options: Options, talk: Talk
) -> dict[str, Any]:
    """Run a model over stacks; write ``slices.csv`` and the volumes of maps.

    A block that is done is not done again, and the result has the same bytes as
    if nothing had stopped it, on the same type of processor.

    Parameters
    ----------
    model
        An exported ``.onnx`` file, or the folder of a run.
    stacks
        Each a stack, or a folder of samples.
    out
        Folder for the results: empty, or with the same job if `options` say ``resume``.
    options
        All else.
    talk
        With whoever waits.

    Returns
    -------
    dict
        The main facts, and where the time went.

    Raises
    ------
    InputError
        For any mistake in the model, the stacks, the options or the folder.
    InterruptedError
        After Ctrl-C, with what is done kept.
    """
    for stack in stacks:
        check_outside(out, stack)
    if not options.resume or read_record(out) is None:
        check_vacant(out)
        check_writable(out)
    clock = Clock(keep=options.profile)
    run = _here if options.cluster is None else _on_cluster
    try:
        with heed_interrupts(talk) as heeding:
            return run(model, stacks, out, options, clock, heeding)
    except KeyboardInterrupt as stop:
        raise InterruptedError("interrupted; 'infer' continues with --resume") from stop


def _here(
    model: Path, stacks: Sequence[Path], out: Path, options: Options, clock: Clock, talk: Talk
) -> dict[str, Any]:
    with open_work(model, stacks, options, clock, talk.say) as (engine, sources):
        surveyed = survey(engine, sources, options.batch, options.max_memory)
        clock.take()  # of the warm-up
        with _Job.start(surveyed, sources, out, options, clock, talk) as job:
            write = Stage("write", job._write)
            return job.complete(
                lambda parts: run_blocks(engine, sources, parts, job.plan.batch, clock, talk.say, write)
            )


def _on_cluster(
    model: Path, stacks: Sequence[Path], out: Path, options: Options, clock: Clock, talk: Talk
) -> dict[str, Any]:
    try:
        from eigenfeatures.export.batch.cluster import open_crew
        from eigenfeatures.export.batch.worker import Order, fingerprint
    except ModuleNotFoundError as error:
        raise InputError(
            f"--cluster needs more packages ({error}): pip install 'eigenfeatures[cluster]'"
        ) from error

    with open_crew(model, stacks, options, clock, talk.say) as crew:
        surveyed = crew.survey()
        sources = open_sources(stacks, options.reading, surveyed.facts)
        try:
            with _Job.start(surveyed, sources, out, crew.options, clock, talk) as job:
                order = Order(
                    out=out.absolute(),
                    record=sha256(out / RECORD_FILE),
                    engine=surveyed.name,
                    model=surveyed.facts.identity,
                    stacks=fingerprint(sources),
                    plan=job.plan,
                    shapes=_volume_shapes(surveyed.probe),
                )
                names = [source.name for source in sources]
                return job.complete(lambda parts: crew.compute(order, parts, names, job.folder.note))
        finally:
            close_sources(sources)


@dataclass(frozen=True)
class _Job:
    survey: Survey
    sources: Sequence[Source]
    folder: JobFolder
    plan: BlockPlan
    volumes: Volumes
    options: Options
    clock: Clock
    talk: Talk

    @classmethod
    @contextmanager
    def start(
        cls,
        surveyed: Survey,
        sources: Sequence[Source],
        out: Path,
        options: Options,
        clock: Clock,
        talk: Talk,
    ) -> Iterator["_Job"]:
        shapes = _volume_shapes(surveyed.probe)
        check_names(options.format, out, sources, shapes)
        with open_folder(out, _record(surveyed, sources, options), options.resume) as folder:
            plan = BlockPlan(**folder.record["plan"])
            peak = surveyed.probe.demand.peak(plan.batch, plan.block)
            if not folder.table.is_file():
                _check_limit(out, plan, peak, options.max_memory)
            talk.say(
                f"blocks of {plan.block} slices, {plan.batch} at once: at most about {format_bytes(peak)}"
            )
            if folder.table.is_file():
                _check_finished(folder, sources, shapes, options.format, plan.block)
            volumes = make_volumes(options.format, out, sources, shapes, surveyed.facts, plan.block)
            try:
                yield cls(surveyed, sources, folder, plan, volumes, options, clock, talk)
            finally:
                if options.profile:
                    with writing(out / "trace.json"):
                        clock.write_trace(out / "trace.json")

    def complete(self, compute: _Compute) -> dict[str, Any]:
        start, left = time.perf_counter(), 0
        if not self.folder.table.is_file():
            done = self._done()
            left = sum(part.length for part in self._parts() if part.number not in done)
            self._run_blocks(compute, done)
            with self.clock.span("finish"):
                self._finish()
        # Also where a kill came between the table and this.
        self.folder.finish()
        took = time.perf_counter() - start
        facts = summarise(self.folder.table, self.survey.facts.classes)
        return {
            "folder": str(self.folder.path),
            **facts,
            "engine": self.survey.name,
            **({"slices_per_second": left / took} if left else {}),
            "seconds": dict(self.clock.seconds),
            "share": self.clock.shares(),
        }

    def _done(self) -> frozenset[int]:
        """Return the numbers of the blocks that are done, and whose maps nobody has removed since."""
        done = self.folder.done
        return frozenset(
            part.number for part in self._parts() if part.number in done and self.volumes.has(part)
        )

    def _parts(self) -> Iterator[Part]:
        return self.plan.parts([len(source.indices) for source in self.sources])

    def _run_blocks(self, compute: _Compute, done: frozenset[int]) -> None:
        if lost := len(self.folder.done) - len(done):
            self.talk.say(f"{lost} blocks were done, but their maps are gone: they are done again")
        left = [part for part in self._parts() if part.number not in done]
        if done:
            self.talk.say(f"{len(done)} of {len(done) + len(left)} blocks are done already")
            for changed in self._changes():
                self.talk.say(f"they were made {changed}: the other blocks may differ in their last digits")
        with closing(compute(left)) as results:
            slices = (number for part in results for number in range(part.length))
            for _ in self.talk.track(slices, "slices", sum(part.length for part in left)):
                pass

    def _changes(self) -> Iterator[str]:
        """Yield what is not as it was when the folder was begun, though the results depend on it."""
        if differing := difference(self.folder.record["versions"], versions()):
            name, before, now = differing
            yield f"with {name} {before}, and now it is {now}"
        # Folders of an older version don't tell.
        if changed := change(self.folder.record.get("machine", {}), _machine(self.survey, self.options)):
            yield changed

    def _write(self, work: Work) -> Part:
        maps, numbers = split_volumes(work.arrays)
        kept = self.volumes.write(work.part, maps)
        self.folder.commit(work.part.number, {**numbers, **kept})
        return work.part

    def _finish(self) -> None:
        for source in self.sources:
            source.check_unchanged()
        parts = list(self._parts())
        self.volumes.finish(parts, self.folder.load)
        names, classes = [source.name for source in self.sources], self.survey.facts.classes
        blocks = (columns(names[part.stack], self.folder.load(part.number), classes) for part in parts)
        with writing(self.folder.table):
            write_blocks(self.folder.table, blocks)


def _check_finished(
    folder: JobFolder, sources: Sequence[Source], shapes: Shapes, form: str, block: int
) -> None:
    """Refuse a folder that says that all is done and has lost some of it since."""
    rows = ((source.name, int(number)) for source in sources for number in source.indices)
    damaged = damaged_file(form, folder.path, sources, shapes, block)
    if damaged is None and not holds_rows(folder.table, rows):
        damaged = folder.table
    if damaged is not None:
        state = "damaged" if damaged.exists() else "gone"
        raise InputError(
            f"{damaged} of a finished job is {state}; choose another folder for --out to make it anew"
        )


def summarise(table: Path, classes: Iterable[str]) -> dict[str, Any]:
    """Count the rows of ``slices.csv`` and what was predicted.

    Where the stacks are named after classes, the share of right predictions is told, too; a slice for
    which there is none is no part of it.
    """
    slices = flagged = filled = right = 0
    known, labelled = set(classes), True
    predicted: Counter[str] = Counter()
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sample = row["stack"].partition("/")[0]
            slices += 1
            flagged += bool(row["flag"])
            filled += "filled" in row["flag"].split(";")
            labelled = labelled and sample in known and "predicted" in row
            right += row.get("predicted") == sample
            predicted.update([row["predicted"]] if row.get("predicted") else [])
    facts: dict[str, Any] = {"slices": slices, "flagged_slices": flagged}
    facts |= {"filled_slices": filled} if filled else {}
    facts |= {"predicted": dict(predicted.most_common())} if predicted else {}
    return {**facts, "accuracy": right / predicted.total()} if predicted and labelled else facts


def _check_limit(out: Path, plan: BlockPlan, peak: int, max_memory: str | None) -> None:
    """Refuse to go on in blocks of a size that was planned for more memory than there is now."""
    if max_memory is not None and peak > _TOLERANCE * parse_bytes(max_memory):
        raise InputError(
            f"--max-memory {max_memory} is too little for {out}, which was begun in blocks of {plan.block} "
            f"slices, which need {format_bytes(peak)} in all; allow that much or choose another --out"
        )


def _record(surveyed: Survey, sources: Sequence[Source], options: Options) -> dict[str, Any]:
    return {
        "model": surveyed.facts.identity,
        "settings": {
            "engine": surveyed.name,
            "threads": options.threads,
            "outputs": surveyed.outputs,
            "tf32": options.tf32,
            "format": options.format,
            "batch_size": options.batch,
            **describe(options.reading),
        },
        "plan": {"batch": surveyed.plan.batch, "block": surveyed.plan.block},
        "stacks": {source.name: source.identity for source in sources},
        "machine": _machine(surveyed, options),
        "versions": versions(),
    }


def _machine(surveyed: Survey, options: Options) -> dict[str, Any]:
    """Return the type of processor that computes and its threads, whoever chose them."""
    chosen = {} if options.threads is None else {"threads": options.threads}
    return {**surveyed.machine, **chosen}


def _volume_shapes(probed: Probe) -> dict[str, tuple[int, int, int]]:
    shapes = {name: array.shape[1:] for name, array in probed.outputs.items() if is_volume(array)}
    return {name: (channels, height, width) for name, (channels, height, width) in shapes.items()}
