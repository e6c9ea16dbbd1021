"""The channel with the strongest activation, α (paper, eq. 13)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, stacked
from eigenfeatures.kernels.cpu import channels as loops


class StrongestChannel(NamedTuple):
    """The channel α of each slice and its activations; arrays of the leading shape ``(...)``.

    Attributes
    ----------
    index
        The channel that holds the largest activation, the first of equals; int64.
    maximum
        That activation; float64, as are the means.
    mean
        Mean of the channel's activations (paper, Fig. 10).
    positive_mean
        Mean of those above zero, or 0 where there are none.
    """

    index: NDArray[np.int64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    positive_mean: NDArray[np.float64]


def strongest_channel(responses: ArrayLike) -> StrongestChannel:
    """Find the channel that holds the largest activation of each slice (paper, eq. 13).

    Parameters
    ----------
    responses
        Response maps ``(..., C, h, w)``. A slice with a NaN gives NaN, and the index of the
        first channel that has one.

    Returns
    -------
    StrongestChannel

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than three axes, no channels or no pixels.
    """
    given = loop_input(responses, "responses", trailing=3)
    leading, (channels, height, width) = given.shape[:-3], given.shape[-3:]
    maps = stacked(given, 3).reshape(-1, channels, height * width)
    maxima = np.empty(maps.shape[:2])
    loops.maxima(maps, maxima)
    index = np.argmax(maxima, axis=1)  # NumPy's argmax takes a NaN as the largest
    mean, positive_mean = np.empty(len(maps)), np.empty(len(maps))
    loops.means(maps, index, mean, positive_mean)
    return StrongestChannel(
        index.reshape(leading),
        maxima.max(axis=1).reshape(leading),
        mean.reshape(leading),
        positive_mean.reshape(leading),
    )
