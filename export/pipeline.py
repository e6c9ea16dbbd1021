"""Whole jobs made of steps: the main run, the demonstration, other stacks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.eigen.phantom import EPOXY_LIKE, TEN_PERCENT_APART, make_phantom
from eigenfeatures.eigen.split import VALIDATION
from eigenfeatures.export.features import features_step
from eigenfeatures.export.report import report_step
from eigenfeatures.export.run_folder import RunFolder, check_empty
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.steps import (
    Run,
    export_step,
    infer_step,
    start,
    train_step,
)
from eigenfeatures.export.tables import numbers, read_table
from eigenfeatures.export.talk import Talk


def complete_run(samples: Path, out: Path, settings: Settings, resume: bool, talk: Talk) -> RunFolder:
    """Do the main job; with `resume`, leave out the steps whose results are there.

    Raises
    ------
    InputError
        For any mistake in the stacks, the settings or the folder.
    """
    with start(samples, out, settings, resume, talk) as run:
        _finish(run, talk)
    return run.folder


def _finish(run: Run, talk: Talk) -> None:
    folder = run.folder
    if not folder.has_model:
        train_step(run, talk)
    # Read back even if it was just trained: another layout of the weights in memory rounds otherwise,
    # and a run that is resumed after this point must end with the same numbers.
    model = load_model(folder.path)
    if not folder.onnx.is_file():
        check = export_step(folder, run.samples, model)
        talk.say(f"model.onnx agrees with torch to {check.largest:.1e} on {check.slices} slices")
    if not folder.metrics.is_file():
        infer_step(folder, run.samples, talk)
    if "residual" not in read_table(folder.slices):
        features_step(folder, run.samples, model, talk)
    report_step(folder, run.samples, model, talk)


def demonstrate(out: Path, slices: int, size: int, iterations: int, seed: int, talk: Talk) -> RunFolder:
    """Make a phantom below `out` and do the main job on it with the small network."""
    check_empty(out)
    stacks = out / "samples"
    talk.say("making four synthetic samples (a phantom, no measured data)")
    make_phantom(stacks, slices=slices, size=size, seed=seed, track=talk.track)
    settings = Settings(
        preset="small",
        iterations=iterations,
        batch_size=min(32, slices),
        learning_rate=0.02,
        seed=seed,
    )
    return complete_run(stacks, out / "run", settings, False, talk)


def synthesise(folder: Path, slices: int, size: int, hard: bool, seed: int, talk: Talk) -> dict[str, Any]:
    """Make a phantom; return where it is and how many slices it has."""
    check_empty(folder)
    materials = TEN_PERCENT_APART if hard else EPOXY_LIKE
    make_phantom(folder, materials, slices=slices, size=size, seed=seed, track=talk.track)
    return {"samples": str(folder), "slices": slices * len(materials)}


def summary(folder: RunFolder) -> dict[str, Any]:
    """Return the main facts of a run, as far as it has come."""
    table = read_table(folder.slices)
    facts: dict[str, Any] = {
        "folder": str(folder.path),
        "samples": ", ".join(dict.fromkeys(table["sample"])),
        "slices": len(table["sample"]),
        "split": folder.settings.split,
    }
    if folder.has_model:
        facts["network"] = folder.settings.preset
        facts["validation_accuracy"] = load_model(folder.path).training["validation_accuracy"]
    if folder.metrics.is_file():
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
        facts["validation_accuracy"] = metrics[VALIDATION]["accuracy"]
    if "residual" in table:
        facts["median_sigma2_over_sigma1"] = _median(table["sigma2_over_sigma1"])
        facts["median_energy1"] = _median(table["energy1"])
        facts["flagged_slices"] = sum(bool(flag) for flag in table["flag"])
    if folder.report.is_file():
        facts["report"] = str(folder.report)
    return facts


def _median(cells: Sequence[str]) -> float | None:
    """Return the median of the cells that are not empty, None where all are."""
    return float(np.median(numbers(list(filter(None, cells))))) if any(cells) else None
