"""Batch inference: a TIFF through an exported model, against the bare network and a user's script."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peers import images
from peers import inference_files as files
from peers.checks import CloseTo
from peers.inference_script import BATCH, script
from peers.inferred import CHAIN, FLOAT32, INT8, STATISTICS, Inferred
from peers.table import Check, Library, Limit, Operation, Reopened, Target, Work

Array = NDArray[Any]
Answer = Mapping[str, Array]


class Given(NamedTuple):
    """A stack, and the side of its slices, which names the model and its files."""

    stack: files.Stack
    side: int

    def check(self, names: tuple[str, ...], tol: float = FLOAT32) -> Check:
        """Return what judges answers."""
        return Inferred(files.expected(len(self.stack.slices), self.side), names, tol)


def _work(names: tuple[str, ...], last: str, tol: float = FLOAT32) -> Callable[[tuple[int, ...]], Work]:
    """Return what makes the input of an operation that gives `names` and ends at the layer `last`."""

    def prepare(size: tuple[int, ...]) -> Work:
        count, side = size
        given = Given(files.stack_of(count, side), side)
        slices = given.stack.slices
        results = files.expected(count, side).eigenfeatures.size * 4
        return Work(
            given,
            given.check(names, tol),
            images.size_of(slices.shape),
            bytes=slices.nbytes + results,
            flops=count * files.flops_of(side, last),
            about=f"{given.stack.source}, TIFF of uint8",
        )

    return prepare


def _infer(model: Callable[[int], Path], *outputs: str) -> Callable[[Given], Reopened]:
    """Infer with a file; that it is opened is left to the start-up's own operation."""

    def prepare(given: Given) -> Reopened:
        from eigenfeatures.export import infer

        path = model(given.side)
        return Reopened(
            lambda: infer(path, given.stack.path, outputs=outputs, batch=BATCH, engine="ort-cpu"), collected
        )

    return prepare


def collected(blocks: Iterable[Any]) -> Answer:
    """Put blocks together, of eigenfeatures the first."""
    parts = [block.arrays for block in blocks]
    found = {name: np.concatenate([arrays[name] for arrays in parts]) for name in parts[0]}
    return found | {"eigenfeatures": found["eigenfeatures"][:, 0]}


def _bare(given: Given) -> Callable[[], Array]:
    """Run the network alone on slices that are in memory, with as many threads as ours: a core each."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        files.file_of(given.side, "logits"), providers=["CPUExecutionProvider"]
    )
    slices = given.stack.slices

    def call() -> Array:
        batches = (slices[start : start + BATCH] for start in range(0, len(slices), BATCH))
        return np.concatenate([session.run(["logits"], {"slices": batch})[0] for batch in batches])

    return call


def _close_logits(given: Given) -> Check:
    return CloseTo(files.expected(len(given.stack.slices), given.side).logits, bound=FLOAT32)


def _script(given: Given) -> Callable[[], Answer]:
    network = files.model_of(given.side).network
    return lambda: script(given.stack.path, network)


def _start_up(given: Given) -> Callable[[], Answer]:
    """Infer in a process of its own, and read its table."""
    model = files.whole_file(given.side)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def call() -> Answer:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            command = ["infer", model, given.stack.path, "--out", out, "--engine", "ort-cpu"]
            subprocess.run(
                [sys.executable, "-m", "eigenfeatures.export", *command],
                env=environment,
                capture_output=True,
                check=True,
            )
            with (out / "slices.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        found = {name: np.array([float(row[name]) for row in rows]) for name in STATISTICS}
        return found | {"alpha_index": np.array([int(row["alpha_index"]) for row in rows])}

    return call


def _eigenfeatures_file(side: int) -> Path:
    return files.file_of(side, "eigenfeatures")


def _chain_check(given: Given) -> Check:
    return given.check(CHAIN)


def _ours(setting: str, prepare: Callable[[Given], Callable[[], Answer]]) -> Library:
    # Only in full runs: exporting alone would take a quick one's time.
    return Library("eigenfeatures", setting, "onnxruntime", prepare, "ours", in_quick=False)


_SIZES = {"smallest": (2, 32), "quick": (4, 266), "full": (32, 266)}
_ONE = {"smallest": (1, 32), "quick": (1, 266), "full": (1, 266)}

_OUTPUTS = ("probabilities", "alpha", "eigenfeatures", "singular_values", "gap", "residual")
_WHOLE = _infer(files.whole_file, *_OUTPUTS)
_FLOAT32 = Library("eigenfeatures", "float32", "onnxruntime", _WHOLE, "other", check=_chain_check)

OPERATIONS = (
    Operation(
        "infer, whole chain, float32",
        _SIZES,
        _work(CHAIN, "logits"),
        (
            _ours("float32", _WHOLE),
            Library("bare network in ONNX Runtime", "", "onnxruntime", _bare, "roof", check=_close_logits),
            Library(
                "the script a user would write",
                "scikit-image, eager torch, NumPy's thin SVD",
                "skimage",
                _script,
            ),
        ),
        (
            Target("bare network in ONNX Runtime", 1 / 1.10, "≤ 1.10 × the bare network's time"),
            Target("the script a user would write", 3, "≥ 3 × the script a user would write"),
        ),
    ),
    Operation(
        "infer, whole chain, int8",
        _SIZES,
        _work(CHAIN, "logits", INT8),
        (_ours("int8", _infer(files.int8_file, *_OUTPUTS)), _FLOAT32),
        (Target("eigenfeatures, float32", 3, "≥ 3 × our own float32"),),
    ),
    Operation(
        "infer, eigenfeatures only",
        _SIZES,
        _work((*STATISTICS, "eigenfeatures"), "relu2"),
        (_ours("eigenfeatures only", _infer(_eigenfeatures_file, "eigenfeatures")), _FLOAT32),
        (Target("eigenfeatures, float32", 1 / 0.85, "≤ 0.85 × the whole chain's time"),),
    ),
    Operation(
        "infer, start-up to first result (warm caches)",
        _ONE,
        _work((*STATISTICS, "alpha_index"), "logits"),
        (_ours("a process of its own", _start_up),),
        (Limit(4.0, "≤ 4 s"),),
    ),
)
