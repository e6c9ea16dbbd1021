"""How a stack is cut into blocks that fit the memory."""

import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.stages import DEPTH

# Blocks that exist at once. Raw: one in each of reading, preparing and inference, and those that
# wait between them. Results: one each in inference and writing, what waits between, and the copy that a
# writer makes of its block to compress it.
RAW_BLOCKS = 3 + 2 * DEPTH
RESULT_BLOCKS = 3 + DEPTH

# Blocks that a cluster's worker has in hand, whatever its threads. All may be results at once, beside the
# writer's copy: no more than in one process.
WORKER_BLOCKS = min(RAW_BLOCKS, RESULT_BLOCKS - 1)

# More would gain nothing, and a run that is killed loses a block.
MOST_BATCHES = 8

# For what is not counted one by one: libraries that are loaded later, pages of files, the allocator's slack.
_RESERVE = 128 * 2**20

_UNITS = {"": 1, "B": 1} | {
    prefix + end: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for end, base in (("B", 1000), ("IB", 1024), ("", 1024))
}


@dataclass(frozen=True)
class Demand:
    """What the work needs, in bytes.

    Attributes
    ----------
    raw, results : int
        Of one slice, as it is read and as it is written.
    working : int
        That the engine takes for each slice of a batch.
    alone : int, optional
        That it takes for one slice at once, where that is known to be less.
    resident : int
        That the process holds already.
    reading : int
        That reading takes beside the slices it gives.
    """

    raw: int
    results: int
    working: int
    resident: int
    reading: int
    alone: int | None = None

    def peak(self, batch: int, block: int) -> int:
        """Return how much memory is held at most."""
        working = batch * self.working if batch > 1 or self.alone is None else self.alone
        return (
            self.resident
            + _RESERVE
            + self.reading
            + working
            + block * (RAW_BLOCKS * self.raw + RESULT_BLOCKS * self.results)
        )


class Part(NamedTuple):
    """A block of one stack.

    Attributes
    ----------
    number
        Of the block in the whole job, from 0.
    stack
        Of the stack in the job, from 0.
    first, length
        Which of the stack's chosen slices: the first, and how many.
    """

    number: int
    stack: int
    first: int
    length: int


@dataclass(frozen=True)
class BlockPlan:
    """Slices a batch and slices a block, which is a whole number of batches.

    Since it is, results don't depend on how many batches a block has.
    """

    batch: int
    block: int

    def parts(self, lengths: Sequence[int]) -> Iterator[Part]:
        """Yield the blocks of stacks of these lengths; none holds slices of two stacks."""
        number = 0
        for stack, length in enumerate(lengths):
            for first in range(0, length, self.block):
                yield Part(number, stack, first, min(self.block, length - first))
                number += 1


def plan_blocks(
    demand: Demand,
    limit: int,
    batch: int,
    *,
    fixed: bool = False,
    by_default: bool = False,
    otherwise: str = "use a smaller --roi",
) -> BlockPlan:
    """Choose the largest block that keeps the process within its limit, up to `MOST_BATCHES` batches.

    Parameters
    ----------
    demand
        What the work needs.
    limit
        Bytes that the process may hold.
    batch
        Slices that the engine should get at once; halved where memory is short.
    fixed
        The batch was asked for, and is not to be halved.
    by_default
        The limit was not asked for; said where it is too little.
    otherwise
        What a person can do where not even one slice fits.

    Returns
    -------
    BlockPlan

    Raises
    ------
    InputError
        When not even the smallest block fits; it says what would.
    """
    while not fixed and batch > 1 and demand.peak(batch, batch) > limit:
        batch //= 2
    needed = demand.peak(batch, batch)
    if needed > limit:
        advice = "use a smaller --batch-size" if batch > 1 else otherwise
        number = f"{batch} slices" if batch > 1 else "even one slice"
        allowed = format_bytes(limit) + (" (by default half of what is free)" if by_default else "")
        raise InputError(
            f"--max-memory {allowed} is too little for {number} at once: {format_bytes(needed)} in "
            f"all; allow that much or {advice}"
        )
    step = demand.peak(batch, 2 * batch) - needed
    batches = min(MOST_BATCHES, 1 + (limit - needed) // max(step, 1))
    return BlockPlan(batch, batch * batches)


def parse_bytes(text: str) -> int:
    """Read a size such as ``4GB``, ``512MiB`` or ``2000000``.

    Raises
    ------
    InputError
        For anything else, and for nothing at all.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(found[2].upper()) if found else None
    size = float(found[1]) * unit if found and unit else 0.0
    if not 1 <= size < math.inf:
        raise InputError(f"--max-memory {text!r} is no size; give one such as 4GB or 512MiB")
    return int(size)


def format_bytes(size: int) -> str:
    """Write a size for people, in powers of 1024."""
    if size < 2**20:
        return f"{size} bytes"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{round(size / 2**20)} MiB"


def working_set(work: Callable[[], object], interval: float = 0.002) -> int:
    """Return by how many bytes the process grows at most while `work` runs.

    Measured, not computed: what a runtime takes beside its results depends on its
    version and its algorithms, and nobody states it.
    """
    process = psutil.Process()
    before = largest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(interval):
            largest = max(largest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return int(max(largest, process.memory_info().rss) - before)
