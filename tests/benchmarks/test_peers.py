"""The table of peers: answers that pass their checks, and wrong ones that don't."""

import dataclasses
import inspect
import sys
import types
from collections.abc import Iterator
from functools import lru_cache

import measure
import numpy as np
import pytest
import reference
import torch
from compiling import watching
from made_up_peers import Clock
from peers import OPERATIONS, cuda, cuda_gradients, cuda_inference, inference, responses
from peers.checks import CloseTo, LeadingTriplets, Triplets
from peers.table import Limit, WrongAnswer

from eigenfeatures import kernels

CPU = [operation for operation in OPERATIONS if operation.device == "cpu"]
CUDA = [operation for operation in OPERATIONS if operation.device == "cuda"]


def named(name):
    return next(operation for operation in OPERATIONS if operation.name == name)


def smallest(operation):
    return operation.prepare(operation.sizes["smallest"])


@lru_cache(maxsize=1)
def smallest_named(name):
    """Work that the libraries of one operation share."""
    return smallest(named(name))


@pytest.mark.parametrize(
    ("operation", "library"),
    [
        pytest.param(operation, library, id=f"{operation.name}-{library.label}")
        for operation in CPU
        for library in operation.libraries
    ],
)
def test_every_peer_answers_rightly_and_a_wrong_answer_is_refused(operation, library):
    if not library.installed:
        pytest.skip(f"{library.module} isn't installed, so the answer of {library.label} isn't checked")
    work = smallest_named(operation.name)
    check = operation.check_of(library, work)
    library.before()
    answer = library.prepare(work.given)()
    check(answer)
    controls = list(check.wrong(answer))
    assert len(controls) >= 3
    for _, wrong in controls:
        with pytest.raises(WrongAnswer):
            check(wrong)


@pytest.mark.parametrize(
    "operation",
    [operation for operation in inference.OPERATIONS if "start-up" not in operation.name],
    ids=lambda operation: operation.name,
)
def test_batch_inference_is_measured(operation):
    found = measure.measure(Clock(), operation, measure.EFFORTS["smallest"])
    for timing in found.timings:
        assert timing.seconds or not timing.library.installed, timing.remark


def test_what_torch_compiles_is_counted_once():
    """Here, where an export has imported torch's compiler already, which takes longest."""
    function = torch.compile(lambda x: 2 * x + 1, backend="eager")
    with watching() as compiling:
        function(torch.ones(3))
    assert compiling.seconds > 0
    with watching() as compiling:
        function(torch.ones(3))
    assert compiling.seconds == 0


def test_all_that_works_on_pixels_has_an_operation():
    """Functions, and classes that aren't results."""
    public = {name: getattr(kernels, name) for name in kernels.__all__}
    functions = {name for name, value in public.items() if inspect.isfunction(value)}
    classes = {
        name
        for name, value in public.items()
        if inspect.isclass(value) and not dataclasses.is_dataclass(value) and not issubclass(value, tuple)
    }
    assert len(functions) >= 8
    assert classes == {"StreamingSVD"}
    measured = {operation.name.replace(",", "").split()[0] for operation in CPU}
    assert functions | classes <= measured


def test_the_table_is_sound():
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    for operation in OPERATIONS:
        assert set(operation.sizes) == set(measure.EFFORTS)
        roles = [library.role for library in operation.libraries]
        assert roles.index("ours") == 0
        assert roles.count("ours") == 1
        if operation in (*inference.OPERATIONS, *cuda_inference.OPERATIONS):
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
    for name in ("array", "arange", "sqrt", "maximum", "copyto", "concatenate", "percentile", "clip", "tile"):
        setattr(cupy, name, getattr(np, name))
    cupy.asarray = lambda array: np.array(array).view(Array)
    cupy.empty = lambda *arguments: np.empty(*arguments).view(Array)
    cupy.empty_like = lambda array: np.empty_like(array).view(Array)
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
        # Ours asks for a GPU.
        if (library.module == "cupy" or library.installed) and library.name != "eigenfeatures":
            check = operation.check_of(library, work)
            answers.append(library.prepare(work.given)())
            check(answers[-1])
            for _, wrong in check.wrong(answers[-1]):
                with pytest.raises(WrongAnswer):
                    check(wrong)
    assert len(answers) >= 3


def test_slices_of_every_kind_are_checked_on_a_gpu():
    """Of 1,064 slices of 266 × 266 bytes, that repeat eight, where the check takes one in some."""
    chosen = cuda_gradients.every_so_many(np.arange(1064))
    assert 64 <= len(chosen) <= 80
    assert chosen[-1] == 1063
    assert len(set(chosen % 8)) == 8
    assert len(set(chosen * 266 * 266 % 16)) == 4
    known = np.arange(1064.0)
    check = cuda_gradients.OfSome(CloseTo(known[chosen]))
    check(known)
    with pytest.raises(WrongAnswer):
        check(np.where(known == chosen[3], 0, known))


@pytest.mark.parametrize("engine", ["torch", "ort-cpu"])
def test_a_long_stack_and_the_folder_of_a_run_are_inferred_rightly(engine):
    """What is measured on a GPU, on the CPU: more slices than are distinct."""
    (operation,) = cuda_inference.OPERATIONS
    work = operation.prepare((40, 32))
    assert len(work.given.slices) == 40
    answer = cuda_inference.infer_with(engine, "cpu")(work.given)()
    work.check(answer)
    for _, wrong in work.check.wrong(answer):
        with pytest.raises(WrongAnswer):
            work.check(wrong)


def test_without_a_gpu_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda _: None)
    assert "eigenfeatures[gpu]" in cuda.missing()
