"""A model on stacks, made ready: which slices, how large a block, and the stages between them."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.free_memory import free_memory
from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.machine import machine
from eigenfeatures.export.batch.plan import BlockPlan, Demand, Part, parse_bytes, plan_blocks, working_set
from eigenfeatures.export.batch.source import Source
from eigenfeatures.export.batch.stages import Stage, run_stages
from eigenfeatures.export.batch.table import statistics_columns
from eigenfeatures.export.batch.whole_graph import WAY_OUT, check_room, is_whole_graph
from eigenfeatures.kernels import slice_statistics

# Slices that an engine gets at once, by the end of its name.
_BATCH = {"cpu": 4, "cuda": 64}

Arrays = dict[str, NDArray[Any]]


@dataclass
class Work:
    """A block on its way through the stages.

    Attributes
    ----------
    part : Part
        Which slices.
    slices : ndarray
        Raw, ``(n, H, W)``; empty once the engine has seen them.
    arrays : dict
        What is known of each slice: ``slice`` (its number in the stack), ``filled`` (whether some of
        its data are missing), statistics, and the engine's outputs, each ``(n, …)``.
    """

    part: Part
    slices: NDArray[Any]
    arrays: Arrays


@dataclass(frozen=True)
class Probe:
    """What one slice told before the work began.

    Attributes
    ----------
    demand : Demand
        Of memory.
    outputs : dict
        What the engine gave for it, each ``(1, …)``.
    """

    demand: Demand
    outputs: Arrays


def probe(engine: Engine, sources: Sequence[Source], limit: int | None = None) -> Probe:
    """Run one slice, which compiles and warms up all that is needed, and measure what more take.

    Where two at once might exceed `limit` bytes in all, by what the first one took, that one is run again
    in their place.
    """
    slices = sources[0].read(0, 1)
    reading = _measure_reading(sources)
    statistics = slice_statistics(slices, engine.facts.operator)
    run = Batches(engine, 2, lambda _: None)
    outputs: Arrays = {}
    first = working_set(lambda: outputs.update(run(slices)))
    results = sum(array.nbytes for array in (*outputs.values(), *statistics))
    resident = _resident()
    least = slices.nbytes + results
    demand = Demand(slices.nbytes, results, max(first, least), resident, reading)
    if engine.name.endswith("cuda"):
        # What it takes of the host are the batches on their way: two up, and three down.
        demand = replace(demand, working=2 * slices.nbytes + 3 * results)
    elif limit is not None and demand.peak(2, 2) > limit:
        demand = replace(demand, alone=max(working_set(lambda: run(slices)), least))
    else:
        # Of two at once: a runtime that keeps its buffers has those of the first slice already.
        two = np.concatenate([slices, slices])
        demand = replace(demand, working=max(working_set(lambda: run(two)), least))
    return Probe(demand, outputs)


def _measure_reading(sources: Sequence[Source]) -> int:
    """Return what reading a block takes, such as the chunks at work, by a slice of each kind of stack.

    Twice as much as for the slice: a block may lie in two layers of chunks. Where it lies in more, they are
    thin, and small beside the block.
    """
    kinds = {(type(source.stack), source.size, source.stack.dtype): source for source in sources}
    return 2 * max(working_set(partial(source.read, 0, 1)) for source in kinds.values())


@dataclass(frozen=True)
class Survey:
    """What is to be known of a model before its blocks are computed, here or elsewhere.

    Attributes
    ----------
    name, outputs, facts
        Of the engine.
    probe : Probe
        What one slice told.
    plan : BlockPlan
        How the stacks are cut.
    machine : dict
        Where the slice was run; see `eigenfeatures.export.batch.machine.machine`.
    """

    name: str
    outputs: tuple[str, ...]
    facts: ModelFacts
    probe: Probe
    plan: BlockPlan
    machine: dict[str, Any]


def survey(
    engine: Engine, sources: Sequence[Source], batch: int | None, max_memory: str | None, share: int = 1
) -> Survey:
    """Run one slice and plan the blocks; `share` processes like this one share what memory is free.

    Raises
    ------
    InputError
        When `max_memory` is no size, or too small, or a file gives other classes than it names.
    """
    resident = _resident()
    limit = _limit(resident, max_memory, share)
    check_room(engine, sources[0].size, limit - resident)
    probed = probe(engine, sources, limit)
    _check_classes(engine, probed.outputs)
    plan = choose_plan(engine, probed.demand, batch, max_memory, share)
    return Survey(engine.name, engine.outputs, engine.facts, probed, plan, machine(engine))


def _check_classes(engine: Engine, outputs: Arrays) -> None:
    """Refuse a file whose classes aren't those of its probabilities."""
    for name in ("probabilities", "logits"):
        known = len(engine.facts.classes)
        if name in outputs and outputs[name].shape[1] != known:
            raise InputError(
                f"{engine.facts.file} names {known} classes, and gives {name} of {outputs[name].shape[1]}; "
                "export the model again"
            )


def choose_plan(
    engine: Engine, demand: Demand, batch: int | None, max_memory: str | None, share: int = 1
) -> BlockPlan:
    """Choose batch and block for an engine; by default within half of what is free.

    Of that half, a process gets its part where several share it.

    Raises
    ------
    InputError
        When `max_memory` is no size, or too small.
    """
    return plan_blocks(
        demand,
        _limit(demand.resident, max_memory, share),
        batch or _BATCH[engine.name.rpartition("-")[2]],
        fixed=batch is not None,
        by_default=max_memory is None,
        otherwise=WAY_OUT if is_whole_graph(engine) else "use a smaller --roi",
    )


def _limit(resident: int, max_memory: str | None, share: int) -> int:
    """Return how much the process may hold, which holds `resident` already."""
    return resident + free_memory() // (2 * share) if max_memory is None else parse_bytes(max_memory)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def run_blocks(
    engine: Engine,
    sources: Sequence[Source],
    parts: Iterable[Part],
    batch: int,
    clock: Clock,
    say: Callable[[str], None],
    *further: Stage,
) -> Generator[Any, None, None]:
    """Read, prepare and infer blocks, each in a thread, and yield them in order.

    Parameters
    ----------
    engine
        The model.
    sources
        The stacks.
    parts
        The blocks.
    batch
        Slices that the engine gets at once.
    clock
        Measures the stages.
    say
        Tells a person what happens.
    further
        Stages behind, such as writing; they get a `Work`.

    Yields
    ------
    Work
        Or what the last of the further stages gives.
    """
    run = Batches(engine, batch, say)

    stages = (
        Stage("read", partial(read_part, sources)),
        Stage("prepare", partial(prepare_part, engine)),
        Stage("infer", partial(infer_part, run)),
    )
    return run_stages(parts, (*stages, *further), clock)


def read_part(sources: Sequence[Source], part: Part) -> Work:
    """Read a block."""
    source = sources[part.stack]
    numbers = source.indices[part.first : part.first + part.length]
    slices = source.read(part.first, part.length)
    filled = np.array([source.stack.is_filled(int(number)) for number in numbers])
    return Work(part, slices, {"slice": numbers, "filled": filled})


def prepare_part(engine: Engine, work: Work) -> Work:
    """Add the statistics of a block's slices."""
    work.arrays |= statistics_columns(slice_statistics(work.slices, engine.facts.operator))
    return work


def infer_part(run: Batches, work: Work) -> Work:
    """Add the engine's outputs, and drop the slices."""
    work.arrays |= run(work.slices)
    work.slices = work.slices[:0].copy()
    return work
