"""A few slices as all networks of a study see them; maps never exist for more slices than these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.receptive_field import receptive_field
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.study.grids import (
    Grid,
    Interior,
    dense_grid,
    grid_of,
    interior,
    resample,
    slice_grid,
)
from eigenfeatures.eigen.study.maps import SliceMaps, View, slice_maps
from eigenfeatures.eigen.study.similarity import PreparedMaps, pearson, prepare, residual
from eigenfeatures.eigen.study.subspaces import Subspaces, prepare_subspaces
from eigenfeatures.kernels import Operator, gradient_magnitude

# Deviations of the Gaussians that smooth |∇Y|, in pixels of the slice.
SCALES = (0, 1, 2, 4, 8)

U1, ALPHA = "u1", "alpha"
KINDS = (U1, ALPHA)

_SLICES = 8


@dataclass(frozen=True)
class StudiedNetwork:
    """A network of a study, in evaluation mode, on the device where it is to run."""

    name: str
    network: Network
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Chunk:
    """A few slices of one stack, in order, and the maps of every network.

    Attributes
    ----------
    indices : ndarray of int
        The slices of which it speaks.
    slices : ndarray, shape (slices, H, W)
        Raw; one more than `indices` where the next slice of the stack follows as a neighbour.
    gradients : ndarray of float32, shape (slices, scales, H, W)
        |∇Y| smoothed by each of `SCALES`.
    maps : list of SliceMaps
        One a network, of all of `slices`.
    grids : list of Grid
        Of the maps of each network.
    reaches : list of float
        How many pixels of the slice a pixel of each network's maps sees to either side.
    samples : ndarray of int, shape (slices,)
        The sample of each slice.
    consecutive : bool
        Whether each slice is the next one of the stack, none left out between them.
    others : Chunk or None
        A slice of every sample, to be compared with slices that it has nothing to do with.
    """

    indices: NDArray[np.int64]
    slices: NDArray[Any]
    gradients: NDArray[np.float32]
    maps: list[SliceMaps]
    grids: list[Grid]
    reaches: list[float]
    samples: NDArray[np.int64]
    consecutive: bool
    others: "Chunk | None" = None
    _known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def map(self, run: int, kind: str, grid: Grid) -> NDArray[np.float32]:
        """Return the map ``(slices, h, w)`` of a kind on a grid."""
        maps = self.maps[run].u[:, 0] if kind == U1 else self.maps[run].alpha
        return resample(maps, self.grids[run], grid)

    def subspaces(self, run: int, grid: Grid) -> Subspaces:
        """Return what all singular vectors of a run span; made once."""
        key = (run, grid)
        if key not in self._known:
            self._known[key] = prepare_subspaces(resample(self.maps[run].u, self.grids[run], grid))
        found: Subspaces = self._known[key]
        return found

    def prepared(self, run: int, kind: str, grid: Grid) -> PreparedMaps:
        """Return what comparisons of a run's maps need; made once."""
        key = (run, kind, grid)
        if key not in self._known:
            self._known[key] = prepare(self.map(run, kind, grid))
        found: PreparedMaps = self._known[key]
        return found

    def interior(self, runs: Sequence[int], grid: Grid) -> Interior:
        """Return the rows and columns where none of the runs' maps sees the zeros that pad the slice."""
        # Resampling adds two deviations of its weights.
        reach = max(self.reaches[run] + (0.0 if grid == self.grids[run] else grid.stride) for run in runs)
        height, width = self.gradients.shape[-2:]
        return interior(grid, (height, width), reach)

    def beyond_image(self, run: int, kind: str, grid: Grid, inside: Interior) -> NDArray[np.float64]:
        """Return what the smoothed gradient images leave of a part of a run's maps; made once."""
        rows, columns = inside
        key = (run, kind, grid, rows.start, rows.stop, columns.start, columns.stop)
        if key not in self._known:
            maps = self.map(run, kind, grid)[:, rows, columns]
            self._known[key] = residual(maps, self.gradients_on(grid)[:, :, rows, columns])
        found: NDArray[np.float64] = self._known[key]
        return found

    def gradients_on(self, grid: Grid) -> NDArray[np.float32]:
        """Return the smoothed gradient images ``(slices, scales, h, w)`` on a grid; made once."""
        if grid not in self._known:
            self._known[grid] = resample(self.gradients, slice_grid(self.gradients.shape[-2:]), grid)
        found: NDArray[np.float32] = self._known[grid]
        return found


