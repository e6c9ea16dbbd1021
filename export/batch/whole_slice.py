"""Eigenfeature and strongest channel of a whole large slice, from its response maps in tiles.

Windows' eigenfeatures can't be blended: each has norm 1 over its own window and weights the channels
its own way. So the slice is standardised as a whole, its tiles are evaluated twice, and no more
than one of them is held: the first time for the Gram matrix of all maps, which is solved once, the
second time for the left vectors.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenfeatures.eigen.network import Network
from eigenfeatures.export.batch.tiled import TiledResponses
from eigenfeatures.export.outputs import Request
from eigenfeatures.kernels import StreamingSVD

Arrays = dict[str, NDArray[Any]]


class WholeSlice:
    """What a request asks of slices of one size, however large.

    Parameters
    ----------
    network
        In evaluation mode.
    request
        ``alpha`` and those of the decomposition are computed, all else in it is not.
    size
        Height and width of the slices.
    side
        Of a tile, in pixels of the slice.

    Raises
    ------
    InputError
        When the slices are too small for the network.
    """

    def __init__(
        self, network: Network, request: Request, size: tuple[int, int], side: int | None = None
    ) -> None:
        self._request = request
        self._maps = TiledResponses(network, request.layer, request.resolution, size, side)
        # As trained: alpha is that of the pooled maps.
        self._pooled = self._maps
        if request.resolution != "pooled":
            self._pooled = TiledResponses(network, request.layer, "pooled", size, side)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Arrays:
        """Compute the arrays of one slice.

        Parameters
        ----------
        image
            Its standardised gradient, ``(H, W)`` float32, on the network's device.

        Returns
        -------
        dict
            As from an engine, for one slice: ``alpha_index``, ``alpha_maximum``, ``alpha_mean``,
            ``eigenfeatures`` ``(1, rank, h, w)``, ``singular_values``, ``gap``, ``residual``. Where
            the network overflows, all numbers are NaN. The Gram matrix is made in float64, on the device of
            the maps, which stay there.
        """
        svd, peaks = _Decomposition(self._request.rank), _Peaks()
        takers: dict[TiledResponses, list[Callable[[Tensor], None]]] = {self._maps: [], self._pooled: []}
        if self._request.decomposes:
            takers[self._maps].append(svd.add)
        if "alpha" in self._request.outputs:
            takers[self._pooled].append(peaks.add)
        for tiles, adds in takers.items():
            for _, maps in tiles(image) if adds else ():
                for add in adds:
                    add(maps)
        found = peaks.arrays() if "alpha" in self._request.outputs else {}
        return found | svd.arrays(self._maps, image) if self._request.decomposes else found


class _Decomposition:
    """The singular triplets of all tiles together."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        # Two at least, for the gap.
        self._stream = StreamingSVD(max(rank, 2))
        self._finite = True

    def add(self, maps: Tensor) -> None:
        self._finite = self._finite and bool(torch.isfinite(maps).all())
        if self._finite:
            self._stream.add(maps)

    def arrays(self, tiles: TiledResponses, image: Tensor) -> Arrays:
        """Evaluate the tiles again, for the left vectors."""
        u = np.full((1, self._rank, *tiles.size), np.nan, np.float32)
        s, residual = np.full(max(self._rank, 2), np.nan), np.nan
        if self._finite:
            s = self._stream.finish().s
            for place, maps in tiles(image):
                left: Any = self._stream.left(maps)
                u[(0, slice(None), *place)] = left[: self._rank].cpu().numpy()
            residual = self._stream.residual
        return {
            "eigenfeatures": u,
            "singular_values": s[np.newaxis, : self._rank].astype(np.float32),
            "gap": np.array([0.0 if s[0] == 0 else s[1] / s[0]], np.float32),
            "residual": np.array([residual], np.float32),
        }


class _Peaks:
    """The largest activation and the mean of every channel, over tiles."""

    def __init__(self) -> None:
        self._largest: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._pixels = 0

    def add(self, maps: Tensor) -> None:
        self._largest.append(maps.amax((1, 2)))
        self._sums.append(maps.sum((1, 2), dtype=torch.float64))
        self._pixels += maps.shape[1] * maps.shape[2]

    def arrays(self) -> Arrays:
        largest = torch.stack(self._largest).amax(0)
        # The first of equals, as `strongest_channel` has it.
        index = int(largest.cpu().numpy().argmax())
        mean = torch.stack(self._sums).sum(0)[index] / self._pixels
        return {
            "alpha_index": np.array([index]),
            "alpha_maximum": np.array([float(largest[index])], np.float32),
            "alpha_mean": np.array([float(mean)], np.float32),
        }
