"""Batch inference from Python: blocks of results, one after the other."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError, whole_number
from eigenfeatures.eigen.stacks import Stack
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, open_engine
from eigenfeatures.export.batch.fitting import fit_engine
from eigenfeatures.export.batch.job import run_blocks, survey
from eigenfeatures.export.batch.opening import tf32_accuracy
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import BlockPlan, parse_bytes
from eigenfeatures.export.batch.source import Reading, Source, open_any, source_of
from eigenfeatures.export.outputs import parse_outputs

LIBRARIES = ("numpy", "torch", "cupy")

_LOG = logging.getLogger("eigenfeatures")


@dataclass(frozen=True)
class Block:
    """Results of consecutive slices.

    Attributes
    ----------
    first : int
        How many slices came before.
    indices : ndarray of int64, shape (n,)
        The slices' numbers in the stack.
    arrays : dict
        Statistics (``mean``, ``deviation``, ``mean_gradient``, ``total_variation``) and ``filled`` (some of
        the slice's data are missing), always of NumPy, and the outputs by name, each ``(n, …)``.
    """

    first: int
    indices: NDArray[Any]
    arrays: dict[str, Any]


def infer(
    model: str | Path,
    stack: str | Path | Stack,
    *,
    outputs: str | Sequence[str] | None = None,
    batch: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    max_memory: str | float | None = None,
    tf32: bool = False,
    reading: Reading | None = None,
    library: str = "numpy",
    say: Callable[[str], None] | None = None,
) -> Iterator[Block]:
    """Run a model over a stack of any length, block by block.

    Reading, statistics and the network work ahead in threads while a block is looked at.

    Parameters
    ----------
    model
        An exported ``.onnx`` file, or the folder of a run.
    stack
        A path, or a stack that is open and stays so.
    outputs
        Names of the model's outputs, or a text of them with commas between; by default all but response maps.
    batch
        Slices that the engine gets at once.
    device
        ``auto``, ``cpu`` or ``cuda``.
    engine
        ``auto``, ``ort-cpu``, ``ort-cuda`` or ``torch``.
    max_memory
        What the process may hold, such as ``"4GB"``, or a number of bytes; by default half of what is free.
    tf32
        Let convolutions and matrix products on a GPU round their factors to 10 bits; refused on a CPU. What
        that changes is measured on a slice first, and said.
    reading
        Axis, step, region, voxel size and overlap of windows; by default whole slices, all of them. An open
        stack has its axis already.
    library
        Whose arrays the outputs are: ``numpy``, ``torch`` or, on a GPU, ``cupy``. What was computed on a GPU
        is not downloaded for the latter two, so that a few blocks are in its memory at once; of slices
        larger than the model's it is. Not yet run on a GPU.
    say
        Gets what the command would print, line by line: which engine was chosen and why, what is left out,
        and when a batch was halved for want of memory. By default these go to the logger ``eigenfeatures``,
        the last one as a warning and the others as information.

    Returns
    -------
    iterator of Block
        In the order of the slices. Closing it stops the threads.

    Raises
    ------
    InputError
        At once when model and stack can't be used; while iterating when a slice can't be read.

    Examples
    --------
    ::

        for block in export.infer("run1", "scan.tif", outputs=["probabilities", "eigenfeatures"]):
            labels = block.arrays["probabilities"].argmax(1)
    """
    if library not in LIBRARIES:
        raise InputError(f"library '{library}' is unknown; choose one of {', '.join(LIBRARIES)}")
    if batch is not None and whole_number(batch, "batch") < 1:
        raise InputError(f"batch {batch} is out of range; give at least 1")
    if isinstance(stack, Stack) and reading is not None:
        _check_open(stack, reading)
    clock, chosen = Clock(), reading or Reading()
    file, place = _path("model", model), stack if isinstance(stack, Stack) else _path("stack", stack)
    asked = parse_outputs(outputs) if isinstance(outputs, str) else outputs
    limit = max_memory if max_memory is None or isinstance(max_memory, str) else f"{max_memory:f}"
    if limit is not None:
        parse_bytes(limit)  # refuses what is none before a model is opened
    inform, warn = (_LOG.info, _LOG.warning) if say is None else (say, say)
    opened = open_engine(file, asked, engine, device, clock, tf32=tf32, keep=library != "numpy")
    with ExitStack() as failing:
        failing.callback(lambda: opened.close())  # whichever it is by then
        found = place if isinstance(place, Stack) else failing.enter_context(open_any(place, chosen))
        if library == "cupy" and opened.name.endswith("cpu"):
            raise InputError(f"library 'cupy' needs a GPU, and this runs on '{opened.name}'; use 'torch'")
        inform(f"running on '{opened.name}' ({opened.reason})")
        source = source_of(found, chosen, opened.facts)
        for note in found.notes:
            inform(note)
        opened = fit_engine(opened, file, asked, [source], clock, inform, overlap=chosen.overlap, tf32=tf32)
        if tf32:
            names = None if asked is None else tuple(asked)
            options = Options(outputs=names, engine=engine, device=device, tf32=True, reading=chosen)
            inform(tf32_accuracy(opened, file, options, [source]))
        plan = survey(opened, [source], batch, limit).plan
        blocks = _blocks(opened, source, plan, clock, library, warn, failing.pop_all())
        next(blocks)
    return blocks


def _path(name: str, given: object) -> Path:
    if isinstance(given, str | os.PathLike):
        return Path(given)
    raise InputError(f"{name} is a {type(given).__name__}, no path; save it to a file and give its path")


def _check_open(stack: Stack, reading: Reading) -> None:
    """Refuse what can only be chosen while a stack is opened."""
    for name in ("axis", "shape", "dtype", "missing"):
        if getattr(reading, name) != getattr(Reading, name):
            raise InputError(f"{stack.path} is open, so that its {name} is settled; give it to open_volume")


def _blocks(
    engine: Engine,
    source: Source,
    plan: BlockPlan,
    clock: Clock,
    library: str,
    warn: Callable[[str], None],
    held: ExitStack,
) -> Iterator[Block]:
    """Yield an empty block and then those of the stack, and close what is `held` at the end.

    Python runs no line of a generator that is closed before it has begun. Whoever takes the first block has
    begun this one.
    """
    parts = plan.parts([len(source.indices)])
    with held:
        yield Block(0, source.indices[:0], {})
        with closing(run_blocks(engine, [source], parts, plan.batch, clock, warn)) as results:
            for work in results:
                numbers = work.arrays.pop("slice")
                for name in engine.outputs:
                    work.arrays[name] = _of_library(work.arrays[name], library)
                yield Block(work.part.first, numbers, work.arrays)
                del work
        source.check_unchanged()


def _of_library(array: Any, library: str) -> Any:
    """Return an array of NumPy or torch as one of the library asked for; a copy only where it must be."""
    if library == "torch":
        import torch

        tensor = torch.as_tensor(array)
        if tensor.is_cuda:  # blocks are put together on the default stream
            torch.cuda.default_stream(tensor.device).synchronize()
        return tensor
    if library == "cupy":
        import cupy

        cupy.cuda.Stream.null.synchronize()
        return cupy.asarray(array)
    return array
