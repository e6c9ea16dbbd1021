"""Measure an operation: every library checked, then their rounds taken in turn.

pytest-benchmark owns the timing of ours: its `pedantic` mode times one call a round, and before
each round calls a set-up, which it doesn't time. That set-up is where each peer has its
round, timed by the same clock. So rounds alternate (A B C A B C …), a disturbance of the
machine strikes all libraries alike, and ratios are taken between neighbours in time.
Slow peers sit out most rounds.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from compiling import watching
from peers import threads
from peers.cuda import Queued
from peers.table import Library, Operation, Reopened, Work, WrongAnswer


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes
    ----------
    name
        ``full``, ``quick`` or ``smallest``.
    seconds
        To spend on each library of an operation, about.
    least, most
        Bounds for the number of rounds.
    warm_up
        Seconds for which a library works before a round without being timed. Caches and threads are then
        as after its own work: other libraries' threads go on turning after theirs, and for about
        0.1 s were seen to take a core from the next library.
    """

    name: str
    seconds: float
    least: int
    most: int
    warm_up: float


# Seconds of work that are queued on a GPU at a time, and calls. There a call returns before its work is
# done, so that in a loop what Python does for the next one costs nothing.
_QUEUED = 0.01
_MOST_CALLS = 20

# A call this many times as long as the warm-up goes without, which would be a whole call more: what other
# libraries' threads can take of it, one of two cores for 0.1 s, is at most 6 %, and of 3 s less than 2 %.
_LONG = 6

EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("full", 0.5, 5, 9, 0.15),
        Effort("quick", 0.1, 3, 3, 0.05),
        Effort("smallest", 0.0, 1, 1, 0.0),
    )
}


@dataclass
class Timing:
    """A library's rounds.

    Attributes
    ----------
    library
        Which.
    first_call
        Seconds of the first call: with what it compiles or loads.
    compile
        Seconds of it in which it compiled, as in `ledger.Row`.
    seconds
        By the number of the round.
    remark
        Why there are none.
    """

    library: Library
    first_call: float = np.nan
    seconds: dict[int, float] = field(default_factory=dict)
    remark: str = ""
    compile: float = np.nan


@dataclass(frozen=True)
class Measured:
    """What was measured: the operation, its input and each library's rounds, ours first."""

    operation: Operation
    work: Work
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class _Runner:
    """A library that has passed its check."""

    timing: Timing
    call: Callable[[], Any]
    rounds: int
    warm_up: float
    calls: int

    def run(self) -> None:
        """Make the calls of one round: one, or as many as are queued on a GPU."""
        if isinstance(self.call, Queued):
            self.call(self.calls)
        else:
            self.call()

    def is_due(self, number: int, rounds: int) -> bool:
        """Spread the library's rounds evenly over all."""
        return number * self.rounds // rounds != (number - 1) * self.rounds // rounds

    def ready(self) -> None:
        """Do what isn't timed."""
        self.timing.library.before()
        start = time.perf_counter()
        while time.perf_counter() - start < self.warm_up:
            self.call()
        if isinstance(self.call, Reopened):
            self.call.open()


def measure(benchmark: Any, operation: Operation, effort: Effort) -> Measured:
    """Measure all libraries of an operation.

    Parameters
    ----------
    benchmark
        pytest-benchmark's fixture.
    operation
        From the table of peers.
    effort
        How much to measure, and by its name at which of `Operation.sizes`.

    Raises
    ------
    WrongAnswer
        Where ours is wrong. A peer that is wrong isn't timed, and its `Timing.remark` says so.
    """
    work = operation.prepare(operation.sizes[effort.name])
    timings = tuple(Timing(library) for library in operation.libraries)
    runners = [_checked(timing, operation, work, effort) for timing in timings]
    ours, others = runners[0], [runner for runner in runners[1:] if runner is not None]
    if ours is None:
        raise WrongAnswer(f"{operation.name}: ours: {timings[0].remark}")
    numbers = itertools.count()

    def others_first() -> None:
        number = next(numbers)
        due = [runner for runner in others if runner.is_due(number, ours.rounds)]
        turn = number % max(len(due), 1)
        for runner in due[turn:] + due[:turn]:
            runner.ready()
            runner.timing.seconds[number] = _seconds(runner.run)[0] / runner.calls
        ours.ready()

    benchmark.group = f"eigenfeatures, {operation.device}"
    benchmark.pedantic(ours.run, setup=others_first, rounds=ours.rounds)
    if benchmark.stats is None:  # with --benchmark-disable
        for timing in timings:
            timing.seconds.clear()
    else:
        ours.timing.seconds |= enumerate(seconds / ours.calls for seconds in benchmark.stats.stats.data)
    return Measured(operation, work, timings)


def _checked(timing: Timing, operation: Operation, work: Work, effort: Effort) -> _Runner | None:
    """Set a library up and check its answer; return None, with a remark, where it has no rounds to come."""
    library = timing.library
    if effort.name == "quick" and not library.in_quick:
        timing.remark = "only in a full run"
        return None
    if not library.installed:
        timing.remark = f"not installed: {library.module}"
        return None
    try:
        call = library.prepare(work.given)
        threads.hold()
        library.before()
        with watching(operation.device) as compiling:
            timing.first_call, answer = _seconds(call)
        if compiling.seconds or library.module == "numba":
            timing.compile = compiling.seconds
        operation.check_of(library, work)(answer)
    except WrongAnswer as error:
        timing.remark = f"wrong, so not timed: {error}"
        return None
    except Exception as error:  # a peer's, of any type, which must not keep the others from being measured
        if library.role == "ours":
            raise
        timing.remark = f"failed, so not timed: {type(error).__name__}: {error}"
        return None
    del answer
    if library.heavy:
        timing.seconds[0] = timing.first_call
        return None
    # Where one round is all there is, a second call would only cost time.
    estimate = min(timing.first_call, _seconds(call)[0]) if effort.seconds else timing.first_call
    calls = int(np.clip(_QUEUED / max(estimate, 1e-9), 1, _MOST_CALLS)) if isinstance(call, Queued) else 1
    rounds = int(np.clip(effort.seconds / max(calls * estimate, 1e-9), effort.least, effort.most))
    warm_up = effort.warm_up if estimate < _LONG * effort.warm_up else 0.0
    return _Runner(timing, call, rounds, warm_up, calls)


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer
