"""Batch inference on a GPU: a TIFF through a run's engines, against the bare network in torch."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import cuda, images
from peers import inference_files as files
from peers.checks import CloseTo
from peers.inference import Answer, collected
from peers.inferred import CHAIN, FLOAT32, Expected, Inferred
from peers.table import Check, Library, Limit, Operation, Role, Target, Work

Array = NDArray[Any]

# Distinct slices of a stack, whose answers are known; a longer stack has them over and over.
_DISTINCT = 32

# Of logits and eigenfeatures, where factors have 10 or 11 bits.
_FEW_BITS = 0.05

# Slices that the bare network gets at once: as many as our engines take on a GPU.
_BATCH = 64


# What singular vectors of the maps are found by.
_ALSO = ("numba", *cuda.COMPILERS)


class Given:
    """A stack of `count` slices of a side, and the folder of a run with the model for them."""

    def __init__(self, count: int, side: int) -> None:
        self.side, self._order = side, np.arange(count) % min(count, _DISTINCT)
        distinct = files.stack_of(min(count, _DISTINCT), side)
        self.slices, self.source = distinct.slices[self._order], distinct.source
        self.path = _written(count, side, self.slices)

    def expected(self) -> Expected:
        """Return what the model says of the slices."""
        known = files.expected(int(self._order.max()) + 1, self.side)
        return Expected(*(array[self._order] for array in known))


@cache
def _given(count: int, side: int) -> Given:
    return Given(count, side)


def _written(count: int, side: int, slices: Array) -> Path:
    import tifffile

    path = files.folder() / f"cuda-{count}-{side}.tif"
    tifffile.imwrite(path, slices, photometric="minisblack")
    return path


@cache
def _run(side: int) -> Path:
    """Write the folder of a run with the model, and its exported file beside it."""
    import shutil

    from eigenfeatures.eigen.model_file import save_model
    from eigenfeatures.export.run_folder import RunFolder
    from eigenfeatures.export.settings import Settings

    path = files.folder() / f"run-{side}"
    path.mkdir()
    model = files.model_of(side)
    save_model(model, path)
    RunFolder(path, path, Settings(preset=model.network.preset, device="cpu"), {}).write_record()
    shutil.copy(files.whole_file(side), path / "model.onnx")
    return path


def _work(size: tuple[int, ...]) -> Work:
    given = _given(*size)
    expected = given.expected()
    return Work(
        given,
        Inferred(expected, CHAIN),
        images.size_of(given.slices.shape),
        bytes=given.slices.nbytes + expected.eigenfeatures.size * 4,
        flops=len(given.slices) * files.flops_of(given.side),
        about=f"{given.source}, TIFF of uint8",
        transfer=0.0,
    )


def infer_with(
    name: str, device: str = "cuda", *, tf32: bool = False
) -> Callable[[Given], Callable[[], Answer]]:
    """Return the set-up of the whole chain, from file to arrays, on an engine that stays open."""

    def prepare(given: Given) -> Callable[[], Answer]:
        from eigenfeatures.export.batch.clock import Clock
        from eigenfeatures.export.batch.engine import open_engine
        from eigenfeatures.export.batch.job import run_blocks
        from eigenfeatures.export.batch.plan import BlockPlan
        from eigenfeatures.export.batch.source import Reading, open_sources

        outputs = ("probabilities", "alpha", "eigenfeatures", "singular_values", "gap", "residual")
        engine = open_engine(_run(given.side), outputs, name, device, tf32=tf32)
        sources = open_sources([given.path], Reading(), engine.facts)
        plan = BlockPlan(_BATCH, 4 * _BATCH)

        def call() -> Answer:
            parts = plan.parts([len(given.slices)])
            return collected(run_blocks(engine, sources, parts, plan.batch, Clock(), lambda _: None))

        return call

    return prepare


def _bare(
    *, tf32: bool = False, half: bool = False, compiled: bool = False, search: bool = False
) -> Callable[[Given], Callable[[], Array]]:
    """Return the set-up of the network alone, in torch on slices that lie on the GPU and are standardised."""

    def prepare(given: Given) -> Callable[[], Array]:
        import torch

        from eigenfeatures.kernels import standardized_gradient

        dtype = torch.float16 if half else torch.float32
        network = files.model_of(given.side).network
        on_gpu = _on_gpu(network).to(dtype)
        inputs: Any = standardized_gradient(torch.from_numpy(given.slices).to(_device()))
        batches = inputs[:, None].to(dtype).split(_BATCH)
        run = torch.compile(on_gpu) if compiled else on_gpu

        def call() -> Array:
            settings = torch.backends.cudnn.flags(enabled=True, benchmark=search, allow_tf32=tf32)
            with torch.inference_mode(), settings:
                return torch.cat([run(batch) for batch in batches]).float().cpu().numpy()

        return cuda.Queued(call)

    return prepare


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"  # the second in tests of the arithmetic


def _on_gpu(network: Any) -> Any:
    """Return a copy, since the model's own is what answers are checked with on the host."""
    import copy

    return copy.deepcopy(network).to(_device())


def _close_logits(bound: float) -> Callable[[Given], Check]:
    return lambda given: CloseTo(given.expected().logits, bound=bound)


def _few_bits(given: Given) -> Check:
    return Inferred(given.expected(), CHAIN, _FEW_BITS)


def _network(setting: str, bound: float, role: Role = "other", **how: bool) -> Library:
    return Library("bare network in torch", setting, "torch", _bare(**how), role, check=_close_logits(bound))


def _library(engine: str, setting: str, module: str, **how: bool) -> Library:
    return Library(
        "eigenfeatures",
        f"{engine}, {setting}",
        module,
        infer_with(engine, **how),
        "other",
        check=_few_bits if how else None,
        in_quick=False,
        also=_ALSO,
    )


OPERATIONS = (
    Operation(
        "CUDA infer, whole chain",
        {"smallest": (2, 32), "quick": (64, 266), "full": (1064, 266)},
        _work,
        (
            Library("eigenfeatures", "torch, float32", "torch", infer_with("torch"), "ours", also=_ALSO),
            _library("torch", "TF32", "torch", tf32=True),
            _library("ort-cuda", "float32", "onnxruntime"),
            _library("ort-cuda", "TF32", "onnxruntime", tf32=True),
            _network("eager, float32", FLOAT32, "roof"),
            _network("eager, float32, cuDNN's search", FLOAT32, search=True),
            _network("compiled, float32", FLOAT32, compiled=True),
            _network("eager, TF32, cuDNN's search", _FEW_BITS, tf32=True, search=True),
            _network("eager, float16, cuDNN's search", _FEW_BITS, half=True, search=True),
            _network("compiled, float16", _FEW_BITS, half=True, compiled=True),
        ),
        (
            Limit(1.0, "1,064 slices in ≤ 1 s on an H100"),
            Target("bare network in torch, eager, float32", 1 / 1.10, "≤ 1.10 × the bare network's time"),
            Target(
                "bare network in torch, eager, float32, cuDNN's search",
                1 / 1.10,
                "≤ 1.10 × the bare network's time, with cuDNN's search",
            ),
        ),
        "cuda",
    ),
)
