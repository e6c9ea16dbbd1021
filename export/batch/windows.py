"""Windows of the model's size over a large slice, and the class probabilities that they give together.

Each window is classified as a slice of its own: under the normalisation ``slice`` it is standardised by
its own mean and deviation, as the slices were in training.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region

OVERLAP = 0.5


class Windows:
    """Where the windows of a slice lie, and how their answers are blended.

    A pixel's probabilities are the mean of those of all windows over it, weighted by a Hann window along
    both axes: a window counts most at its centre and next to nothing at its edges, where it
    sees half of what surrounds the pixel. At half an overlap the weights sum to 1 by themselves.

    Parameters
    ----------
    size
        Height and width of the slices.
    window
        Height and width of the model's slices.
    overlap
        Of neighbouring windows, as a part of the window's shorter side: 0 to 0.9. The last window along an
        axis is shifted inside the slice, so that it overlaps more.

    Attributes
    ----------
    regions : list of Region
        The windows, row by row.
    step : int
        Pixels between windows, and between the pixels of a map.
    shape : (int, int)
        Height and width of a map. Its pixel (i, j) lies at the centre of the square of `step` pixels
        that begins at ``(i * step, j * step)``.

    Raises
    ------
    InputError
        For an overlap out of range, or a slice smaller than the window.
    """

    def __init__(self, size: tuple[int, int], window: tuple[int, int], overlap: float = OVERLAP) -> None:
        check_overlap(overlap)
        if size[0] < window[0] or size[1] < window[1]:
            raise InputError(
                f"slices of {size[0]}×{size[1]} pixels are smaller than the model's window of "
                f"{window[0]}×{window[1]}; use a model of smaller slices"
            )
        self.step = max(1, round(min(window) * (1 - overlap)))
        axes = list(zip(size, window, strict=True))
        starts = [window_starts(length, side, self.step) for length, side in axes]
        self.regions = [Region(top, left, *window) for top in starts[0] for left in starts[1]]
        self.shape = (math.ceil(size[0] / self.step), math.ceil(size[1] / self.step))
        self._at_map = [
            _shares(_map_positions(length, self.step), begins, side)
            for (length, side), begins in zip(axes, starts, strict=True)
        ]
        # The mean over all pixels of the slice, not only those of the map.
        self._over_slice = [
            _shares(np.arange(length), begins, side).mean(0)
            for (length, side), begins in zip(axes, starts, strict=True)
        ]

    def cut(self, image: NDArray[Any], count: int) -> Iterator[NDArray[Any]]:
        """Yield copies of the windows of a slice ``(H, W)``, up to `count` at a time: ``(n, h, w)``."""
        for first in range(0, len(self.regions), count):
            group = self.regions[first : first + count]
            yield np.stack([image[r.top : r.top + r.height, r.left : r.left + r.width] for r in group])

    def class_map(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """Blend the windows' probabilities ``(windows, classes)`` into maps ``(classes, h, w)``."""
        rows, columns = self._at_map
        found = np.einsum("iy,jx,yxc->cij", rows, columns, self._on_grid(probabilities))
        return np.asarray(found, np.float32)

    def mean(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the blended probabilities ``(classes,)``, averaged over all pixels of the slice."""
        rows, columns = self._over_slice
        found = np.einsum("y,x,yxc->c", rows, columns, self._on_grid(probabilities))
        return np.asarray(found, np.float32)

    def _on_grid(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        windows = (self._at_map[0].shape[1], self._at_map[1].shape[1])
        return np.asarray(probabilities, np.float64).reshape(*windows, -1)


def check_overlap(overlap: float) -> None:
    """Raise `InputError` for an overlap out of range."""
    if not isinstance(overlap, int | float) or not 0 <= overlap <= 0.9:
        raise InputError(f"--overlap {overlap} is out of range; give 0 to 0.9")


def window_starts(length: int, side: int, step: int) -> list[int]:
    """Return where windows begin along an axis: at every step, and the last where it ends with the axis."""
    return [*range(0, length - side, step), length - side]


def _map_positions(length: int, step: int) -> NDArray[np.float64]:
    """Return the centres of a map's pixels, in pixels of the slice; that of the last is within it."""
    centres = np.arange(0, length, step) + (step - 1) / 2
    return np.asarray(np.minimum(centres, length - 1), np.float64)


def _shares(positions: NDArray[np.number], starts: list[int], side: int) -> NDArray[np.float64]:
    """Return what part each window has in each position, ``(positions, windows)``; rows sum to 1."""
    # From the window's edge to the centre of the pixel, so that the first and last pixel count a little.
    inside = positions[:, np.newaxis] - np.array(starts) + 0.5
    weights = np.where((inside > 0) & (inside < side), np.sin(np.pi * inside / side) ** 2, 0.0)
    return np.asarray(weights / weights.sum(1, keepdims=True))
