"""The table of peers: answers that pass their checks, wrong ones that don't, and what becomes of timings."""

import dataclasses
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import ledger
import measure
import numpy as np
import pytest
import reference
import report
from commands import ENVIRONMENT
from comparison import reached
from peers import OPERATIONS, cuda, inference, responses
from peers.checks import CloseTo, LeadingTriplets, Triplets
from peers.table import Library, Limit, Operation, Reopened, Target, Work, WrongAnswer

from eigenfeatures.kernels import (
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

ROOT = Path(__file__).parents[1]
CPU = [operation for operation in OPERATIONS if operation.device == "cpu"]
CUDA = [operation for operation in OPERATIONS if operation.device == "cuda"]


def named(name):
    return next(operation for operation in OPERATIONS if operation.name == name)


def smallest(operation):
    return operation.prepare(operation.sizes["smallest"])


@pytest.mark.parametrize("operation", CPU, ids=lambda operation: operation.name)
def test_every_peer_answers_rightly_and_a_wrong_answer_is_refused(operation):
    work = smallest(operation)
    for library in operation.libraries:
        if not library.installed:
            continue
        check = operation.check_of(library, work)
        library.before()
        answer = library.prepare(work.given)()
        check(answer)
        controls = list(check.wrong(answer))
        assert len(controls) >= 3
        for _, wrong in controls:
            with pytest.raises(WrongAnswer):
                check(wrong)


def test_every_function_that_works_on_pixels_has_an_operation():
    functions = (
        gradient,
        gradient_magnitude,
        gram,
        slice_statistics,
        standardized_gradient,
        stretch_contrast,
        strongest_channel,
        truncated_svd,
    )
    measured = {operation.name.replace(",", "").split()[0] for operation in CPU}
    assert {function.__name__ for function in functions} <= measured


def test_the_table_is_sound():
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    for operation in OPERATIONS:
        assert set(operation.sizes) == set(measure.EFFORTS)
        roles = [library.role for library in operation.libraries]
        assert roles.index("ours") == 0
        assert roles.count("ours") == 1
        if operation in inference.OPERATIONS:
            # Some are held against ours of another kind, or against a limit.
            assert {"peer", "other"} & set(roles) or any(isinstance(t, Limit) for t in operation.targets)
        else:
            assert roles.count("roof") == 1
            assert "peer" in roles
        labels = [library.label for library in operation.libraries]
        assert len(labels) == len(set(labels))
        for target in operation.targets:
            known = {"every peer", *labels, *(library.name for library in operation.libraries)}
            assert isinstance(target, Limit) or target.against in known, operation.name


def test_checks_agree_with_the_oracles():
    magnitude = smallest(named("gradient_magnitude, uint8"))
    images = [reference.gradient_magnitude(image, "sobel") for image in magnitude.given]
    magnitude.check(np.stack(images))
    smallest(named("standardized_gradient, uint8")).check(np.stack(list(map(reference.standardized, images))))
    components = smallest(named("gradient, float32"))
    components.check(
        [
            np.stack(part)
            for part in zip(*(reference.gradient(image, "sobel") for image in components.given), strict=True)
        ]
    )
    strongest = smallest(named("strongest_channel, float32"))
    strongest.check(list(np.array([reference.strongest_channel(maps) for maps in strongest.given]).T))
    stretched = smallest(named("stretch_contrast, float32"))
    stretched.check(np.stack([reference.stretch_contrast(image, 0.01) for image in stretched.given]))
    stack = smallest(named("truncated_svd rank 8 along a stack, pooled maps"))
    oracles = [reference.singular_triplets(maps) for maps in stack.given]
    stack.check([Triplets(u[:8], s[:8], v[:8]) for u, s, v in oracles])


def test_a_triplet_that_does_not_lead_is_refused_however_small_its_residual():
    maps = responses.spectrum(0.999, 4, 5)
    u, s, v = reference.singular_triplets(maps[0])
    check = LeadingTriplets(maps, 1, 1e-5)
    check([Triplets(u[:1], s[:1], v[:1])])
    with pytest.raises(WrongAnswer, match="leading singular values"):
        check([Triplets(u[1:2], s[1:2], v[1:2])])


@pytest.mark.usefixtures("ct_data")
def test_real_responses_have_the_gaps_of_the_targets():
    for material in ("fibres", "polymer"):
        maps, source = responses.real_responses(material, 2, 128, 133)
        assert source == f"ReLU2 of {material}"
        assert maps.shape == (2, 128, 133, 133)
        assert maps.min() == 0
        assert 0.25 < LeadingTriplets(maps, 1, 1e-5).gap < 0.75


def test_a_stand_in_for_responses_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(responses, "CT", tmp_path / "nothing")
    maps, source = responses.real_responses("polymer", 1, 128, 133)
    assert maps.shape == (1, 128, 133, 133)
    assert "stand-in" in source
    assert "no CT" in source


@pytest.fixture
def cupy_on_the_host(monkeypatch) -> Iterator[None]:
    """NumPy and SciPy in the place of CuPy: the peers' arithmetic, without a GPU."""
    import scipy.ndimage
    import torch

    def gesvda(matrices):
        u, s, vh = np.linalg.svd(matrices, full_matrices=False)
        return u, s, vh.swapaxes(-2, -1)

    class Array(np.ndarray):
        def get(self):
            return np.asarray(self)

    class Generator:
        def __init__(self, seed):
            self.draw = np.random.default_rng(seed)

        def standard_normal(self, size, dtype):
            return self.draw.standard_normal(size, dtype).view(Array)

    cupy = types.ModuleType("cupy")
    for name in ("array", "sqrt", "maximum", "copyto", "concatenate"):
        setattr(cupy, name, getattr(np, name))
    cupy.asarray = lambda array: np.array(array).view(Array)
    cupy.empty = lambda *arguments: np.empty(*arguments).view(Array)
    cupy.random = types.SimpleNamespace(default_rng=Generator)
    cupy.cuda = types.SimpleNamespace(
        Device=lambda: types.SimpleNamespace(synchronize=lambda: None),
        runtime=types.SimpleNamespace(memGetInfo=lambda: (100_000, 100_000)),
    )
    modules = {
        "cupy": cupy,
        "cupyx": types.ModuleType("cupyx"),
        "cupyx.scipy": types.ModuleType("cupyx.scipy"),
        "cupyx.scipy.ndimage": scipy.ndimage,
        "cupyx.cusolver": types.SimpleNamespace(gesvda=gesvda),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch, "compile", lambda function: function)


@pytest.mark.usefixtures("cupy_on_the_host")
@pytest.mark.parametrize("operation", CUDA, ids=lambda operation: operation.name)
def test_peers_on_a_gpu_compute_the_right_thing(operation):
    work = smallest(operation)
    assert work.transfer >= 0
    answers = []
    for library in operation.libraries[1:]:
        if library.module == "cupy" or library.installed:
            check = operation.check_of(library, work)
            answers.append(library.prepare(work.given)())
            check(answers[-1])
            for _, wrong in check.wrong(answers[-1]):
                with pytest.raises(WrongAnswer):
                    check(wrong)
    assert len(answers) >= 4


def test_without_a_gpu_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda _: None)
    assert "eigenfeatures[gpu]" in cuda.missing()


