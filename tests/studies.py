"""A study that takes seconds: its samples, its options, and how to change what its runs have reached."""

import json
import shutil
from pathlib import Path

import numpy as np
from commands import call

from eigenfeatures.eigen.phantom import Material, Noise, make_phantom
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.tables import numbers, read_table

# Lengths so far apart that 15 iterations tell them apart; as many slices as batches of 64 need.
LENGTHS = (1.0, 2.5, 6.0)
SLICES, SIZE = 42, 36
CHANGED = {"iterations": 15, "batch_size": 32, "learning_rate": 0.02, "device": "cpu"}
BASE = Settings(**CHANGED)
OPTIONS = [text for name, value in CHANGED.items() for text in (f"--{name.replace('_', '-')}", str(value))]
PRESETS = ("small", "reduced")
SEEDS = 2
CORE = ("--presets", ",".join(PRESETS), "--seeds", SEEDS, "--also-preset", "small", "--also-seeds", SEEDS)
ALSO = ("nulls", "splits", "operators", "claims")
EVERYTHING = (*CORE, "--also", ",".join(ALSO))


def make_samples(folder):
    """Write three samples, each a stack."""
    materials = [Material(length, contrast=20.0, mean=116.0) for length in LENGTHS]
    return make_phantom(
        folder, materials, slices=SLICES, size=SIZE, layout="stacks", noise=Noise(photons=8.0, detector=1.0)
    )


def study(samples, out, *options):
    """Run the command with this study's settings."""
    return call("study", samples, "--out", out, *OPTIONS, *options)


def copy_study(folder: Path, out: Path, *, runs=("small-seed0", "small-seed1"), measured=True) -> Path:
    """Copy what a study goes on from: its record, some of its runs, its measurements."""
    out.mkdir()
    shutil.copy(folder / "study.toml", out)
    for name in runs:
        shutil.copytree(folder / "runs" / name, out / "runs" / name)
    if measured:
        shutil.copytree(folder / "measured", out / "measured")
    return out


def set_accuracy(run: Path, accuracy: float) -> None:
    """Let a finished training have reached another accuracy."""
    description = run / "model.json"
    model = json.loads(description.read_text(encoding="utf-8"))
    model["training"]["validation_accuracy"] = accuracy
    description.write_text(json.dumps(model), encoding="utf-8")


def table(folder: Path, name: str) -> dict[str, np.ndarray]:
    """A table of a study: columns of numbers where all cells are such, or of text."""
    return {header: _column(cells) for header, cells in read_table(folder / "tables" / f"{name}.csv").items()}


def estimates(folder: Path, name: str, column: str = "mean") -> dict[tuple[str, str], float]:
    """A column of a table of estimates, by group and quantity."""
    found = table(folder, name)
    return dict(zip(zip(found["group"], found["quantity"], strict=True), found[column], strict=True))


def _column(cells):
    try:
        return numbers(cells)
    except ValueError:
        return np.array(cells)
