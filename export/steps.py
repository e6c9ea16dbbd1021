"""The steps of a run (Fig. 7), each on the folder that the step before it left."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.device import choose_device, trains_in_bfloat16
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import write_text
from eigenfeatures.eigen.likeness import likeness
from eigenfeatures.eigen.memory import available_memory, check_training_memory
from eigenfeatures.eigen.model_file import Model, load_model, save_model
from eigenfeatures.eigen.network import Network, build_network
from eigenfeatures.eigen.preprocessing import (
    Preprocessing,
    fit_preprocessing,
    operator_named,
    sample_statistics,
)
from eigenfeatures.eigen.samples import SampleSet, open_samples
from eigenfeatures.eigen.split import GUARD, TRAIN, VALIDATION, split_slices
from eigenfeatures.eigen.training import TrainingStep, check_batch_size, train
from eigenfeatures.export.agreement import ExportCheck
from eigenfeatures.export.batch.engine import open_engine
from eigenfeatures.export.inference import check_samples, classify
from eigenfeatures.export.metrics import classification_metrics
from eigenfeatures.export.onnx_model import check_exportable, export_onnx
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, largest_rank
from eigenfeatures.export.remarks import remarks
from eigenfeatures.export.run_folder import (
    RunFolder,
    check_outside,
    check_same_inputs,
    check_same_settings,
    check_vacant,
    hash_inputs,
    repeats,
)
from eigenfeatures.export.run_lock import alone_in
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.tables import Columns, read_table, write_table
from eigenfeatures.export.talk import Talk
from eigenfeatures.kernels import SliceStatistics

_COMPARED_SLICES = 8
_LARGEST_BATCH = 16


@dataclass(frozen=True)
class Run:
    """A run under way: its folder, and its stacks as they were read.

    Attributes
    ----------
    folder : RunFolder
        Where everything is written.
    samples : SampleSet
        The open stacks.
    split : ndarray of str, shape (slices,)
        ``train``, ``validation`` or ``guard``.
    statistics : SliceStatistics
        Of every slice.
    preprocessing : Preprocessing
        With the constants that the training slices give.
    """

    folder: RunFolder
    samples: SampleSet
    split: NDArray[np.str_]
    statistics: SliceStatistics
    preprocessing: Preprocessing

    def slices_in(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the slices of one part of the split."""
        return np.flatnonzero(self.split == part)


@contextmanager
def measure(samples_folder: Path, out: Path, settings: Settings, talk: Talk) -> Iterator[Run]:
    """Read every slice once, and write its statistics into a folder for a later training.

    Raises
    ------
    InputError
        For any mistake in the stacks or the folder; nothing is written then.
    """
    with _opened(samples_folder, out, settings, False, talk) as samples, ExitStack() as held:
        check_outside(out, samples_folder)
        split = split_of(samples, settings)
        yield _measured(samples, split, out, settings, False, talk, held)


@contextmanager
def start(samples_folder: Path, out: Path, settings: Settings, resume: bool, talk: Talk) -> Iterator[Run]:
    """Do what `measure` does, once it is sure that the training fits the slices and the memory.

    Raises
    ------
    InputError
        For any mistake in the stacks, the settings or the folder; nothing is written then.
    """
    with _opened(samples_folder, out, settings, resume, talk) as samples, ExitStack() as held:
        check_outside(out, samples_folder)
        split = split_of(samples, settings)
        fitted = _with_fitting_batch(settings, split)
        if fitted != settings:
            usual, few = settings.plan.batch_size, int(np.sum(split == TRAIN))
            talk.say(
                f"the usual batch of {usual} is more than the {few} slices to train on: "
                f"{fitted.batch_size} are taken"
            )
        if resume and (out / "run.toml").is_file():
            _check_same_settings(out, fitted, split)
        check_training(samples, split, fitted, talk)
        yield _measured(samples, split, out, fitted, resume, talk, held)


def split_of(samples: SampleSet, settings: Settings) -> NDArray[np.str_]:
    """Return ``train``, ``validation`` or ``guard`` for every slice."""
    return split_slices(samples, settings.split, settings.seed_of_split)


def _opened(samples_folder: Path, out: Path, settings: Settings, resume: bool, talk: Talk) -> SampleSet:
    check_vacant(out, resume)
    samples = open_samples(samples_folder, size=settings.size, regions=settings.regions)
    for note in samples.notes:
        talk.say(note)
    return samples