class Clock:
    """In the place of pytest-benchmark's fixture: it calls as `pedantic` does, and keeps times."""

    def __init__(self, disabled=False):
        self.disabled = disabled
        self.stats = None
        self.group = None

    def pedantic(self, target, setup, rounds):
        for _ in range(rounds):
            setup()
            target()
        data = [1.0] * rounds
        self.stats = None if self.disabled else types.SimpleNamespace(stats=types.SimpleNamespace(data=data))


def operation_of(*libraries):
    work = Work(np.ones(3), CloseTo(np.ones(3)), "3", bytes=12)
    return Operation("copy", dict.fromkeys(measure.EFFORTS, ()), lambda _: work, libraries)


def library(name, role="peer", result=1.0, calls=None, **options):
    def call():
        if calls is not None:
            calls.append(name)
        return np.full(3, result)

    return Library(name, "", "numpy", lambda _: call, role, **options)


def test_rounds_of_the_libraries_alternate():
    calls = []
    libraries = [library(name, "ours" if name == "a" else "peer", calls=calls) for name in "abc"]
    found = measure.measure(Clock(), operation_of(*libraries), measure.Effort("full", 1.0, 4, 4, 0.0))
    assert "".join(calls[6:]) == "bca" + "cba" + "bca" + "cba"
    assert [len(timing.seconds) for timing in found.timings] == [4, 4, 4]


def test_a_slow_library_sits_out_rounds_evenly():
    runner = measure._Runner(measure.Timing(library("b")), lambda: None, 3, 0.0, 1)
    assert [number for number in range(10) if runner.is_due(number, 10)] == [0, 4, 7]


def test_calls_are_queued_on_a_gpu_and_waited_for_once(monkeypatch):
    """The seconds are those of a call, whether one or several make a round."""
    log = []
    device = types.SimpleNamespace(synchronize=lambda: log.append("wait"))
    monkeypatch.setitem(
        sys.modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(Device=lambda: device))
    )
    call = cuda.Queued(lambda: log.append("call"))
    call(3)
    assert log == ["call", "call", "call", "wait"]

    monkeypatch.setattr(measure, "_seconds", lambda function: (0.012, function()))
    queued = library("a", "ours")
    queued = dataclasses.replace(queued, prepare=lambda _: cuda.Queued(lambda: np.full(3, 1.0)))
    found = measure.measure(Clock(), operation_of(queued, library("b")), measure.Effort("full", 1, 2, 2, 0.0))
    assert set(found.timings[1].seconds.values()) == {0.012}
    runner = measure._Runner(measure.Timing(queued), call, 2, 0.0, 4)
    log.clear()
    runner.run()
    assert log == ["call"] * 4 + ["wait"]


