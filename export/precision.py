"""Files of less precision, float16 for CUDA and int8 for the CPU: made from the float32 file, held to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path, check_writable
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.export.accuracy import Accuracy, check_measurable, compare_files
from eigenfeatures.export.agreement import ExportCheck
from eigenfeatures.export.half_precision import emulate_float16, to_float16
from eigenfeatures.export.metadata import add_metadata, save_graph
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, Request
from eigenfeatures.export.quantisation import PERCENTILES, to_int8
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.steps import export_step
from eigenfeatures.export.tables import read_table

PRECISIONS = ("float32", "float16", "int8")

_CALIBRATION_SLICES = 32
_MOST_COMPARED = 512
_COMPARED_AT_ONCE = 4


@dataclass(frozen=True)
class _Made:
    """A graph of less precision, what computes as it does on its device, and how it was made."""

    proto: onnx.ModelProto
    stand_in: onnx.ModelProto
    facts: dict[str, Any]


def check_precision(precision: str) -> None:
    """Raise `InputError` for an unknown precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}")


def check_target(path: Path) -> None:
    """Raise `InputError` for a file to make whose name could be that of weights, tables or stacks."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file to make, such as {path / 'model.onnx'}")
    if path.suffix != ".onnx":
        raise InputError(f"{path}: an exported file's name ends with .onnx; give it such a name")


def precision_step(
    folder: RunFolder,
    samples: SampleSet,
    model: Model,
    precision: str,
    path: Path,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    any_size: bool = False,
    force: bool = False,
) -> tuple[ExportCheck, Accuracy | None]:
    """Write a file of some precision after comparing it with the float32 file on held-out slices.

    In all of them the gradient, the standardisation and the singular value decomposition stay float32:
    16-bit sums of a gradient and entries of a Gram matrix overflow float16.

    Parameters
    ----------
    folder, samples, model
        As `eigenfeatures.export.steps.open_run` gives them.
    precision
        One of `PRECISIONS`.
    path
        The file to make.
    outputs, any_size
        As for `eigenfeatures.export.onnx_model.export_onnx`.
    force
        Write the file even if it is less accurate than asked.

    Returns
    -------
    check : ExportCheck
        Of the float32 file against torch.
    accuracy : Accuracy or None
        Of this file against the float32 file on up to 512 validation slices, as its device rounds; the
        metadata hold it too. None for ``float32``.

    Raises
    ------
    InputError
        When the accuracy falls short, or no vector is determined well enough to be compared, and `force` is
        not given; no file is written then. For outputs whose accuracy can't be told.
    OSError
        When the file can't be made, before anything is computed.
    """
    check_precision(precision)
    check_writable(path)  # before minutes of work
    if precision == "float32":
        return export_step(folder, samples, model, outputs=outputs, any_size=any_size, path=path), None
    check_measurable(Request(tuple(outputs), folder.settings.layer))
    split = np.array(read_table(folder.slices)["split"])
    held_out = _spread(np.flatnonzero(split == VALIDATION), _MOST_COMPARED)
    calibration = samples.read(_spread(np.flatnonzero(split == TRAIN), _CALIBRATION_SLICES))
    with TemporaryDirectory() as temporary:
        single, stand_in = Path(temporary) / "float32.onnx", Path(temporary) / "stand_in.onnx"
        check = export_step(folder, samples, model, outputs=outputs, any_size=any_size, path=single)
        made = _in_float16(single) if precision == "float16" else _in_int8(single, calibration)
        onnx.save_model(made.stand_in, stand_in)
        accuracy = compare_files(single, stand_in, _blocks(samples, held_out))
        facts = {"precision": precision, "accuracy": accuracy.facts(), **made.facts}
        add_metadata(made.proto, facts)
        with atomic_path(path) as written:
            save_graph(made.proto, written)
            # What runs here is not always the stand-in, and a file that does not run must not be left.
            here = compare_files(single, written, _blocks(samples, held_out[:_COMPARED_AT_ONCE]))
            short = accuracy.short or here.short
            missed = short or accuracy.missed
            if missed and not force:
                verdict = "is too far from float32" if short else "can't be told to be near float32"
                raise InputError(
                    f"{precision} {verdict} on {accuracy.slices} held-out slices: "
                    f"{missed}; keep to float32, or add --force"
                )
    return check, accuracy


def _in_float16(single: Path) -> _Made:
    original = onnx.load_model(single)
    return _Made(to_float16(original), emulate_float16(original), {})


def _in_int8(single: Path, calibration: NDArray[Any]) -> _Made:
    """Quantise with the first of `PERCENTILES` that is accurate on the training slices, or the last."""
    original, trial = onnx.load_model(single), single.with_name("int8.onnx")
    at_once = range(0, len(calibration), _COMPARED_AT_ONCE)
    for percentile in PERCENTILES:
        proto = to_int8(original, calibration, percentile)
        onnx.save_model(proto, trial)
        blocks = (calibration[start : start + _COMPARED_AT_ONCE] for start in at_once)
        if not compare_files(single, trial, blocks).short:
            break
    return _Made(proto, proto, {"calibration": {"slices": len(calibration), "percentile": percentile}})


def _spread(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Take at most so many, evenly spaced."""
    places = np.linspace(0, len(indices) - 1, min(most, len(indices)))
    return indices[places.round().astype(np.int64)]


def _blocks(samples: SampleSet, indices: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(indices), _COMPARED_AT_ONCE):
        yield samples.read(indices[start : start + _COMPARED_AT_ONCE])
