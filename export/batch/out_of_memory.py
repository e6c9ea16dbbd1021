"""What torch and CuPy say when the memory of a device runs out, in our words."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eigenfeatures.export.batch.engine import DeviceMemoryError, lacks_memory


@contextmanager
def told_of_memory() -> Iterator[None]:
    """Turn either's error into `DeviceMemoryError`, once both have given back what they keep for later.

    Each has a pool of its own, and what one of them keeps the other one can't have.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # the first is the base of torch's errors
        if not lacks_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # which hold what was computed so far
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            if cupy := sys.modules.get("cupy"):
                cupy.get_default_memory_pool().free_all_blocks()
        raise DeviceMemoryError((str(error) or "out of memory").splitlines()[0]) from error