def test_what_is_opened_before_a_round_is_not_timed(monkeypatch):
    log = []

    def timed(function):
        log.append("start")
        return 0.01, function()

    def work(opened):
        log.append("work")
        return opened

    def opening():
        log.append("open")
        return np.full(3, 1.0)

    monkeypatch.setattr(measure, "_seconds", timed)
    reopened = dataclasses.replace(library("b"), prepare=lambda _: Reopened(opening, work))
    measure.measure(Clock(), operation_of(library("a", "ours"), reopened), measure.Effort("full", 1, 2, 2, 0))
    assert log[2:] == ["start", "open", "work"] * 2 + ["open", "start", "work"] * 2
    log.clear()
    ours = dataclasses.replace(reopened, role="ours")
    measure.measure(Clock(), operation_of(ours), measure.Effort("full", 1, 2, 2, 0))
    assert log == ["start", "open", "work"] * 2 + ["open", "work"] * 2


@pytest.mark.parametrize(("seconds", "is_long"), [(0.2, False), (0.4, True)])
def test_a_long_call_goes_without_warm_up(monkeypatch, seconds, is_long):
    calls = []
    monkeypatch.setattr(measure, "_seconds", lambda function: (seconds, function()))
    operation = operation_of(library("a", "ours"), library("b", calls=calls))
    measure.measure(Clock(), operation, measure.Effort("full", 1, 2, 2, 0.05))
    assert (len(calls) == 4) is is_long


def test_a_wrong_peer_is_not_timed_and_ours_must_be_right():
    operation = operation_of(library("a", "ours"), library("b", result=2.0), library("c"))
    found = measure.measure(Clock(), operation, measure.EFFORTS["smallest"])
    wrong = found.timings[1]
    assert not wrong.seconds
    assert "wrong, so not timed" in wrong.remark
    assert len(found.timings[2].seconds) == 1
    with pytest.raises(WrongAnswer, match="ours"):
        measure.measure(Clock(), operation_of(library("a", "ours", 2.0)), measure.EFFORTS["smallest"])


def test_a_peer_that_fails_is_named_and_the_others_are_timed():
    def fail():
        raise RuntimeError("no such device")

    broken = dataclasses.replace(library("b"), prepare=lambda _: fail)
    operation = operation_of(library("a", "ours"), broken, library("c"))
    found = measure.measure(Clock(), operation, measure.EFFORTS["smallest"])
    assert found.timings[1].remark == "failed, so not timed: RuntimeError: no such device"
    assert len(found.timings[2].seconds) == 1
    ours = dataclasses.replace(library("a", "ours"), prepare=lambda _: fail)
    with pytest.raises(RuntimeError, match="no such device"):
        measure.measure(Clock(), operation_of(ours), measure.EFFORTS["smallest"])


def test_nothing_is_recorded_where_timing_is_disabled():
    operation = operation_of(library("a", "ours"), library("b"))
    found = measure.measure(Clock(disabled=True), operation, measure.EFFORTS["smallest"])
    assert not any(timing.seconds for timing in found.timings)
    assert ledger.Run.start(measure.EFFORTS["full"]).rows(found) == []


def test_a_library_that_is_missing_or_heavy_is_left_out_with_a_remark():
    missing = Library("x", "", "no_such_module", lambda _: None)
    heavy = library("y", heavy=True, in_quick=False)
    operation = operation_of(library("a", "ours"), missing, heavy)
    quick = measure.measure(Clock(), operation, measure.Effort("quick", 0.0, 1, 1, 0.0))
    assert [timing.remark for timing in quick.timings] == [
        "",
        "not installed: no_such_module",
        "only in a full run",
    ]
    full = measure.measure(Clock(), operation, measure.Effort("full", 0.0, 3, 3, 0.0))
    assert list(full.timings[2].seconds) == [0]


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
        "transfer": np.nan,
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
    path.write_text("date,commit\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other columns"):
        ledger.append(path, rows)


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
    assert "| eigenfeatures | 2.00 ms | 2.00 ms | 2.00 ms | 7 | 4.00 |  | 80 % |  |  | 500 ms | 1.0 |" in text
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


def benchmarks(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_suite_runs_at_its_smallest_and_records_nothing():
    before = ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None
    done = benchmarks("--smallest", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    for operation in CPU:
        assert f"{operation.name}: " in done.stdout
    reason = cuda.missing()
    assert reason is None or f"SKIPPED [{len(CUDA)}]" in done.stdout
    assert reason is None or reason.partition(":")[0] in done.stdout
    assert (ledger.LEDGER.read_bytes() if ledger.LEDGER.exists() else None) == before


def test_a_quick_run_leaves_out_what_takes_long():
    done = benchmarks("--quick", "-k", "start-up", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED [1] benchmarks/test_cpu.py" in done.stdout
    assert "only in a full run" in done.stdout


def test_a_record_is_refused_where_blas_was_told_to_be_another(tmp_path):
    path = tmp_path / "ledger.csv"
    done = benchmarks("--quick", "-k", "stretch", "--ledger", str(path), OPENBLAS_CORETYPE="Haswell")
    assert done.returncode == 4
    assert "OPENBLAS_CORETYPE" in done.stderr
    assert not path.exists()
