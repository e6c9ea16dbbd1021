"""What a job works with, opened the same way in the process of a command and in a cluster's workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.export.accuracy import compare
from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, open_engine
from eigenfeatures.export.batch.fitting import fit_engine
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.source import Source, close_sources, open_sources

# Stacks that TF32 is tried on, by one slice of each.
_COMPARED = 8


@contextmanager
def open_work(
    model: Path, stacks: Sequence[Path], options: Options, clock: Clock, say: Callable[[str], None]
) -> Iterator[tuple[Engine, list[Source]]]:
    """Open a model and stacks, and an engine that suits the slices.

    Parameters
    ----------
    model
        An exported ``.onnx`` file, or the folder of a run.
    stacks
        Each a stack, or a folder of samples.
    options
        Engine, device, outputs, threads and what to read.
    clock
        Measures the parts of the engine's work.
    say
        Tells a person what was chosen.

    Yields
    ------
    (Engine, list of Source)
        Closed at the end.

    Raises
    ------
    InputError
        When the model or a stack can't be used.
    """
    engine = _opened(model, options, clock)
    say(f"running on '{engine.name}' ({engine.reason})")
    sources: list[Source] = []
    try:
        sources = open_sources(stacks, options.reading, engine.facts)
        for note in (note for source in sources for note in source.notes):
            say(note)
        engine = _fitted(engine, model, options, sources, clock, say)
        if options.tf32:
            say(tf32_accuracy(engine, model, options, sources))
        yield engine, sources
    finally:
        close_sources(sources)
        engine.close()


def _opened(model: Path, options: Options, clock: Clock) -> Engine:
    return open_engine(
        model,
        options.outputs,
        options.engine,
        options.device,
        clock,
        tf32=options.tf32,
        threads=options.threads,
    )


def _fitted(
    engine: Engine,
    model: Path,
    options: Options,
    sources: Sequence[Source],
    clock: Clock,
    say: Callable[[str], None],
) -> Engine:
    return fit_engine(
        engine,
        model,
        options.outputs,
        sources,
        clock,
        say,
        overlap=options.reading.overlap,
        tf32=options.tf32,
        threads=options.threads,
    )


def tf32_accuracy(engine: Engine, model: Path, options: Options, sources: Sequence[Source]) -> str:
    """Say what TF32 changes in the results of a few slices, from all over the stacks.

    Parameters
    ----------
    engine
        With TF32; it may keep its results on the GPU.
    model
        What it was opened from.
    options
        How it was opened.
    sources
        At least one.
    """
    exact = replace(options, tf32=False)
    places = np.unique(np.linspace(0, len(sources) - 1, _COMPARED).astype(int))
    chosen = [sources[place] for place in places]
    reference = _opened(model, exact, Clock())
    try:
        reference = _fitted(reference, model, exact, sources, Clock(), lambda _: None)
        exactly, roughly = (Batches(one, 1, lambda _: None) for one in (reference, engine))
        slices = (source.read(len(source.indices) // 2, 1) for source in chosen)
        found = compare(exactly, lambda one: _on_host(roughly(one)), slices)
    finally:
        reference.close()
    measures = ", ".join(f"{name} {value:.6f}" for name, value in found.measures.items())
    return f"TF32 against float32, by {found.slices} slices: {measures or 'these outputs tell nothing of it'}"


def _on_host(arrays: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return arrays, which may be CuPy's or tensors, as NumPy's."""
    found = {name: array.cpu() if hasattr(array, "cpu") else array for name, array in arrays.items()}
    return {
        name: array.get() if hasattr(array, "get") else np.asarray(array) for name, array in found.items()
    }
