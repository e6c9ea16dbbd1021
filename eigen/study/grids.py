"""Where the pixels of a map lie on its slice, and how maps of two networks come onto one grid.

Networks differ in stride and in how far their first pixel lies from the slice's corner: a map of
AlexNet at relu2 has a pixel every 8 pixels of the slice, one of the paper's network every 2. Such
maps are compared on the coarser of the two grids. The finer map is averaged around the centre of
each of its pixels, with Gaussian weights, so that nothing aliases and nothing is made up.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.receptive_field import receptive_field

Interior = tuple[slice, slice]


@dataclass(frozen=True)
class Grid:
    """Pixel i of a map is centred on ``offset + stride * i`` along either axis of the slice.

    Attributes
    ----------
    stride, offset : float
        Pixels of the slice.
    shape : tuple of int
        Height and width of the map, in its own pixels.
    """

    stride: float
    offset: float
    shape: tuple[int, int]


def slice_grid(size: tuple[int, int]) -> Grid:
    """Return the grid of the slice itself."""
    return Grid(1.0, 0.0, size)


def grid_of(network: Network, layer: str, size: tuple[int, int]) -> Grid:
    """Return the grid of a layer's pooled maps of slices of `size`, ``(height, width)`` in pixels.

    A pixel lies at the centre of its receptive field.

    Raises
    ------
    InputError
        For an unknown layer.
    """
    field = receptive_field(network, layer)
    # The padding is the same on all sides: the last field, too, leaves the slice by at most `before`.
    height, width = ((side - 1 + field.before - field.after) // field.stride + 1 for side in size)
    return Grid(float(field.stride), (field.after - field.before) / 2, (height, width))


def dense_grid(pooled: Grid, shape: tuple[int, int]) -> Grid:
    """Return the grid of a layer's dense maps: the receptive fields of the pooled ones, a pixel apart."""
    return Grid(1.0, pooled.offset, shape)


def interior(grid: Grid, size: tuple[int, int], reach: float) -> Interior:
    """Return the rows and columns of a map that see nothing beyond the border of the slice.

    Parameters
    ----------
    grid
        Of the map.
    size
        Height and width of the slice.
    reach
        Pixels of the slice that a pixel of the map sees to either side of its centre.
    """
    first = max(0, math.ceil((reach - grid.offset) / grid.stride))
    ends = (math.floor((side - 1 - reach - grid.offset) / grid.stride) + 1 for side in size)
    rows, columns = (
        slice(first, max(first, min(end, side))) for end, side in zip(ends, grid.shape, strict=True)
    )
    return rows, columns


def common_grid(a: Grid, b: Grid) -> Grid:
    """Return the coarser of two grids, whichever comes first; of equal strides, the one further inside."""
    return max(a, b, key=lambda grid: (grid.stride, grid.offset))


def resample(maps: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Average maps around the pixels of a coarser grid.

    The weights fall off as a Gaussian whose standard deviation is half the target's stride; they
    sum to one at the borders as well.

    Parameters
    ----------
    maps
        ``(..., h, w)``, on the grid `source`.
    source, target
        Of the same slice.

    Returns
    -------
    ndarray
        ``(..., h', w')`` float32; `maps` itself where the grids are equal.

    Raises
    ------
    ValueError
        Where the target is finer than the source, or the maps aren't on the source's grid.
    """
    if maps.shape[-2:] != source.shape:
        raise ValueError(f"maps of {maps.shape[-2:]} pixels aren't on a grid of {source.shape}")
    if target == source:
        return maps
    if target.stride < source.stride:
        raise ValueError(f"a stride of {target.stride} pixels is finer than the maps' own, {source.stride}")
    rows, columns = (_weights(source, target, axis) for axis in (0, 1))
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _weights(source: Grid, target: Grid, axis: int) -> NDArray[np.float64]:
    """Return what each source pixel along an axis counts in each target pixel, ``(target, source)``."""
    at = target.offset + target.stride * np.arange(target.shape[axis])
    of = source.offset + source.stride * np.arange(source.shape[axis])
    distance = (at[:, None] - of) / (target.stride / 2)
    # A Gaussian divided by its sum, without underflow where all distances are large.
    weights: NDArray[np.float64] = softmax(-(distance**2) / 2, axis=1)
    return weights
