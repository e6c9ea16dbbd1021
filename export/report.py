"""The last step: the paper's figures for the user's samples, and one page that explains them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.figures import (
    CAPTIONS,
    NOTES,
    Sections,
    channel_activation,
    confusion_matrix,
    figure_png,
    gradient_and_channels,
    operator_comparison,
    overlay,
    response_montage,
    sample_grid,
    singular_value_decay,
    slice_means,
    training_progress,
    typical_slices,
    whole_slice_and_sections,
)
from eigenfeatures.eigen.files import write_bytes
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import VALIDATION
from eigenfeatures.export.features import voxel_size
from eigenfeatures.export.html import Section, Table, write_report
from eigenfeatures.export.run_folder import RunFolder, versions
from eigenfeatures.export.steps import Talk, open_run
from eigenfeatures.export.tables import numbers, read_table
from eigenfeatures.kernels import Operator, gradient_magnitude, strongest_channel, truncated_svd

_FIG9_LAYERS = ("conv1", "conv2", "relu2")


@dataclass(frozen=True)
class Finished:
    """A finished run, with the typical slice of every sample and what the network makes of it."""

    folder: RunFolder
    samples: SampleSet
    model: Model

    @cached_property
    def table(self) -> dict[str, list[str]]:
        """The columns of ``slices.csv`` as text."""
        table = read_table(self.folder.slices)
        for column, step in (("predicted", "infer"), ("residual", "features")):
            if column not in table:
                raise InputError(
                    f"{self.folder.slices} has no column '{column}'; run 'eigenfeatures {step}' first"
                )
        return table

    @cached_property
    def boundaries(self) -> NDArray[np.int64]:
        """Where each sample starts among the slices, and where the last one ends."""
        return np.searchsorted(self.samples.label, np.arange(len(self.samples.classes) + 1))

    @cached_property
    def typical(self) -> NDArray[np.int64]:
        """For each sample, the slice whose mean |∇Y| is nearest to the sample's median."""
        gradient = numbers(self.table["mean_gradient"])
        parts = [slice(*ends) for ends in zip(self.boundaries, self.boundaries[1:], strict=False)]
        return np.array(
            [part.start + np.argmin(np.abs(gradient[part] - np.median(gradient[part]))) for part in parts]
        )

    @cached_property
    def slices(self) -> NDArray[Any]:
        """The typical raw slices."""
        return self.samples.read(self.typical)

    @cached_property
    def gradients(self) -> NDArray[Any]:
        """|∇Y| of the typical slices."""
        return gradient_magnitude(self.slices, self.model.preprocessing.operator)

    def maps(self, layer: str, resolution: str = "pooled") -> NDArray[np.float32]:
        """Return the response maps of the typical slices, ``(samples, C, h, w)``."""
        images = torch.from_numpy(self.model.preprocessing(self.slices))[:, None]
        with torch.inference_mode():
            return responses(self.model.network, images, [layer], resolution)[layer].numpy()

    @cached_property
    def layer_maps(self) -> NDArray[np.float32]:
        """The response maps at the run's layer and resolution."""
        return self.maps(self.folder.settings.layer, self.folder.settings.resolution)

    def strongest(self, maps: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the α channel (eq. 13) of each slice's maps."""
        return [channels[k] for channels, k in zip(maps, strongest_channel(maps).index, strict=True)]

    @cached_property
    def eigenfeatures(self) -> list[NDArray[np.float32]]:
        """σ₁u₁/√C of the typical slices: unit vectors carry no strength to compare."""
        svd = truncated_svd(self.layer_maps, 1, seed=self.folder.settings.seed)
        scale = svd.s[:, 0] / np.sqrt(self.layer_maps.shape[1])
        return list(scale[:, None, None] * svd.u[:, 0])

    @property
    def voxel(self) -> tuple[float, float, float] | None:
        """Depth, height and width of a voxel in micrometres."""
        size = voxel_size(self.folder, self.samples)
        return None if size is None else (size.z, size.y, size.x)

    @property
    def pixel(self) -> tuple[float, float] | None:
        """Height and width of a pixel in micrometres."""
        return None if self.voxel is None else self.voxel[1:]


def report_step(
    folder: RunFolder, samples: SampleSet, model: Model, talk: Talk, compare: Path | None = None
) -> None:
    """Draw all figures into ``figures/`` and write ``report.html``.

    Raises
    ------
    InputError
        When a step before this one is missing, or `compare` is a run on other samples.
    """
    run = Finished(folder, samples, model)
    other = Finished(*open_run(compare)) if compare else None
    if other and (other.samples.classes != samples.classes or other.folder.inputs != folder.inputs):
        raise InputError(f"{compare} is a run on other samples; compare runs on the same ones")
    figures = _figures(run, other)
    sections = []
    for name, (file, draw) in talk.track(figures.items(), "figures", len(figures)):
        png = figure_png(draw())
        write_bytes(folder.figures / f"{file}.png", png)
        sections.append(Section(*CAPTIONS[name], figure=png))
    write_report(
        folder.report,
        title=f"Eigenfeatures of {', '.join(samples.classes)}",
        summary=_summary(run),
        sections=[_method(run), *sections, *_tables(run)],
    )


def _figures(run: Finished, other: Finished | None) -> Mapping[str, tuple[str, Callable[[], Figure]]]:
    """Name of a caption to the file's name and the drawing, in the order of the report."""
    names, table = run.samples.classes, run.table
    layer = run.folder.settings.layer

    def along(column: str, ylabel: str) -> Figure:
        return slice_means(numbers(table[column]), run.boundaries, names, ylabel)

    figures: dict[str, tuple[str, Callable[[], Figure]]] = {
        "eigenfeatures": ("fig13_eigenfeatures", lambda: _eigenfeature_grid(run, other)),
        "overlay": ("overlay", lambda: overlay(run.slices, run.eigenfeatures, names, run.pixel)),
        "strongest_channels": ("fig11_strongest_channels", lambda: _channel_grid(run, other)),
        "channel_activation": ("fig10_channel_activation", lambda: _activation(run)),
        "typical_slices": ("fig01_typical_slices", lambda: typical_slices(run.slices, names, run.pixel)),
        "whole_slice_and_sections": ("fig02_whole_slice_and_sections", lambda: _whole_slice(run)),
        "slice_mean": ("fig03a_mean", lambda: along("mean", "mean grey value")),
        "slice_gradient": ("fig03b_mean_gradient", lambda: along("mean_gradient", "mean |∇Y|")),
        "operator_comparison": ("fig05_gradient_operators", lambda: _operators(run)),
        "training_progress": ("fig06_training", lambda: _training(run)),
        "confusion_matrix": ("confusion_matrix", lambda: _confusion(run)),
        "singular_value_decay": ("fig07d_singular_values", lambda: _decay(run)),
        "response_montage": (
            "fig08_response_maps",
            lambda: response_montage(run.layer_maps[_strongest_sample(run)], layer),
        ),
        "gradient_and_channels": ("fig09_strongest_channel_by_layer", lambda: _by_layer(run)),
    }
    if other:
        figures["training_progress_compared"] = ("fig12_training_compared", lambda: _training(other))
    return figures


def _eigenfeature_grid(run: Finished, other: Finished | None) -> Figure:
    columns = {"|∇Y|": list(run.gradients), _column("σ₁u₁/√C", run, other): run.eigenfeatures}
    if other:
        columns[_column("σ₁u₁/√C", other, run)] = _on_slices_of(run, other).eigenfeatures
    return sample_grid(
        columns, run.samples.classes, f"Eigenfeatures at {run.folder.settings.layer}", run.pixel
    )


def _channel_grid(run: Finished, other: Finished | None) -> Figure:
    columns = {"|∇Y|": list(run.gradients), _column("channel α", run, other): run.strongest(run.layer_maps)}
    if other:
        same = _on_slices_of(run, other)
        columns[_column("channel α", other, run)] = same.strongest(same.layer_maps)
    title = f"Strongest channel at {run.folder.settings.layer}"
    return sample_grid(columns, run.samples.classes, title, run.pixel)


def _column(quantity: str, run: Finished, other: Finished | None) -> str:
    """Title a column by what tells its run from the other."""
    if other is None:
        return quantity
    ours, theirs = run.folder.settings.to_toml(), other.folder.settings.to_toml()
    differing = [f"{name} {ours[name]}" for name in ours if ours[name] != theirs.get(name)]
    return f"{quantity} ({', '.join(differing[:2]) or run.folder.path.name})"


def _on_slices_of(run: Finished, other: Finished) -> Finished:
    """Look at the other run's answers to this run's typical slices."""
    same = Finished(other.folder, other.samples, other.model)
    same.__dict__["typical"] = run.typical
    return same


def _activation(run: Finished) -> Figure:
    means = {layer: numbers(run.table[f"alpha_{layer}_positive_mean"]) for layer in ("relu1", "relu2")}
    return channel_activation(means, run.boundaries, run.samples.classes)


def _strongest_sample(run: Finished) -> int:
    """Return the sample whose gradient is largest, as sample 3 is in the paper."""
    gradient = numbers(run.table["mean_gradient"])
    return int(np.argmax([gradient[index] for index in run.typical]))


def _whole_slice(run: Finished) -> Figure:
    specimen = run.samples.specimens[0]
    stack, region = specimen.stack, specimen.region
    depth = stack.shape[0]
    regions = [part.region for part in run.samples.specimens if part.stack is stack]
    # Row by row of the stack, so that one slice at a time is in memory.
    middle_row, middle_column = region.height // 2, region.width // 2
    lines = [
        (image[middle_row], image[:, middle_column])
        for image in (stack.read([k], region)[0] for k in range(depth))
    ]
    sections = Sections(
        xy=stack.read([depth // 2], region)[0],
        xz=np.stack([row for row, _ in lines]),
        yz=np.stack([column for _, column in lines]),
    )
    return whole_slice_and_sections(stack.read([depth // 2])[0], regions, sections, run.voxel)


def _operators(run: Finished) -> Figure:
    image = run.slices[_strongest_sample(run)]
    names: dict[Operator, None] = dict.fromkeys(("forward", "sobel", run.model.preprocessing.operator))
    return operator_comparison({name: gradient_magnitude(image, name) for name in names}, run.pixel)


def _training(run: Finished) -> Figure:
    table = {name: numbers(cells) for name, cells in read_table(run.folder.training).items()}
    return training_progress(table, f"Training of the network '{run.folder.settings.preset}'")


def _confusion(run: Finished) -> Figure:
    return confusion_matrix(np.array(_metrics(run)[VALIDATION]["confusion"]), run.samples.classes)


def _decay(run: Finished) -> Figure:
    names = [name for name in (f"sigma{k}" for k in range(1, 9)) if any(run.table[name])]
    values = np.stack([numbers(run.table[name]) for name in names], axis=1)
    return singular_value_decay(values, numbers(run.table["energy1"]), run.samples.label, run.samples.classes)


def _by_layer(run: Finished) -> Figure:
    sample = _strongest_sample(run)
    maps = {layer: run.strongest(run.maps(layer)[sample : sample + 1])[0] for layer in _FIG9_LAYERS}
    return gradient_and_channels(run.gradients[sample], maps, run.pixel)


def _metrics(run: Finished) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(run.folder.metrics.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run.folder.metrics} can't be read; run 'eigenfeatures infer' first") from error
    return found


def _summary(run: Finished) -> list[tuple[str, str | int | float]]:
    metrics, settings = _metrics(run)[VALIDATION], run.folder.settings
    height, width = run.samples.size
    return [
        ("samples", len(run.samples.classes)),
        ("slices", f"{len(run.samples)} of {height}×{width}"),
        ("network", settings.preset),
        ("validation accuracy", f"{metrics['accuracy']:.1%} of {metrics['slices']}"),
        ("split", settings.split),
        ("median σ₂/σ₁", float(np.nanmedian(numbers(run.table["sigma2_over_sigma1"])))),
        ("median σ₁²/‖X‖²", float(np.nanmedian(numbers(run.table["energy1"])))),
        ("flagged slices", sum(bool(flag) for flag in run.table["flag"])),
    ]


def _method(run: Finished) -> Section:
    settings = run.folder.settings
    notes = [NOTES[settings.split]]
    if settings.preset in NOTES:
        notes.append(NOTES[settings.preset])
    if (run.folder.samples / "README.txt").is_file() and "Synthetic" in (
        run.folder.samples / "README.txt"
    ).read_text(encoding="utf-8", errors="replace"):
        notes.append(NOTES["phantom"])
    return Section("How to read these results", " ".join(notes))


def _tables(run: Finished) -> list[Section]:
    metrics = _metrics(run)[VALIDATION]["per_class"]
    rows = [
        [
            name,
            *("–" if row[key] is None else f"{row[key]:.1%}" for key in ("precision", "recall")),
            row["slices"],
        ]
        for name, row in metrics.items()
    ]
    settings = [[name, str(value)] for name, value in run.folder.settings.to_toml().items()]
    used = [[name, value] for name, value in versions().items()]
    return [
        Section(*CAPTIONS["class_metrics"], table=Table(["sample", "precision", "recall", "slices"], rows)),
        Section(*CAPTIONS["settings"], table=Table(["setting", "value"], settings)),
        Section(*CAPTIONS["versions"], table=Table(["library", "version"], used)),
    ]
