"""The channel with the strongest activation, α (paper, eq. 13)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import loop_input, stacked
from eigenfeatures.kernels.interop import any_library


@dataclass(frozen=True)
class StrongestChannel:
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


@any_library
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
    # NumPy's maximum runs at memory speed, and its argmax takes a NaN as the largest.
    maxima = maps.max(axis=2)
    index = maxima.argmax(axis=1)
    rows = np.arange(len(maps))
    strongest = maps[rows, index]
    total = strongest.sum(axis=1, dtype=np.float64)
    positive = strongest > 0
    positive_total = strongest.sum(axis=1, dtype=np.float64, where=positive)
    positive_mean = positive_total / np.maximum(positive.sum(axis=1), 1)
    return StrongestChannel(
        index=index.reshape(leading),
        maximum=maxima[rows, index].astype(np.float64).reshape(leading),
        mean=(total / (height * width)).reshape(leading),
        positive_mean=np.where(np.isnan(total), np.nan, positive_mean).reshape(leading),
    )
