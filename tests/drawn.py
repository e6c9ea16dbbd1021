"""What figures show, and slices to draw."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def pictures(figure: Figure) -> list[Axes]:
    """The axes that show an image, without colour bars."""
    return [axes for axes in figure.axes if axes.images]


def values(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[-1].get_array())


def slices_of(samples: int, shape: tuple[int, int] = (40, 60)) -> list[np.ndarray]:
    """Slices whose level and contrast grow from sample to sample."""
    rng = np.random.default_rng(7)
    return [rng.normal(10 * k, 1 + k, shape) for k in range(samples)]
