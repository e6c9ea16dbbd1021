"""Blocks through an engine, batch by batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.engine import DeviceMemoryError, Engine


class Batches:
    """Run an engine on blocks of any length.

    When a batch does not fit the device's memory it is halved, for this block and all
    that follow.

    Parameters
    ----------
    engine
        What runs the batches.
    size
        Slices a batch.
    say
        Tells a person that the batch was halved.
    """

    def __init__(self, engine: Engine, size: int, say: Callable[[str], None]) -> None:
        self._engine, self._say = engine, say
        self.size = size

    def __call__(self, slices: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run raw slices ``(n, H, W)``; each output is ``(n, …)``.

        Raises
        ------
        InputError
            When not even one slice fits.
        """
        results: dict[str, NDArray[Any]] = {}
        first = 0
        while first < len(slices):
            batch = slices[first : first + self.size]
            try:
                found = self._engine(batch)
            except DeviceMemoryError as error:
                self._halve(error)
                continue
            for name, array in found.items():
                if first == 0:
                    results[name] = np.empty((len(slices), *array.shape[1:]), array.dtype)
                results[name][first : first + len(batch)] = array
            first += len(batch)
        return results

    def _halve(self, error: DeviceMemoryError) -> None:
        if self.size == 1:
            raise InputError(
                f"{self._engine.name}: not even one slice fits the memory ({error}); "
                "use a smaller --roi, other --outputs or --device cpu"
            ) from error
        self.size //= 2
        self._say(f"the memory is too small for the batch: going on with {self.size} slices at once")
