"""What batch inference must know of a model, whichever engine runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.kernels import Operator

if TYPE_CHECKING:
    from eigenfeatures.eigen.study.grids import Grid

# The output that has the class probabilities of windows over a large slice, as maps.
CLASS_MAPS = "class_probabilities"


@dataclass(frozen=True)
class ModelFacts:
    """A model as its file describes it.

    Attributes
    ----------
    file : Path
        What was opened.
    sha256 : str
        Of that file.
    classes : tuple of str
        In the order of the probabilities.
    size : (int, int) or None
        Height and width of the slices; None for a model that takes any.
    dtype : numpy.dtype or None
        Of the slices; None for an engine that takes any.
    operator : str
        Of the gradient, for the statistics.
    preset, layer, resolution : str
        Of the network and of the layer that is decomposed.
    rank : int
        How many singular vectors.
    seed : int or None
        Of the decomposition; None for a graph, which has none.
    crop : int or None
        Side of the square at the centre that the training cut from every slice.
    window : (int, int) or None
        Height and width of the slices in training, whether or not the model takes others.
    weights : str or None
        SHA-256 of the weights that a graph was made from; None where the engine has them itself.
    map_step : int or None
        How many pixels of the slice lie between two pixels of `CLASS_MAPS`.
    stack_dtypes : tuple of str
        Of the training's stacks, where the file tells it; if there are several, all were read as float32.
    strides, offsets : mapping
        Of layers, where the file tells it: how many pixels of the slice lie between two pixels of a pooled
        map, and between the slice's first pixel and that of a map, pooled or dense.
    """

    file: Path
    sha256: str
    classes: tuple[str, ...]
    size: tuple[int, int] | None
    dtype: np.dtype[Any] | None
    operator: Operator
    preset: str
    layer: str
    resolution: str
    rank: int = 1
    seed: int | None = None
    crop: int | None = None
    window: tuple[int, int] | None = None
    weights: str | None = None
    map_step: int | None = None
    stack_dtypes: tuple[str, ...] = ()
    strides: Mapping[str, int] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this model from one that gives other numbers."""
        names = ("sha256", "layer", "resolution", "rank", "seed")
        return {name: getattr(self, name) for name in names}

    def stride(self, output: str) -> int:
        """Return how many pixels of the slice lie between two pixels of an output's maps."""
        if output == CLASS_MAPS and self.map_step is not None:
            return self.map_step
        if self.resolution == "dense":
            return 1
        layer = self._layer(output)
        return self.strides[layer] if layer in self.strides else int(self._grid(layer).stride)

    def offset(self, output: str) -> float:
        """Return how many pixels of the slice lie between its first and the first of an output's maps."""
        if output == CLASS_MAPS and self.map_step is not None:
            return (self.map_step - 1) / 2
        layer = self._layer(output)
        return self.offsets[layer] if layer in self.offsets else self._grid(layer).offset

    def _layer(self, output: str) -> str:
        return self.layer if output == "eigenfeatures" else output

    def _grid(self, layer: str) -> "Grid":
        """Ask the network, which needs torch."""
        import torch

        from eigenfeatures.eigen.network import build_network
        from eigenfeatures.eigen.study.grids import grid_of

        size = self.size or (512, 512)
        with torch.device("meta"):
            network = build_network(self.preset, max(2, len(self.classes)), size)
        return grid_of(network, layer, size)

    def check_slices(self, where: str, height: int, width: int, dtype: np.dtype[Any]) -> None:
        """Raise `InputError` unless the model takes such slices, whole or in windows."""
        if self.size is not None and (height < self.size[0] or width < self.size[1]):
            raise InputError(
                f"{where} gives slices of {height}×{width} pixels, but the model was made for "
                f"{self.size[0]}×{self.size[1]}; use a model of smaller slices or a larger --roi"
            )
        if self.dtype is not None and dtype != self.dtype:
            scaling = (
                f"without scaling, as the training's {' and '.join(self.stack_dtypes)} stacks were"
                if len(self.stack_dtypes) > 1
                else "with the scaling that the training data had"
            )
            raise InputError(
                f"{where} holds {dtype.name} slices, but the model takes {self.dtype.name}; "
                f"convert the stack, {scaling}"
            )