def _with_fitting_batch(settings: Settings, split: NDArray[np.str_]) -> Settings:
    """Return settings whose batch is not the usual one where that is larger than the slices to train on."""
    slices = int(np.sum(split == TRAIN))
    if settings.batch_size is not None or settings.plan.batch_size <= slices:
        return settings
    return replace(settings, batch_size=max(1, slices // 2))


def _check_same_settings(out: Path, settings: Settings, split: NDArray[np.str_]) -> None:
    """Refuse other settings than those of the run; `measure` records a usual batch as it was asked for."""
    check_same_settings(out, settings, _with_fitting_batch(RunFolder.open(out).settings, split))


def check_training(
    samples: SampleSet, split: NDArray[np.str_], settings: Settings, talk: Talk, at_once: int = 1
) -> None:
    """Refuse a training that does not fit the slices, or `at_once` of which do not fit the memory.

    Raises
    ------
    InputError
        For either, or a layer that the network lacks.
    """
    network = build_network(settings.preset, len(samples.classes), samples.size)
    network.check_layer(settings.layer)
    check_exportable(network)
    batch = settings.plan.batch_size
    check_batch_size(batch, int(np.sum(split == TRAIN)))
    device = choose_device(settings.device)
    free = available_memory(device)
    needed = check_training_memory(network, batch, free, 2 if trains_in_bfloat16(device) else 4, at_once)
    talk.say(
        f"training on '{device.type}' will need about {needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free"
    )


def _measured(
    samples: SampleSet,
    split: NDArray[np.str_],
    out: Path,
    settings: Settings,
    resume: bool,
    talk: Talk,
    held: ExitStack,
) -> Run:
    """Write nothing unless all slices can be read and belong to the run that is resumed.

    From the first file on no other process can do the same, until `held` is closed.
    """
    statistics = sample_statistics(samples, operator_named(settings.operator), talk.track)
    check_range(samples, statistics)
    inputs = hash_inputs(samples, talk.track)
    for note in repeats(samples, inputs):
        talk.say(note)
    folder = RunFolder(out.absolute(), samples.root.absolute(), settings, inputs)
    preprocessing = fit_preprocessing(
        operator_named(settings.operator), settings.normalise, statistics, split == TRAIN
    )
    run = Run(folder, samples, split, statistics, preprocessing)
    held.enter_context(alone_in(out))
    # Again, since another run may have come first.
    check_vacant(out, resume)
    if resume and folder.record.is_file():
        _check_same_settings(out, settings, split)
        check_same_inputs(RunFolder.open(out), inputs)
    folder.remove_leftovers()
    folder.write_record()
    if not (resume and folder.slices.is_file()):
        write_table(folder.slices, _first_columns(run))
    return run


def check_range(samples: SampleSet, statistics: SliceStatistics) -> None:
    """Refuse intensities whose squared differences float32 can't hold, or takes for zero.

    Raises
    ------
    InputError
        Names the first such slice.
    """
    vanished = (statistics.mean_gradient == 0) & (statistics.deviation > 0)
    lost = np.flatnonzero(vanished | ~np.isfinite(statistics.mean_gradient))
    if len(lost):
        stack, number = samples.specimens[samples.specimen_of[lost[0]]].stack, samples.slice_of[lost[0]]
        raise InputError(
            f"{stack.path}: slice {number} (counted from 0) has intensities too large or too small for "
            "float32; rescale the stack"
        )


@contextmanager
def open_run(
    path: Path, talk: Talk, *, alone: bool = True, **changes: Any
) -> Iterator[tuple[RunFolder, SampleSet, Model]]:
    """Open the folder of a run whose training is finished.

    Settings given in `changes` that are not None take the place of the run's. Until it is closed no other
    process can work in the folder, unless it is only read (not `alone`).

    Raises
    ------
    InputError
        When there is none, another process works in it, or its stacks are gone or not what they were.
    """
    RunFolder.open(path)  # refuses what is no run, of which `alone_in` would make a folder
    with alone_in(path) if alone else nullcontext():
        # Again, since a process that had the lock until now may have written another record.
        yield from _opened_run(RunFolder.open(path), talk, changes)


def _opened_run(
    folder: RunFolder, talk: Talk, changes: dict[str, Any]
) -> Iterator[tuple[RunFolder, SampleSet, Model]]:
    model = load_model(folder.path)
    changed = {name: value for name, value in changes.items() if value is not None}
    folder = replace(folder, settings=replace(folder.settings, **changed))
    model.network.check_layer(folder.settings.layer)
    with folder.open_samples() as samples:
        check_same_inputs(folder, hash_inputs(samples, talk.track))
        if samples.classes != model.classes or samples.size != model.network.size:
            raise InputError(
                f"the model in {folder.path} was made for {', '.join(model.classes)} at "
                f"{'×'.join(map(str, model.network.size))} pixels, not for {folder.samples}"
            )
        yield folder, samples, model


def train_step(run: Run, talk: Talk, snapshot: Callable[[int, Network], None] | None = None) -> None:
    """Train, and write ``training.csv`` and the model; `snapshot` is given to `train`."""
    settings, samples = run.folder.settings, run.samples
    network = build_network(settings.preset, len(samples.classes), samples.size, settings.seed)
    history = train(
        network,
        samples,
        run.preprocessing,
        run.slices_in(TRAIN),
        run.slices_in(VALIDATION),
        settings.plan,
        device=choose_device(settings.device),
        checkpoint=run.folder.checkpoint,
        snapshot=snapshot,
        track=talk.track,
    )
    write_table(
        run.folder.training,
        {f.name: [getattr(step, f.name) for step in history] for f in fields(TrainingStep)},
    )
    last = history[-1]
    reached = {
        "iterations": last.iteration,
        "split": settings.split,
        "validation_accuracy": last.validation_accuracy,
        "validation_loss": last.validation_loss,
        "plan": asdict(settings.plan),
    }
    save_model(Model(network, samples.classes, run.preprocessing, reached), run.folder.path)
    run.folder.checkpoint.unlink(missing_ok=True)


def export_step(
    folder: RunFolder,
    samples: SampleSet,
    model: Model,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    any_size: bool = False,
    path: Path | None = None,
) -> ExportCheck:
    """Write ``model.onnx``, or another file, and compare it with torch on slices spread over the stacks.

    Its singular vectors are as many as the settings say, or as the response maps have if that is less.
    """
    settings = folder.settings
    compared = np.unique(np.linspace(0, len(samples) - 1, _COMPARED_SLICES).astype(np.int64))
    crop = {"size": settings.size, "roi": settings.roi}
    dtypes = sorted({specimen.stack.dtype.name for specimen in samples.specimens})
    description = {"crop": crop, "precision": "float32", "stack_dtypes": dtypes}
    return export_onnx(
        model,
        path or folder.onnx,
        samples.read(compared),
        outputs=outputs,
        layer=settings.layer,
        resolution=settings.resolution,
        rank=min(settings.rank, largest_rank(model.network, settings.layer, settings.resolution)),
        any_size=any_size,
        description=description,
    )


def infer_step(folder: RunFolder, samples: SampleSet, talk: Talk) -> dict[str, Any]:
    """Classify every slice through ONNX Runtime; fill ``slices.csv`` and write ``metrics.json``."""
    predicted, columns = predict(folder, samples, talk)
    split = np.array(read_table(folder.slices)["split"])
    fill_slices(folder, columns)
    metrics: dict[str, Any] = {"split": folder.settings.split, "guard_slices": int(np.sum(split == GUARD))}
    for part in (VALIDATION, TRAIN):
        chosen = split == part
        metrics[part] = classification_metrics(samples.label[chosen], predicted[chosen], samples.classes)
    metrics["likeness"] = likeness(samples, split)
    for remark in remarks(metrics):
        talk.say(remark)
    write_text(folder.metrics, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    return metrics


def predict(
    folder: RunFolder, samples: SampleSet, talk: Talk
) -> tuple[NDArray[np.int64], dict[str, list[Any]]]:
    """Classify every slice of the samples with the exported model of a run.

    Returns
    -------
    predicted : ndarray of int, shape (slices,)
        Class numbers.
    columns : dict
        ``predicted`` and ``probability``, for a table.
    """
    # What fits in training fits here.
    batch = min(_LARGEST_BATCH, folder.settings.plan.batch_size)
    with closing(open_engine(folder.onnx, ["probabilities"], device=folder.settings.device)) as engine:
        talk.say(f"classifying on '{engine.name}' ({engine.reason})")
        check_samples(engine.facts, samples)
        blocks = classify(engine, samples, np.arange(len(samples)), batch)
        found = list(talk.track(blocks, "classifying", math.ceil(len(samples) / batch)))
    probabilities = np.concatenate(found)
    predicted = probabilities.argmax(1)
    names = [samples.classes[k] for k in predicted]
    return predicted, {"predicted": names, "probability": list(probabilities.max(1))}


def fill_slices(folder: RunFolder, columns: Columns) -> None:
    """Write columns into ``slices.csv``, where they have been or before the last one, ``flag``."""
    table = {**read_table(folder.slices), **columns}
    flags = table.pop("flag")
    write_table(folder.slices, {**table, "flag": flags})


def slice_columns(samples: SampleSet) -> Columns:
    """Return the columns that say which slice a row of a table is of."""
    return {
        "sample": [samples.classes[label] for label in samples.label],
        "specimen": [samples.specimens[number].name for number in samples.specimen_of],
        "slice": samples.slice_of,
    }


def _first_columns(run: Run) -> Columns:
    statistics = run.statistics
    return {
        **slice_columns(run.samples),
        "split": run.split,
        "mean": statistics.mean,
        "mean_gradient": statistics.mean_gradient,
        "flag": np.where(statistics.deviation == 0, "constant", ""),
    }
