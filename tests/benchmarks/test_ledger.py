"""What becomes of timings: rows of the ledger, and the page that is written from them."""

import csv
import dataclasses
import sys
import types

import ledger
import measure
import numba
import numpy as np
import pytest
import report
from comparison import COLUMNS, cells, reached
from made_up_peers import library, operation_of
from peers import OPERATIONS
from peers.table import Limit, Target
from terminal import suite_time, write_operation


def rows_of(operation="op", date="2026-01-01T00:00:00Z", effort="full", device="Processor, 2 cores"):
    """A run of two peers, of which the second is faster, and a roof; a peer that was wrong."""
    common = {
        **dataclasses.asdict(ledger.Run(date, "abc", False, 2, "3.11", "2.4", "0.68", effort)),
        "device": device,
        "operation": operation,
        "size": "8×8",
        "about": "",
        "version": "1.0",
        "bytes": 8_000_000,
        "flops": 0,
        "first_call": 0.5,
        "compile": np.nan,
        "transfer": np.nan,
        "driver": "",
    }
    found = []
    for name, role, seconds in (
        ("eigenfeatures", "ours", 0.002),
        ("slow", "peer", 0.007),
        ("fast", "peer", 0.001),
        ("copy", "roof", 0.0016),
    ):
        ratio = seconds / 0.002
        times = {"minimum": seconds, "q25": seconds, "median": seconds, "q75": seconds}
        ratios = {"ratio_q25": 0.9 * ratio, "ratio": ratio, "ratio_q75": 1.1 * ratio}
        found.append(
            ledger.Row(**common, library=name, setting="", role=role, rounds=7, remark="", **times, **ratios)
        )
    absent = dict.fromkeys(("minimum", "q25", "median", "q75", "ratio_q25", "ratio", "ratio_q75"), np.nan)
    wrong = {"library": "bad", "setting": "", "role": "peer", "rounds": 0, "remark": "wrong, so not timed"}
    return [*found, ledger.Row(**common, **wrong, **absent)]


