"""Classify slices through ONNX Runtime, on the CPU or a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.export.metadata import read_metadata


def runtime_device(name: str) -> str:
    """Turn ``auto`` into what ONNX Runtime has here; ``cpu`` and ``cuda`` stay as they are.

    A GPU that torch trained on is no proof: the CPU build of ONNX Runtime can't use it.
    """
    if name != "auto":
        return name
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and torch.cuda.is_available()
    return "cuda" if cuda else "cpu"


class Classifier:
    """An exported model in ONNX Runtime.

    Parameters
    ----------
    path
        A file that `eigenfeatures.export.onnx_model.export_onnx` wrote.
    device
        ``cpu`` or ``cuda``.

    Attributes
    ----------
    metadata : dict
        What the export wrote: classes, size, preset, operator and more.

    Raises
    ------
    InputError
        When the file can't be loaded or gives no probabilities, or ``cuda`` was asked for and is not there.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.metadata = read_metadata(path)
        if "probabilities" not in self.metadata["outputs"]:
            raise InputError(f"{path} has no output 'probabilities'; export the model with it")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if device == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise InputError(
                    "this ONNX Runtime has no CUDA; install eigenfeatures[gpu] or use --device cpu"
                )
            # Without this ONNX Runtime falls back to the CPU and says nothing.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = ["CUDAExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} can't be run by ONNX Runtime on '{device}': {reason}") from error

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return tuple(self.metadata["classes"])

    def __call__(self, slices: NDArray[Any]) -> NDArray[np.float32]:
        """Turn raw slices ``(batch, H, W)`` into probabilities ``(batch, classes)``."""
        probabilities: NDArray[np.float32] = self._session.run(["probabilities"], {"slices": slices})[0]
        return probabilities

    def check_samples(self, samples: SampleSet) -> None:
        """Raise `InputError` unless the samples have the model's classes, slice size and dtype."""
        if samples.classes != self.classes:
            raise InputError(
                f"{samples.root} holds the samples {', '.join(samples.classes)}, but the model was "
                f"made for {', '.join(self.classes)}; use the samples that it was trained on or train a model"
            )
        if list(samples.size) != self.metadata["size"]:
            raise InputError(
                f"{samples.root} gives slices of {samples.size[0]}×{samples.size[1]} pixels, but the model "
                f"was made for {'×'.join(map(str, self.metadata['size']))}; give stacks of that size"
            )
        if samples.dtype.name != self.metadata["dtype"]:
            raise InputError(
                f"{samples.root} holds {samples.dtype.name} slices, but the model takes "
                f"{self.metadata['dtype']}; convert the stacks, with the scaling that the training data had"
            )


def classify(
    classifier: Classifier, samples: SampleSet, indices: NDArray[np.int64], batch: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the class probabilities of slices, `batch` slices at a time."""
    for start in range(0, len(indices), batch):
        yield classifier(samples.read(indices[start : start + batch]))
