"""The steps of a run (Fig. 7), each on the folder that the step before it left."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.device import choose_device, trains_in_bfloat16
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import write_text
from eigenfeatures.eigen.memory import available_memory, check_training_memory
from eigenfeatures.eigen.model_file import Model, load_model, save_model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import fit_preprocessing, operator_named, sample_statistics
from eigenfeatures.eigen.progress import Track
from eigenfeatures.eigen.samples import SampleSet, open_samples
from eigenfeatures.eigen.split import TRAIN, VALIDATION, split_slices
from eigenfeatures.eigen.training import TrainingStep, train
from eigenfeatures.export.inference import Classifier, classify
from eigenfeatures.export.metrics import classification_metrics
from eigenfeatures.export.onnx_model import ExportCheck, export_onnx
from eigenfeatures.export.run_folder import RunFolder, check_same_run, check_vacant, hash_inputs
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.tables import Columns, add_columns, read_table, write_table
from eigenfeatures.kernels import SliceStatistics

_COMPARED_SLICES = 8


@dataclass(frozen=True)
class Talk:
    """How a step tells what it does: a loop's progress, and single lines."""

    track: Track
    say: Callable[[str], None]


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
    """

    folder: RunFolder
    samples: SampleSet
    split: NDArray[np.str_]
    statistics: SliceStatistics

    def slices_in(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the slices of one part of the split."""
        return np.flatnonzero(self.split == part)


def start(samples_folder: Path, out: Path, settings: Settings, resume: bool, talk: Talk) -> Run:
    """Check everything that can be checked, read every slice once, then make the folder.

    Nothing is written unless all slices can be read and the settings fit them.

    Raises
    ------
    InputError
        For any mistake in the stacks, the settings or the folder.
    """
    check_vacant(out, resume)
    samples = open_samples(samples_folder, size=settings.size, regions=settings.regions)
    for note in samples.notes:
        talk.say(note)
    network = build_network(settings.preset, len(samples.classes), samples.size)
    network.check_layer(settings.layer)
    split = split_slices(samples, settings.split, settings.seed)
    device = choose_device(settings.device)
    batch, training = settings.plan.batch_size, int(np.sum(split == TRAIN))
    if batch > training:
        raise InputError(
            f"batch size {batch} is larger than the {training} slices to train on; "
            f"use --batch-size {max(1, training // 2)} or less"
        )
    free = available_memory(device)
    needed = check_training_memory(network, batch, free, 2 if trains_in_bfloat16(device) else 4)
    talk.say(
        f"training on '{device.type}' will need about {needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free"
    )
    statistics = sample_statistics(samples, operator_named(settings.operator), talk.track)
    inputs = hash_inputs(samples, talk.track)
    if resume and (out / "run.toml").is_file():
        check_same_run(out, settings, inputs)
    folder = RunFolder(out.absolute(), samples_folder.absolute(), settings, inputs)
    run = Run(folder, samples, split, statistics)
    if not (resume and folder.slices.is_file()):
        folder.write_record()
        write_table(folder.slices, _first_columns(run))
    return run


def open_run(path: Path, **changes: Any) -> tuple[RunFolder, SampleSet, Model]:
    """Open the folder of a run whose training is finished.

    Settings given in `changes` that are not None take the place of the run's, and
    ``run.toml`` says so.

    Raises
    ------
    InputError
        When there is none, or its stacks are gone or no longer fit the model.
    """
    folder = RunFolder.open(path)
    model = load_model(folder.path)
    changed = {name: value for name, value in changes.items() if value is not None}
    folder = replace(folder, settings=replace(folder.settings, **changed))
    model.network.check_layer(folder.settings.layer)
    samples = folder.open_samples()
    if samples.classes != model.classes or samples.size != model.network.size:
        raise InputError(
            f"{folder.samples} holds {', '.join(samples.classes)} at {samples.size[0]}×{samples.size[1]} pixels, "
            f"but the model in {path} was made for {', '.join(model.classes)} at "
            f"{model.network.size[0]}×{model.network.size[1]}"
        )
    if changed:
        folder.write_record()
    return folder, samples, model


def train_step(run: Run, talk: Talk) -> Model:
    """Train, and write ``training.csv`` and the model."""
    settings, samples = run.folder.settings, run.samples
    training, validation = run.slices_in(TRAIN), run.slices_in(VALIDATION)
    preprocessing = fit_preprocessing(
        operator_named(settings.operator), settings.normalise, run.statistics, run.split == TRAIN
    )
    network = build_network(settings.preset, len(samples.classes), samples.size, settings.seed)
    history = train(
        network,
        samples,
        preprocessing,
        training,
        validation,
        settings.plan,
        device=choose_device(settings.device),
        checkpoint=run.folder.checkpoint,
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
    model = Model(network, samples.classes, preprocessing, reached)
    save_model(model, run.folder.path)
    run.folder.checkpoint.unlink(missing_ok=True)
    return model


def export_step(folder: RunFolder, samples: SampleSet, model: Model) -> ExportCheck:
    """Write ``model.onnx`` and compare it with torch on slices spread over the stacks."""
    compared = np.unique(np.linspace(0, len(samples) - 1, _COMPARED_SLICES).astype(np.int64))
    description = {"crop": {"size": folder.settings.size, "roi": folder.settings.roi}}
    return export_onnx(
        model,
        folder.onnx,
        samples.read(compared),
        layer=folder.settings.layer,
        resolution=folder.settings.resolution,
        description=description,
    )


def infer_step(folder: RunFolder, samples: SampleSet, talk: Talk) -> dict[str, Any]:
    """Classify every slice through ONNX Runtime; fill ``slices.csv`` and write ``metrics.json``."""
    predicted, columns = predict(folder.onnx, samples, folder.settings.device, talk)
    split = np.array(read_table(folder.slices)["split"])
    add_columns(folder.slices, columns)
    metrics: dict[str, Any] = {"split": folder.settings.split}
    for part in (VALIDATION, TRAIN):
        chosen = split == part
        metrics[part] = classification_metrics(samples.label[chosen], predicted[chosen], samples.classes)
    write_text(folder.metrics, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    return metrics


def predict(
    onnx: Path, samples: SampleSet, device: str, talk: Talk
) -> tuple[NDArray[np.int64], dict[str, list[Any]]]:
    """Classify every slice of the samples with an exported model.

    Returns
    -------
    predicted : ndarray of int, shape (slices,)
        Class numbers.
    columns : dict
        ``predicted`` and ``probability``, for a table.
    """
    classifier = Classifier(onnx, choose_device(device).type)
    classifier.check_samples(samples)
    batch = 16
    blocks = classify(classifier, samples, np.arange(len(samples)), batch)
    probabilities = np.concatenate(list(talk.track(blocks, "classifying", math.ceil(len(samples) / batch))))
    predicted = probabilities.argmax(1)
    names = [samples.classes[k] for k in predicted]
    return predicted, {"predicted": names, "probability": list(probabilities.max(1))}


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
