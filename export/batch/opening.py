"""What a job works with, opened the same way in the process of a command and in a cluster's workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, open_engine
from eigenfeatures.export.batch.fitting import fit_engine
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.source import Source, close_sources, open_sources


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
    engine = open_engine(
        model,
        options.outputs,
        options.engine,
        options.device,
        clock,
        tf32=options.tf32,
        threads=options.threads,
    )
    say(f"running on '{engine.name}' ({engine.reason})")
    sources: list[Source] = []
    try:
        sources = open_sources(stacks, options.reading, engine.facts)
        engine = fit_engine(
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
        yield engine, sources
    finally:
        close_sources(sources)
        engine.close()
