"""The ledger: one row a library, operation and run, appended to a CSV file."""

import csv
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from measure import Effort, Measured, Timing
from peers import cuda, threads

HERE = Path(__file__).parent
LEDGER = HERE / "results" / "ledger.csv"

# They change what OpenBLAS runs, so that peers aren't what a user has.
FOREIGN_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

# Columns that ledgers didn't have from the start.
_LATER = ("compile", "driver")


@dataclass(frozen=True)
class Row:
    """What one library took for one operation in one run.

    Attributes
    ----------
    date
        Of the run's start, UTC; the same for all its rows.
    commit, dirty
        Of the project, and whether files were changed since.
    device, threads
        Processor or GPU by name, and the threads of every library.
    python, numpy, numba
        Versions.
    effort, operation, size, about
        What was run; see the table of peers.
    library, setting, version, role
        By whom.
    rounds
        Number of rounds, 0 where there were none.
    minimum, q25, median, q75
        Seconds of a call over the rounds.
    ratio_q25, ratio, ratio_q75
        Quartiles over the rounds of its time over ours in the same round: above 1, ours is faster.
    bytes, flops
        Of the operation, the same for all libraries.
    first_call
        Seconds of the first call of the run: with what it compiles or loads.
    compile
        Seconds of it in which it compiled; 0 where all was in Numba's cache, or compiled by an earlier
        operation, and NaN where nothing is ever compiled or the row is older than this field.
    transfer
        Seconds of the input's way to the device, in none of the other times.
    driver
        Of a GPU: which CUDA the driver and the runtime are of.
    remark
        Why there were no rounds.
    """

    date: str
    commit: str
    dirty: bool
    device: str
    threads: int
    python: str
    numpy: str
    numba: str
    effort: str
    operation: str
    size: str
    about: str
    library: str
    setting: str
    version: str
    role: str
    rounds: int
    minimum: float
    q25: float
    median: float
    q75: float
    ratio_q25: float
    ratio: float
    ratio_q75: float
    bytes: int
    flops: int
    first_call: float
    compile: float
    transfer: float
    driver: str
    remark: str

    @property
    def label(self) -> str:
        """The library with its setting."""
        return f"{self.library}, {self.setting}" if self.setting else self.library

    @classmethod
    def parse(cls, texts: dict[str, str]) -> Self:
        """Read a row of the file; what an older file hasn't is empty."""
        return cls(**{item.name: _READERS[item.type](texts.get(item.name, "")) for item in fields(cls)})

    def texts(self) -> dict[str, str]:
        """Return the row for the file: six digits, and nothing for a number that isn't there."""
        return {name: _text(value) for name, value in asdict(self).items()}


# What a field's text means, by its type.
_READERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    bool: lambda text: text == "True",
    float: lambda text: float(text or "nan"),
}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return str(value)


@dataclass(frozen=True)
class Run:
    """What all rows of a run have in common."""

    date: str
    commit: str
    dirty: bool
    threads: int
    python: str
    numpy: str
    numba: str
    effort: str

    @classmethod
    def start(cls, effort: Effort) -> Self:
        """Describe a run that starts now."""
        return cls(
            date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            commit=_git("rev-parse", "--short=10", "HEAD"),
            dirty=bool(
                _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!benchmarks/RESULTS.md")
            ),
            threads=threads.count(),
            python=platform.python_version(),
            numpy=importlib.metadata.version("numpy"),
            numba=importlib.metadata.version("numba"),
            effort=effort.name,
        )

    def rows(self, measured: Measured) -> list[Row]:
        """Return the rows of an operation, ours first; none where ours wasn't timed."""
        operation, work = measured.operation, measured.work
        on_gpu = operation.device == "cuda"
        device, driver = (cuda.name(), cuda.driver()) if on_gpu else (processor(), "")
        ours = measured.timings[0].seconds
        if not ours:
            return []
        return [
            Row(
                **asdict(self),
                device=device,
                operation=operation.name,
                size=work.size,
                about=work.about,
                library=timing.library.name,
                setting=timing.library.setting,
                version=timing.library.version if timing.library.installed else "",
                role=timing.library.role,
                rounds=len(timing.seconds),
                **_quantiles(timing, ours),
                bytes=work.bytes,
                flops=work.flops,
                first_call=timing.first_call,
                compile=timing.compile,
                driver=driver,
                transfer=np.nan if work.transfer is None else work.transfer,
                remark=timing.remark,
            )
            for timing in measured.timings
        ]


def _quantiles(timing: Timing, ours: dict[int, float]) -> dict[str, Any]:
    names = ("minimum", "q25", "median", "q75", "ratio_q25", "ratio", "ratio_q75")
    if not timing.seconds:
        return dict.fromkeys(names, np.nan)
    seconds = list(timing.seconds.values())
    ratios = [own / ours[number] for number, own in timing.seconds.items()]
    values = [*np.percentile(seconds, [0, 25, 50, 75]), *np.percentile(ratios, [25, 50, 75])]
    return dict(zip(names, map(float, values), strict=True))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE.parent, capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip()


def processor() -> str:
    """Return the processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows; a new file gets a line of names first, and an older one the columns that it lacks.

    Raises
    ------
    ValueError
        Where the file has other columns.
    """
    names = [item.name for item in fields(Row)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write(path, names, [])
    elif (found := _columns(path)) != names:
        if [name for name in names if name in found or name not in _LATER] != found:
            raise ValueError(f"{path} has other columns than this version writes; move it away")
        with path.open(encoding="utf-8", newline="") as file:
            older = list(csv.DictReader(file))
        # The name is the ledger's only once all is written.
        _write(beside := path.with_name(f"{path.name}.new"), names, older)
        beside.replace(path)
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, names, lineterminator="\n").writerows(row.texts() for row in rows)


def _write(path: Path, names: list[str], rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def read(path: Path) -> list[Row]:
    """Return all rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row.parse(texts) for texts in csv.DictReader(file)]