def test_the_ledger_gives_back_what_was_appended(tmp_path):
    path = tmp_path / "results" / "ledger.csv"
    rows = rows_of()
    ledger.append(path, rows[:2])
    ledger.append(path, rows[2:])
    assert [row.texts() for row in ledger.read(path)] == [row.texts() for row in rows]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6
    for columns in ("date,commit", path.read_text(encoding="utf-8").splitlines()[0] + ",more"):
        path.write_text(f"{columns}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="other columns"):
            ledger.append(path, rows)


def test_an_older_ledger_is_read_and_gets_the_columns_that_it_lacks(tmp_path):
    path = tmp_path / "ledger.csv"
    rows = [dataclasses.replace(row, remark="so, it was") for row in rows_of()]
    names = [name for name in rows[0].texts() if name not in ("compile", "driver")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.texts() | {"median": "0.0010"} for row in rows)
    (first, *_) = ledger.read(path)
    assert np.isnan(first.compile)
    assert (first.driver, first.remark) == ("", "so, it was")
    new = dataclasses.replace(rows[0], compile=0.0, driver="driver of CUDA 13.0, runtime 12.9")
    ledger.append(path, [new])
    found = ledger.read(path)
    assert [row.driver for row in found] == [""] * len(rows) + [new.driver]
    assert found[-1].compile == 0.0
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.csv"]
    # Numbers stay as they were written.
    assert path.read_text(encoding="utf-8").count("0.0010") == len(rows)


def test_rows_hold_quartiles_of_the_rounds_and_of_ratios_within_a_round():
    timings = (
        measure.Timing(library("a", "ours"), 0.5, dict(enumerate([1.0, 2.0, 4.0]))),
        measure.Timing(library("b"), 0.5, {0: 3.0, 2: 4.0}),
    )
    operation = operation_of(*(timing.library for timing in timings))
    run = ledger.Run.start(measure.EFFORTS["full"])
    ours, peer = run.rows(measure.Measured(operation, operation.prepare(()), timings))
    assert (ours.minimum, ours.q25, ours.median, ours.q75) == (1.0, 1.5, 2.0, 3.0)
    assert (ours.ratio, peer.ratio) == (1.0, 2.0)  # of 3/1 and 4/4
    assert (peer.rounds, peer.median, peer.version) == (2, 3.5, f"numpy {np.__version__}")


def test_rows_from_a_gpu_name_what_compiles_and_launches_and_the_driver(monkeypatch):
    numba_cuda = pytest.importorskip("numba_cuda")
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda _: {"name": b"NVIDIA H100"},
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
    )
    cupy = types.ModuleType("cupy")
    cupy.__version__, cupy.cuda = "14.9.9", types.ModuleType("cupy.cuda")
    cupy.cuda.runtime = runtime
    for name, module in (("cupy", cupy), ("cupy.cuda", cupy.cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    ours = [operation.libraries[0] for operation in OPERATIONS if operation.device == "cuda"]
    by_numba = [each for each in ours if each.module != "cupy"]
    assert len(by_numba) >= len(ours) - 1
    for each in by_numba:
        operation = dataclasses.replace(operation_of(each), device="cuda")
        work = dataclasses.replace(operation.prepare(()), transfer=0.25)
        timing = measure.Timing(each, 0.5, {0: 1.0}, compile=2.0)
        (row,) = ledger.Run.start(measure.EFFORTS["full"]).rows(measure.Measured(operation, work, (timing,)))
        assert f"numba_cuda {numba_cuda.__version__}, cupy 14.9.9" in row.version
        assert f"numba {numba.__version__}" in row.version
        assert (row.device, row.driver) == ("NVIDIA H100", "driver of CUDA 13.0, runtime 12.9")
        assert (row.transfer, row.compile) == (0.25, 2.0)
        assert "; driver of CUDA 13.0, runtime 12.9." in report.render([row])


def test_compile_time_and_transfer_have_columns_of_their_own():
    compiled, *others = rows_of()
    rows = [dataclasses.replace(compiled, compile=0.25, transfer=0.004)]
    rows += [dataclasses.replace(others[0], compile=0.0), others[1]]
    assert COLUMNS[-3:] == ("first call", "compile", "transfer")
    assert [cells(row, rows)[-3:] for row in rows] == [
        ["500 ms", "250 ms", "4.00 ms"],
        ["500 ms", "cached", ""],
        ["500 ms", "", ""],
    ]


class Terminal:
    """Keeps lines in the place of pytest's reporter."""

    def __init__(self):
        self.lines = []

    def write_sep(self, _, title):
        self.lines.append(title)

    def write_line(self, text):
        self.lines.append(text)


def test_the_terminal_shows_losses_the_roof_and_what_was_not_timed():
    terminal = Terminal()
    write_operation(terminal, rows_of())
    title, about, header, ours, slow, fast, roof, wrong, _ = terminal.lines
    assert title == "op: 8×8"
    assert about.startswith("Processor, 2 cores, 2 threads; bytes 8,000,000")
    assert "ours is faster" in header
    assert "compile" in header
    assert ours.startswith("eigenfeatures")
    assert "× 3.50 " in slow
    assert "slower" not in slow
    assert "× 0.50 (slower)" in fast
    assert roof.startswith("copy (roof) ")
    assert wrong.split(maxsplit=1) == ["bad", "wrong, so not timed"]


def test_the_suite_says_how_long_it_took_and_compiled():
    rows = [
        dataclasses.replace(row, compile=spent) for row, spent in zip(rows_of(), (1.5, 0.25), strict=False)
    ]
    text = "the suite took 84 s, of which first calls compiled for 3.5 s"
    assert suite_time(84.2, [rows, rows, rows_of()]) == text


def test_the_report_shows_the_latest_full_run_with_its_losses_and_targets(monkeypatch):
    targets = (
        Target("slow", 3, "≥ 3 × slow"),
        Target("fast", 2, "≥ 2 × fast"),
        Target("bad", 1, "≥ 1 × bad"),
    )
    operation = dataclasses.replace(operation_of(library("a", "ours")), name="op", targets=targets)
    monkeypatch.setattr(report, "OPERATIONS", (operation,))
    old, new = rows_of(date="2025-01-01T00:00:00Z"), rows_of()
    later = rows_of(date="2027-01-01T00:00:00Z", effort="quick")
    text = report.render([*old, *new, *later, *rows_of(device="GPU")])
    assert "report.py" in text.split("##")[0]
    assert "don't edit" in text.split("##")[0]
    assert text.count("## Processor, 2 cores") == text.count("## GPU") == 1
    assert "2025" not in text
    assert "2027" not in text
    assert "### Targets: 1 of 3 met" in text
    assert "| op | 8×8 | ≥ 3 × slow | × 3.50 (3.15 to 3.85), slow | met |" in text
    assert "| op | 8×8 | ≥ 2 × fast | × 0.50 (0.45 to 0.55), fast | **MISSED** |" in text
    assert "| op | 8×8 | ≥ 1 × bad |  | not measured |" in text
    assert "- op: fast **× 0.50 (slower)**" in text
    assert "| fast | 1.00 ms | 1.00 ms | 1.00 ms | 7 | 8.00 |  | 160 % | **× 0.50 (slower)** |" in text
    assert (
        "| eigenfeatures | 2.00 ms | 2.00 ms | 2.00 ms | 7 | 4.00 |  | 80 % |  |  | 500 ms |  |  | 1.0 |"
        in text
    )
    assert "| bad | wrong, so not timed |" in text


def test_a_limit_is_held_against_the_median_of_ours():
    limits = (Limit(0.003, "≤ 3 ms"), Limit(0.002, "≤ 2 ms"), Limit(0.001, "≤ 1 ms"))
    found = reached(limits, rows_of())
    assert [each.verdict for each in found] == ["met", "met", "MISSED"]
    assert {each.reach for each in found} == {"2.00 ms (2.00 ms to 2.00 ms)"}
    (nothing,) = reached(limits[:1], rows_of()[1:])
    assert (nothing.verdict, nothing.reach) == ("not measured", "")


def test_the_committed_results_are_those_of_the_committed_ledger():
    if not ledger.LEDGER.exists():
        pytest.skip("no full run has been recorded yet")
    assert report.RESULTS.read_text(encoding="utf-8") == report.render(ledger.read(ledger.LEDGER))
