"""The response maps of a slice that is too large to hold them all: tile by tile, equal to the untiled ones.

At 2048×2048 pixels the maps of 128 channels take 2 GB. A tile is the response to a part of the
slice with a halo as wide as the layer's receptive field. It begins at a multiple of all strides, so that
pooling falls on the same pixels as in the whole slice; and it ends where the slice ends, so
that every layer pads there, and only there, as it does for the whole slice.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from torch import Tensor

from eigenfeatures.eigen.device import convolution_order
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.receptive_field import ReceptiveField, receptive_field
from eigenfeatures.eigen.responses import map_shape, responses

# Pixels along the side of a tile. Twice the receptive field where that is more: then the halo makes the
# network's work at most 2.25 times as much.
_SIDE = 256


class Cut(NamedTuple):
    """A tile along one axis.

    Attributes
    ----------
    source
        Of the slice: what the tile is computed from.
    inner
        Of the response to `source`: what is free of the effects of its edges.
    place
        Of the whole map: where `inner` belongs.
    """

    source: slice
    inner: slice
    place: slice


def cuts(length: int, pixels: int, stride: int, side: int, field: ReceptiveField) -> list[Cut]:
    """Cut a map along one axis.

    Parameters
    ----------
    length
        Of the map.
    pixels
        Of the slice.
    stride
        Pixels of the slice between two pixels of the map.
    side
        Of a tile, in pixels of the map.
    field
        Of the layer.
    """
    found = []
    for start in range(0, length, side):
        stop = min(start + side, length)
        first = max(0, start * stride - field.before) // field.stride * field.stride
        end = min(pixels, (stop - 1) * stride + field.after + 1)
        offset = first // stride
        found.append(Cut(slice(first, end), slice(start - offset, stop - offset), slice(start, stop)))
    return found


class TiledResponses:
    """One layer's response maps to large slices, tile by tile.

    Parameters
    ----------
    network
        In evaluation mode.
    layer, resolution
        As for `eigenfeatures.eigen.responses.responses`.
    size
        Height and width of the slices.
    side
        Of a tile, in pixels of the slice.

    Attributes
    ----------
    size : (int, int)
        Height and width of the whole maps.

    Raises
    ------
    InputError
        For an unknown layer or resolution, or slices that are too small for the network.
    """

    def __init__(
        self, network: Network, layer: str, resolution: str, size: tuple[int, int], side: int | None = None
    ) -> None:
        self._network, self._layer, self._resolution = network, layer, resolution
        field = receptive_field(network, layer)
        self.size = map_shape(network, layer, resolution, size)[1:]
        stride = field.stride if resolution == "pooled" else 1
        side = side or max(_SIDE, 2 * (field.before + field.after))
        self._cuts = [
            cuts(length, pixels, stride, max(1, side // stride), field)
            for length, pixels in zip(self.size, size, strict=True)
        ]

    def __call__(self, image: Tensor) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Evaluate the network on the tiles of a slice.

        Parameters
        ----------
        image
            Its standardised gradient, ``(H, W)`` float32, on the network's device.

        Yields
        ------
        place : (slice, slice)
            Rows and columns of the whole maps.
        maps : Tensor
            What belongs there, ``(C, h, w)``.
        """
        for rows, columns in product(*self._cuts):
            part = image[None, None, rows.source, columns.source]
            part = part.contiguous(memory_format=convolution_order(part.device))
            maps = responses(self._network, part, [self._layer], self._resolution)[self._layer]
            yield (rows.place, columns.place), maps[0, :, rows.inner, columns.inner].contiguous()
