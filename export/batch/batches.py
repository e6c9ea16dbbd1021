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

    def __call__(self, slices: NDArray[Any]) -> dict[str, Any]:
        """Run raw slices ``(n, H, W)``; each output is ``(n, …)``, an array as the engine gives it.

        Raises
        ------
        InputError
            When not even one slice fits.
        """
        results: dict[str, Any] = {}
        first = 0
        while first < len(slices):
            batches = (slices[k : k + self.size] for k in range(first, len(slices), self.size))
            try:
                for found in self._engine.run(batches):
                    for name, array in found.items():
                        if first == 0:
                            results[name] = _room(array, len(slices))
                        results[name][first : first + len(array)] = array
                    first += len(array)
            except DeviceMemoryError as error:
                self._halve(error)
        return results

    def _halve(self, error: DeviceMemoryError) -> None:
        if self.size == 1:
            raise InputError(
                f"{self._engine.name}: not even one slice fits the memory ({error}); "
                "use a smaller --roi, other --outputs or --device cpu"
            ) from error
        self.size //= 2
        self._say(f"the memory is too small for the batch: going on with {self.size} slices at once")


def _room(array: Any, count: int) -> Any:
    """Return an array like one of a batch, of its library and on its device, for so many slices."""
    shape = (count, *array.shape[1:])
    # NumPy's function is CuPy's, too, where the array is.
    return array.new_empty(shape) if hasattr(array, "new_empty") else np.empty_like(array, shape=shape)
