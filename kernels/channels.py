"""The channel with the strongest activation, α (paper, eq. 13)."""

from dataclasses import dataclass
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import ArrayLike

from eigenfeatures.kernels.arrays import Array, Foreign, ForeignArray, stacked
from eigenfeatures.kernels.call import Backend, Call


@dataclass(frozen=True, eq=False)
class StrongestChannel(Generic[Array]):
    """The channel α of each slice and its activations: arrays of the responses' library, ``(...)`` each.

    Attributes
    ----------
    index
        The channel that holds the largest activation, the first of equals; int64.
    maximum
        That activation, in units of the responses; float64, as are the means.
    mean
        Mean of the channel's activations (paper, Fig. 10).
    positive_mean
        Mean of those above zero, or 0 where there are none.
    """

    index: Array
    maximum: Array
    mean: Array
    positive_mean: Array


@overload
def strongest_channel(
    responses: Foreign, *, backend: Backend = ..., stream: object = ...
) -> StrongestChannel[Foreign]: ...
@overload
def strongest_channel(
    responses: ArrayLike, *, backend: Backend = ..., stream: object = ...
) -> StrongestChannel: ...
def strongest_channel(
    responses: ArrayLike | ForeignArray, *, backend: Backend = "auto", stream: object = None
) -> StrongestChannel[Any]:
    """Find the channel that holds the largest activation of each slice (paper, eq. 13).

    Reads the responses once, and the strongest channel again: O(N·C·h·w).

    Parameters
    ----------
    responses
        Response maps ``(..., C, h, w)`` of NumPy, torch, CuPy or any library with DLPack. A slice
        with a NaN gives NaN, and the index of the first channel that has one.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    StrongestChannel

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than three axes, no channels or no pixels.
    OSError
        As of `gradient_magnitude`.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.zeros((3, 2, 2), np.float32)
    >>> maps[2] = [[0, 1], [2, 6]]
    >>> strongest = strongest_channel(maps)
    >>> int(strongest.index), float(strongest.maximum), float(strongest.mean), float(strongest.positive_mean)
    (2, 6.0, 2.25, 3.0)
    """
    with Call(backend, stream, responses=responses) as call:
        given = call.input("responses", trailing=3)
        leading, (channels, height, width) = given.shape[:-3], given.shape[-3:]
        maps = stacked(given, 3).reshape(-1, channels, height * width)
        index = call.xp.empty(len(maps), np.int64)
        values = call.xp.empty((3, len(maps)))
        call.loops("channels").strongest(maps, index, *values)
        return call.result(StrongestChannel(*(array.reshape(leading) for array in (index, *values))))
