"""What the table of peers is made of: operation → library → set-up → call → check of its answer.

The correctness tests and the benchmarks read the same table, so no library is timed on
work whose answer isn't checked.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Role = Literal["ours", "other", "peer", "roof"]
EVERY_PEER = "every peer"


class WrongAnswer(Exception):
    """An answer that fails its operation's check."""


class Check(Protocol):
    """Judge of answers, which brings its own negative controls."""

    def __call__(self, answer: Any) -> None:
        """Raise `WrongAnswer` unless the answer is right."""

    def wrong(self, answer: Any) -> Iterator[tuple[str, Any]]:
        """Yield wrong answers, made from a right one, and what is wrong with each."""


@dataclass(frozen=True)
class Work:
    """An operation's input at one size, and what doing it takes.

    Attributes
    ----------
    given
        What every library's set-up receives.
    check
        Judges the answers.
    size
        Of the input, for people.
    bytes, flops
        The least that any method has to read and write, and to compute; 0 flops where
        arithmetic isn't what limits.
    about
        Further properties of the input, such as its σ₂/σ₁.
    transfer
        Seconds in which the input went from the host to the device.
    """

    given: Any
    check: Check
    size: str
    bytes: int
    flops: int = 0
    about: str = ""
    transfer: float | None = None


def nothing() -> None:
    """Do nothing."""


class Reopened:
    """A call on something that is opened before each round, which isn't timed, and used up by it.

    Called without having been opened it opens first, so that the first call of a run holds that too.

    Parameters
    ----------
    opening
        Gives what `work` uses up.
    work
        Makes the answer of it.
    """

    def __init__(self, opening: Callable[[], Any], work: Callable[[Any], Any]) -> None:
        self._opening, self._work = opening, work
        self._opened: Any = None

    def open(self) -> None:
        """Make ready for one call."""
        self._opened = self._opening()

    def __call__(self) -> Any:
        """Do the work."""
        if self._opened is None:
            self.open()
        opened, self._opened = self._opened, None
        return self._work(opened)


@dataclass(frozen=True)
class Library:
    """One way to do an operation.

    Attributes
    ----------
    name, setting
        Of whom, and which of its ways.
    module
        What has to be installed; its version goes into the ledger.
    prepare
        Set-up, which isn't timed: from `Work.given` to the call that is.
    role
        ``ours``, a ``peer``, an ``other`` function of ours for comparison, or a ``roof``:
        the least that the memory allows, by work that does nothing else.
    before
        Run before each call and not timed, for settings that libraries share.
    check
        For those whose answer isn't the operation's: makes their check from `Work.given`.
    in_quick
        Whether it takes part in a quick run; of ours, whether the operation does.
    heavy
        Takes so long that its first call is its only round.
    also
        Further modules whose versions go into the ledger.
    """

    name: str
    setting: str
    module: str
    prepare: Callable[[Any], Callable[[], Any]]
    role: Role = "peer"
    before: Callable[[], None] = nothing
    check: Callable[[Any], Check] | None = None
    in_quick: bool = True
    heavy: bool = False
    also: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name with the setting."""
        return f"{self.name}, {self.setting}" if self.setting else self.name

    @property
    def installed(self) -> bool:
        """Whether it can be called here."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """Its modules with the installed versions."""
        names = (self.module, *self.also)
        return ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in names)


@dataclass(frozen=True)
class Target:
    """How much faster ours should be: time of the others over time of ours.

    Attributes
    ----------
    against
        A library's name or label; of several settings the fastest counts. `EVERY_PEER`
        stands for the fastest peer of all.
    at_least
        The least ratio.
    text
        The target as the project states it.
    """

    against: str
    at_least: float
    text: str


@dataclass(frozen=True)
class Limit:
    """How long ours may take.

    Attributes
    ----------
    seconds
        The largest median.
    text
        The target as the project states it.
    """

    seconds: float
    text: str


@dataclass(frozen=True)
class Operation:
    """Work that several libraries do.

    Attributes
    ----------
    name
        Unique in the table.
    sizes
        What `prepare` takes, by the name of an `Effort`.
    prepare
        Makes the input, the same on every call.
    libraries
        Ours is the first.
    targets
        What is to be reached on two cores (or on one GPU).
    device
        ``cpu`` or ``cuda``.
    """

    name: str
    sizes: Mapping[str, tuple[int, ...]]
    prepare: Callable[[tuple[int, ...]], Work]
    libraries: tuple[Library, ...]
    targets: tuple[Target | Limit, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"

    def check_of(self, library: Library, work: Work) -> Check:
        """Return what judges a library's answer."""
        return work.check if library.check is None else library.check(work.given)
