"""Batch inference into a folder, which goes on where it was stopped."""

import csv
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, open_engine
from eigenfeatures.export.batch.folder import JobFolder, check_vacant, open_folder
from eigenfeatures.export.batch.job import Probe, Work, choose_plan, probe, run_blocks
from eigenfeatures.export.batch.large_slices import fit_engine
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import BlockPlan, Part, format_bytes
from eigenfeatures.export.batch.source import Source, close_sources, describe, open_sources
from eigenfeatures.export.batch.stages import Stage
from eigenfeatures.export.batch.table import columns, is_volume, write_blocks
from eigenfeatures.export.batch.volumes import Volumes, make_volumes
from eigenfeatures.export.run_folder import check_outside
from eigenfeatures.export.steps import Talk
from eigenfeatures.export.versions import versions


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
    if not options.resume:
        check_vacant(out)
    clock = Clock(keep=options.profile)
    engine = open_engine(model, options.outputs, options.engine, options.device, clock, tf32=options.tf32)
    talk.say(f"running on '{engine.name}' ({engine.reason})")
    try:
        sources = open_sources(stacks, options.reading, engine.facts)
        try:
            engine = fit_engine(
                engine,
                model,
                options.outputs,
                sources,
                clock,
                talk.say,
                overlap=options.reading.overlap,
                tf32=options.tf32,
            )
            job = _Job.start(engine, sources, out, options, clock, talk)
            return job.complete()
        except KeyboardInterrupt as stop:
            raise InterruptedError("interrupted; 'infer' continues with --resume") from stop
        finally:
            close_sources(sources)
    finally:
        engine.close()
        if options.profile and (out / "infer.json").is_file():
            clock.write_trace(out / "trace.json")


@dataclass(frozen=True)
class _Job:
    engine: Engine
    sources: Sequence[Source]
    folder: JobFolder
    plan: BlockPlan
    volumes: Volumes
    clock: Clock
    talk: Talk

    @classmethod
    def start(
        cls,
        engine: Engine,
        sources: Sequence[Source],
        out: Path,
        options: Options,
        clock: Clock,
        talk: Talk,
    ) -> "_Job":
        probed = probe(engine, sources[0])
        clock.seconds.clear()  # of the warm-up
        planned = choose_plan(engine, probed.demand, options.batch, options.max_memory)
        folder = open_folder(out, _record(engine, sources, options, planned), options.resume)
        plan = BlockPlan(**folder.record["plan"])
        peak = probed.demand.peak(plan.batch, plan.block)
        talk.say(f"blocks of {plan.block} slices, {plan.batch} at once: at most about {format_bytes(peak)}")
        shapes = _volume_shapes(probed)
        volumes = make_volumes(options.format, out, sources, shapes, engine.facts, plan.block)
        return cls(engine, sources, folder, plan, volumes, clock, talk)

    def complete(self) -> dict[str, Any]:
        start, done = time.perf_counter(), self._slices_done()
        if not self.folder.table.is_file():
            self._run_blocks()
            with self.clock.span("finish"):
                self._finish()
        # Also where a kill came between the table and this.
        self.folder.finish()
        took = time.perf_counter() - start
        filled = sum(source.stack.filled for source in self.sources)
        facts = summarise(self.folder.table, self.engine.facts.classes)
        return {
            "folder": str(self.folder.path),
            **facts,
            **({"filled_slices": filled} if filled else {}),
            "engine": self.engine.name,
            "slices_per_second": (facts["slices"] - done) / took,
            "seconds": dict(self.clock.seconds),
            "share": self.clock.shares(),
        }

    def _slices_done(self) -> int:
        return sum(part.length for part in self._parts() if part.number in self.folder.done)

    def _parts(self) -> Iterator[Part]:
        return self.plan.parts([len(source.indices) for source in self.sources])

    def _run_blocks(self) -> None:
        done = self.folder.done
        left = [part for part in self._parts() if part.number not in done]
        if done:
            self.talk.say(f"{len(done)} of {len(done) + len(left)} blocks are done already")
        results = run_blocks(
            self.engine,
            self.sources,
            left,
            self.plan.batch,
            self.clock,
            self.talk.say,
            Stage("write", self._write),
        )
        with closing(results):
            slices = (number for part in results for number in range(part.length))
            for _ in self.talk.track(slices, "slices", sum(part.length for part in left)):
                pass

    def _write(self, work: Work) -> Part:
        maps = {name: array for name, array in work.arrays.items() if is_volume(array)}
        numbers = {name: array for name, array in work.arrays.items() if name not in maps}
        kept = self.volumes.write(work.part, maps)
        self.folder.commit(work.part.number, {**numbers, **kept})
        return work.part

    def _finish(self) -> None:
        for source in self.sources:
            source.check_unchanged()
        parts = list(self._parts())
        self.volumes.finish(parts, self.folder.load)
        write_blocks(
            self.folder.table,
            (
                columns(
                    self.sources[part.stack].name, self.folder.load(part.number), self.engine.facts.classes
                )
                for part in parts
            ),
        )


def summarise(table: Path, classes: Iterable[str]) -> dict[str, Any]:
    """Count the rows of ``slices.csv``; where the stacks are named after classes, also the right ones."""
    slices = flagged = right = 0
    known, labelled = set(classes), True
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sample = row["stack"].partition("/")[0]
            slices += 1
            flagged += bool(row["flag"])
            labelled = labelled and sample in known and "predicted" in row
            right += row.get("predicted") == sample
    facts: dict[str, Any] = {"slices": slices, "flagged_slices": flagged}
    return {**facts, "accuracy": right / slices} if labelled else facts


def _record(engine: Engine, sources: Sequence[Source], options: Options, plan: BlockPlan) -> dict[str, Any]:
    return {
        "model": {"sha256": engine.facts.sha256},
        "settings": {
            "engine": engine.name,
            "outputs": engine.outputs,
            "tf32": options.tf32,
            "format": options.format,
            "batch_size": options.batch,
            **describe(options.reading),
        },
        "plan": {"batch": plan.batch, "block": plan.block},
        "stacks": {source.name: source.identity for source in sources},
        "versions": versions(),
    }


def _volume_shapes(probed: Probe) -> dict[str, tuple[int, int, int]]:
    shapes = {name: array.shape[1:] for name, array in probed.outputs.items() if is_volume(array)}
    return {name: (channels, height, width) for name, (channels, height, width) in shapes.items()}