def chunks(
    networks: Sequence[StudiedNetwork],
    samples: SampleSet,
    view: View,
    operator: Operator,
    device: torch.device,
    every: int = 1,
) -> Iterator[Chunk]:
    """Go through the slices of all samples, stack by stack.

    Parameters
    ----------
    networks
        Each computes its own maps.
    samples
        The stacks.
    view
        Which singular vectors, the same of all networks.
    operator
        Of the gradient images, whatever the networks' own is.
    device
        Where the networks are.
    every
        Take each so-manyth slice; what is between them is left out.

    Yields
    ------
    Chunk
        Of the next few slices.
    """
    others = look_at(networks, samples, middle_slices(samples), view, operator, device)
    for indices, neighbours in _parts(samples, every):
        chunk = look_at(networks, samples, indices, view, operator, device, neighbours)
        yield replace(chunk, consecutive=every == 1, others=others)


def middle_slices(samples: SampleSet) -> NDArray[np.int64]:
    """Return the middle slice of each sample."""
    members = [np.flatnonzero(samples.label == label) for label in range(len(samples.classes))]
    return np.array([slices[len(slices) // 2] for slices in members])


def look_at(
    networks: Sequence[StudiedNetwork],
    samples: SampleSet,
    indices: NDArray[np.int64],
    view: View,
    operator: Operator,
    device: torch.device,
    neighbours: NDArray[np.int64] | None = None,
) -> Chunk:
    """Compute the maps of every network on some slices, and on a neighbour behind them; see `chunks`."""
    slices = samples.read(indices if neighbours is None else np.concatenate([indices, neighbours]))
    gradient = np.asarray(gradient_magnitude(slices, operator), np.float32)
    gradients = np.stack([gaussian_filter(gradient, scale, axes=(1, 2)) for scale in SCALES], axis=1)
    maps = [slice_maps(entry.network, entry.preprocessing, slices, view, device) for entry in networks]
    size = (int(slices.shape[1]), int(slices.shape[2]))
    grids = [_grid(entry.network, view, found, size) for entry, found in zip(networks, maps, strict=True)]
    if view.center or not view.layer.startswith("relu"):
        maps = [_oriented(found, grid, gradients) for found, grid in zip(maps, grids, strict=True)]
    reaches = [_reach(entry.network, view.layer) for entry in networks]
    return Chunk(indices, slices, gradients, maps, grids, reaches, samples.label[indices], consecutive=False)


def _grid(network: Network, view: View, maps: SliceMaps, size: tuple[int, int]) -> Grid:
    found = grid_of(network, view.layer, size)
    return found if view.resolution == "pooled" else dense_grid(found, maps.u.shape[-2:])


def _oriented(maps: SliceMaps, grid: Grid, gradients: NDArray[np.float32]) -> SliceMaps:
    """Choose the sign of vectors that have none of their own: the way that u₁ resembles |∇Y|."""
    image = resample(gradients[:, 0], slice_grid(gradients.shape[-2:]), grid)
    sign = np.where(pearson(maps.u[:, 0], image) < 0, np.float32(-1), np.float32(1))
    return replace(maps, u=maps.u * sign[:, None, None, None])


def _reach(network: Network, layer: str) -> float:
    field = receptive_field(network, layer)
    return (field.before + field.after) / 2


def chunk_count(samples: SampleSet, every: int = 1) -> int:
    """Return how many chunks `chunks` yields."""
    return sum(1 for _ in _parts(samples, every))


def _parts(samples: SampleSet, every: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for specimen in range(len(samples.specimens)):
        members = np.flatnonzero(samples.specimen_of == specimen)[::every]
        for start in range(0, len(members), _SLICES):
            stop = start + _SLICES
            yield members[start:stop], members[stop : stop + 1] if every == 1 else members[:0]
