"""A finished run as its report looks at it: the tables, and the typical slices seen by the network."""

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.figures import Placement
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.preprocessing import most_typical
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.study.grids import grid_of
from eigenfeatures.export.features import voxel_size
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.tables import numbers, read_table
from eigenfeatures.kernels import gradient_magnitude, strongest_channel, truncated_svd


@dataclass(frozen=True)
class Answer:
    """What the network makes of one slice at the run's layer: two images ``(h, w)``.

    Attributes
    ----------
    alpha : ndarray
        The strongest channel (eq. 13).
    eigenfeature : ndarray
        σ₁u₁/√C: unit vectors carry no strength to compare.
    """

    alpha: NDArray[np.float32]
    eigenfeature: NDArray[np.float32]


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes
    ----------
    folder, samples, model
        As `eigenfeatures.export.steps.open_run` gives them.
    """

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
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        try:
            found: dict[str, Any] = json.loads(self.folder.metrics.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.folder.metrics} can't be read; run 'eigenfeatures infer' first"
            ) from error
        return found

    @cached_property
    def training(self) -> dict[str, NDArray[np.float64]]:
        """The columns of ``training.csv``."""
        return {name: numbers(cells) for name, cells in read_table(self.folder.training).items()}

    @cached_property
    def environment(self) -> dict[str, str]:
        """Device and versions, as ``run.toml`` has them."""
        record = tomllib.loads(self.folder.record.read_text(encoding="utf-8"))
        return {name: str(value) for part in ("device", "versions") for name, value in record[part].items()}

    @cached_property
    def boundaries(self) -> NDArray[np.int64]:
        """Where each sample starts among the slices, and where the last one ends."""
        return np.searchsorted(self.samples.label, np.arange(len(self.samples.classes) + 1))

    @cached_property
    def typical(self) -> NDArray[np.int64]:
        """A typical slice of each sample."""
        return most_typical(self.samples, numbers(self.table["mean_gradient"]))

    @cached_property
    def typical_names(self) -> list[str]:
        """What the typical slices are called in figures: sample, specimen where it has several, number."""
        return [self.slice_name(int(index)) for index in self.typical]

    @cached_property
    def strongest_sample(self) -> int:
        """The sample whose gradient is largest, as sample 3 is in the paper."""
        return int(np.argmax(numbers(self.table["mean_gradient"])[self.typical]))

    @property
    def strongest_name(self) -> str:
        """What the typical slice of `strongest_sample` is called."""
        return self.typical_names[self.strongest_sample]

    def slice_name(self, index: int) -> str:
        """Return what a slice is called in figures."""
        specimen = self.samples.specimens[self.samples.specimen_of[index]]
        names = dict.fromkeys((specimen.sample, specimen.name))
        return f"{', '.join(names)}, slice {self.samples.slice_of[index]}"

    @cached_property
    def slices(self) -> NDArray[Any]:
        """The typical raw slices."""
        return self.samples.read(self.typical)

    @cached_property
    def gradients(self) -> NDArray[Any]:
        """|∇Y| of the typical slices."""
        return gradient_magnitude(self.slices, self.model.preprocessing.operator)

    def maps(self, index: int, layers: tuple[str, ...], resolution: str) -> dict[str, NDArray[np.float32]]:
        """Return the response maps ``(C, h, w)`` of one slice; one at a time, since they are large."""
        images = torch.from_numpy(self.model.preprocessing(self.samples.read([index])))[:, None]
        with torch.inference_mode():
            found = responses(self.model.network, images, layers, resolution)
        return {layer: maps[0].numpy() for layer, maps in found.items()}

    def layer_maps(self, index: int) -> NDArray[np.float32]:
        """Return the response maps of one slice at the run's layer and resolution."""
        layer = self.folder.settings.layer
        return self.maps(index, (layer,), self.folder.settings.resolution)[layer]

    def answers(self, indices: NDArray[np.int64]) -> list[Answer]:
        """Return α channel and eigenfeature of each slice."""
        found = []
        for index in indices:
            maps = self.layer_maps(int(index))
            svd = truncated_svd(maps, 1, seed=self.folder.settings.seed)
            strength = np.float32(svd.s[0] / np.sqrt(len(maps)))
            found.append(Answer(maps[strongest_channel(maps).index].copy(), strength * svd.u[0]))
        return found

    def median(self, column: str) -> float | None:
        """Return the median of a column of ``slices.csv``, None where all of its cells are empty."""
        cells = list(filter(None, self.table[column]))
        return float(np.median(numbers(cells))) if cells else None

    @property
    def voxel(self) -> tuple[float, float, float] | None:
        """Depth, height and width of a voxel in micrometres."""
        size = voxel_size(self.folder.settings, self.samples)
        return None if size is None else (size.z, size.y, size.x)

    @property
    def pixel(self) -> tuple[float, float] | None:
        """Height and width of a pixel in micrometres."""
        return None if self.voxel is None else self.voxel[1:]

    @property
    def placement(self) -> Placement:
        """Where the pixels of the maps lie in the slice."""
        settings = self.folder.settings
        return self.placement_at(settings.layer, settings.resolution)

    def placement_at(self, layer: str, resolution: str) -> Placement:
        """Return where the pixels of a layer's maps lie in the slice."""
        network = self.model.network
        grid = grid_of(network, layer, network.size)
        return Placement(grid.offset, grid.stride if resolution == "pooled" else 1.0)

    def cuts_as(self, other: "Finished") -> bool:
        """Tell whether another run has the same slices under the same numbers."""
        return self.folder.inputs == other.folder.inputs and self._cuts() == other._cuts()

    def _cuts(self) -> list[tuple[str, str, str]]:
        return [(part.sample, part.name, str(part.region)) for part in self.samples.specimens]
