"""A model on slices that are larger than those it was trained on.

Class probabilities come from windows of the model's size, through any engine; eigenfeatures and the
strongest channel come from the whole slice in tiles, through the network of a run's folder in torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.model_file import WEIGHTS_FILE, load_model
from eigenfeatures.export.batch.batches import Batches
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, open_engine
from eigenfeatures.export.batch.facts import CLASS_MAPS, ModelFacts
from eigenfeatures.export.batch.folded import folded
from eigenfeatures.export.batch.of_maps import kernel_threads
from eigenfeatures.export.batch.out_of_memory import told_of_memory
from eigenfeatures.export.batch.torch_copies import this_device
from eigenfeatures.export.batch.whole_slice import WholeSlice
from eigenfeatures.export.batch.windows import Windows
from eigenfeatures.export.outputs import ALPHA, DECOMPOSITION, checked_request
from eigenfeatures.kernels import standardized_gradient

# Windows that an engine gets at once, by the end of its name.
_BATCH = {"cpu": 4, "cuda": 32}

# Batches of windows that are cut at a time: several, so that a GPU has one while another is copied, and
# not all, since overlapping windows together are several times as large as the slice.
_TOGETHER = 4

_WHOLE = (*ALPHA, *DECOMPOSITION)

Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]


class LargeSlices(Engine):
    """An `Engine` for slices larger than a model's window.

    ``probabilities`` are those of `Windows`, averaged over the slice, and their maps are given with
    them as `CLASS_MAPS`. All else is of the whole slice, at the layer, resolution and rank of `like`.

    Parameters
    ----------
    like
        The engine to take name and facts from.
    model
        What that was opened from: the folder of a run, unless only probabilities are asked for.
    outputs
        Names of arrays.
    size
        Height and width of the slices.
    clock
        Measures the parts of the work.
    say
        Tells a person what is done.
    overlap, tf32, threads
        As for `fit_engine`.
    """

    def __init__(
        self,
        like: Engine,
        model: Path,
        outputs: Sequence[str],
        size: Size,
        clock: Clock,
        say: Callable[[str], None],
        *,
        overlap: float,
        tf32: bool,
        threads: int | None = None,
    ) -> None:
        self.name, self.reason, self.facts = like.name, like.reason, replace(like.facts, size=size)
        self.outputs = tuple(outputs)
        kind, _, device = like.name.partition("-")
        with ExitStack() as opened:  # what is open is closed where the rest can't be opened
            self._parts: list[_Part] = []
            if "probabilities" in outputs:
                windows = Windows(size, like.facts.window or size, overlap)
                named = kind if kind == "torch" else like.name
                classifier = open_engine(
                    model, ["probabilities"], named, device, clock, tf32=tf32, threads=threads
                )
                opened.callback(classifier.close)
                self._parts.append(_Windowed(classifier, windows, say))
                self.outputs = (*self.outputs, CLASS_MAPS)
                self.facts = replace(self.facts, map_step=windows.step)
                say(f"classes from {len(windows.regions)} windows a slice, {windows.step} pixels apart")
            if names := [name for name in outputs if name in _WHOLE]:
                self.torch_on_cpu = device == "cpu"
                self._parts.append(_Whole(model, names, like.facts, device, size, clock, tf32, threads))
                say("eigenfeatures and channels from the whole slice, in tiles")
            opened.pop_all()

    def run(self, batches: Iterable[NDArray[Any]]) -> Iterator[Arrays]:
        """Run batches, slice by slice."""
        for slices in batches:
            found = [self._one(image) for image in slices]
            yield {name: np.concatenate([arrays[name] for arrays in found]) for name in self.outputs}

    def close(self) -> None:
        """Drop the networks."""
        for part in self._parts:
            part.close()

    def _one(self, image: NDArray[Any]) -> Arrays:
        return {name: array for part in self._parts for name, array in part(image).items()}


class _Part(Protocol):
    def __call__(self, image: NDArray[Any]) -> Arrays:
        """Return arrays ``(1, …)`` of a raw slice ``(H, W)``."""
        ...

    def close(self) -> None: ...


class _Windowed:
    def __init__(self, engine: Engine, windows: Windows, say: Callable[[str], None]) -> None:
        self._engine, self._windows = engine, windows
        self._run = Batches(engine, _BATCH[engine.name.rpartition("-")[2]], say)

    def __call__(self, image: NDArray[Any]) -> Arrays:
        cuts = self._windows.cut(image, _TOGETHER * self._run.size)
        found = [self._run(cut)["probabilities"] for cut in cuts]
        probabilities = np.concatenate(found)
        return {
            "probabilities": self._windows.mean(probabilities)[np.newaxis],
            CLASS_MAPS: self._windows.class_map(probabilities)[np.newaxis],
        }

    def close(self) -> None:
        self._engine.close()


class _Whole:
    def __init__(
        self,
        run: Path,
        names: Sequence[str],
        facts: ModelFacts,
        device: str,
        size: Size,
        clock: Clock,
        tf32: bool,
        threads: int | None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        model = load_model(run)
        if facts.weights not in (None, sha256(run / WEIGHTS_FILE)):
            raise InputError(
                f"{facts.file} was exported from other weights than {run / WEIGHTS_FILE}; "
                f"export the run again (eigenfeatures export {run})"
            )
        asked = dict.fromkeys("alpha" if name in ALPHA else name for name in names)
        request = checked_request(
            model.network, tuple(asked), facts.layer, facts.resolution, facts.rank, any_size=False
        )
        self._device, self._clock = this_device(device), clock
        self._tf32, self._threads = tf32, threads
        self._preprocessing = model.preprocessing
        network = folded(model.network, {request.layer}) if device == "cuda" else model.network
        self._evaluate = WholeSlice(network.to(self._device), request, size)

    def __call__(self, image: NDArray[Any]) -> Arrays:
        with told_of_memory(), kernel_threads(self._threads):
            with self._clock.span("gradient"):
                uploaded = torch.from_numpy(image).to(self._device)
                gradient: Any = standardized_gradient(
                    uploaded,
                    self._preprocessing.operator,
                    mean=self._preprocessing.mean,
                    deviation=self._preprocessing.deviation,
                )
            # By default torch's convolutions use TF32 and don't say so.
            with self._clock.span("tiles"), torch.backends.cudnn.flags(enabled=True, allow_tf32=self._tf32):
                return self._evaluate(gradient.float())

    def close(self) -> None:
        del self._evaluate
