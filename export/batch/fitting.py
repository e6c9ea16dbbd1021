"""An engine that suits the size of the slices."""

from collections.abc import Callable, Sequence
from pathlib import Path

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine
from eigenfeatures.export.batch.source import Source
from eigenfeatures.export.batch.windows import OVERLAP
from eigenfeatures.export.outputs import ALPHA, DECOMPOSITION

Size = tuple[int, int]


def fit_engine(
    engine: Engine,
    model: Path,
    asked: Sequence[str] | None,
    sources: Sequence[Source],
    clock: Clock,
    say: Callable[[str], None],
    *,
    overlap: float | None = None,
    tf32: bool = False,
    threads: int | None = None,
) -> Engine:
    """Return an engine for the slices of stacks: the given one, unless they are larger than its window.

    A file that was exported for any size computes the whole slice at once, and keeps its engine too. What the
    default outputs of a model lack for large slices is said.

    Parameters
    ----------
    engine
        As `open_engine` opened it; closed where another one takes its place.
    model
        What it was opened from.
    asked
        The outputs that a person named; None for the default ones, of which a large slice may have fewer.
    sources
        At least one.
    clock
        Measures the parts of the work.
    say
        Tells a person what is done.
    overlap
        Of windows; None for the usual one.
    tf32, threads
        As for `eigenfeatures.export.batch.engine.open_engine`.

    Raises
    ------
    InputError
        When the stacks' slices differ in size, or what was asked for can't be had of large ones.
    """
    size = _one_size(sources)
    window = engine.facts.window
    if window is None or (size[0] <= window[0] and size[1] <= window[1]):
        return engine
    if engine.facts.size is None and not model.is_dir():
        say(f"{model} computes each slice as a whole; the folder of its run does so in tiles, in less memory")
        return engine
    from eigenfeatures.export.batch.large_slices import LargeSlices

    outputs = _outputs(engine, model, asked, size, window)
    if left_out := [name for name in engine.outputs if name not in outputs]:
        say(
            f"{model} gives no {_names(left_out)} of slices of {_sides(size)} pixels, which are larger than "
            f"its {_sides(window)}: left out{_advice(left_out)}"
        )
    chosen = OVERLAP if overlap is None else overlap
    large = LargeSlices(engine, model, outputs, size, clock, say, overlap=chosen, tf32=tf32, threads=threads)
    engine.close()
    return large


def _one_size(sources: Sequence[Source]) -> Size:
    for source in sources:
        if source.size != sources[0].size:
            raise InputError(
                f"{source.stack.path} gives slices of {_sides(source.size)} pixels and "
                f"{sources[0].stack.path} of {_sides(sources[0].size)}; infer them apart, or cut one --roi"
            )
    return sources[0].size


def _outputs(engine: Engine, model: Path, asked: Sequence[str] | None, size: Size, window: Size) -> list[str]:
    """Return which arrays of an engine can be had of large slices."""
    of_large = ("probabilities", "alpha", *DECOMPOSITION) if model.is_dir() else ("probabilities",)
    found = [name for name in engine.outputs if name in of_large or (name in ALPHA and "alpha" in of_large)]
    if found and (asked is None or len(found) == len(engine.outputs)):
        return found
    name = next(name for name in engine.outputs if name not in found)
    of_run = name in (*ALPHA, *DECOMPOSITION)
    advice = "give the folder of its run" if of_run else f"choose among {', '.join(of_large)}"
    raise InputError(
        f"{model} gives no '{name}' of slices of {_sides(size)} pixels, which are larger than its "
        f"{_sides(window)}; {advice}, or cut the slices with --roi top,left,height,width"
    )


def _advice(left_out: Sequence[str]) -> str:
    """Return what gives outputs that a fixed graph lacks for large slices, if anything does."""
    if not {*left_out} & {*ALPHA, *DECOMPOSITION}:
        return ""
    return "; give the folder of its run, whose weights allow tiles, or a file made by 'export --any-size'"


def _names(outputs: Sequence[str]) -> str:
    """Return names as a person gives them: ``alpha`` stands for three."""
    return ", ".join(dict.fromkeys("alpha" if name in ALPHA else name for name in outputs))


def _sides(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
