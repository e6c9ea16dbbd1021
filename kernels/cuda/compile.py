"""How the kernels for the GPU are compiled, and what each of them must compile to.

Under ``NUMBA_ENABLE_CUDASIM=1``, set before Numba is imported, the same sources run
in Numba's simulator, which has no shuffles, no launch bounds and no PTX: what
stands in for these is chosen here, in `vector` and in `roots`, by `SIMULATED`.

A kernel is optimised as PTX, not at link time, so that what the tests compile without
a GPU is what runs. Products and sums may be contracted to fused multiply-adds, which
round less, and |∇Y| takes its roots from `roots`; no other licence of fast-math is taken.
Compiled code is cached as `eigenfeatures.kernels.cpu.cache` says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numba import cuda
from numba.cuda import types
from numba.cuda.core import config
from numba.cuda.np.numpy_support import as_dtype

from eigenfeatures.kernels.cpu.compile import cached

F = TypeVar("F", bound=Callable[..., Any])

SIMULATED = bool(config.ENABLE_CUDASIM)

WARP = 32
ALL_LANES = 0xFFFFFFFF

# Room for one number of each warp, in the largest block that a GPU takes.
MOST_THREADS = 1024
MOST_WARPS = MOST_THREADS // WARP


@dataclass(frozen=True)
class Kernel:
    """A kernel, and what it must compile for.

    Attributes
    ----------
    function
        The Python source.
    signatures
        The types of arguments that it is launched with.
    threads
        The largest block that it is launched with.
    resident
        How many such blocks a multiprocessor should hold, where that limits its registers.
    float64
        Why it computes in float64 for signatures without float64 arrays, or nothing where it
        must not.
    loaded
        What `memory.launch` has loaded, by device and the types of arrays.
    """

    function: Callable[..., None]
    signatures: tuple[Any, ...]
    threads: int
    resident: int | None
    float64: str
    # Made at once, since threads that came together to a cached property could each get one of their own.
    loaded: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Module and name."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @cached_property
    def dispatcher(self) -> Any:
        """What `memory.launch` configures and calls."""
        if SIMULATED:
            return cuda.jit()(self.function)
        return cached(cuda.jit, self.function, launch_bounds=self.bounds, lto=False)

    def signature_of(self, dtypes: tuple[np.dtype[Any], ...]) -> Any:
        """Return the signature for arrays of these types.

        Raises
        ------
        TypeError
            Where it is registered for none.
        """
        for signature in self.signatures:
            arrays = [item for item in signature.args if isinstance(item, types.Array)]
            if tuple(as_dtype(item.dtype) for item in arrays) == dtypes:
                return signature
        raise TypeError(f"{self.name} isn't compiled for arrays of {', '.join(map(str, dtypes))}")

    @property
    def bounds(self) -> tuple[int, ...]:
        """What the compiler is told of the launch."""
        return (self.threads,) if self.resident is None else (self.threads, self.resident)


# Every kernel of the modules that were imported, for the tests that compile them all.
REGISTRY: list[Kernel] = []


def kernel(
    *signatures: Any, threads: int, resident: int | None = None, float64: str = ""
) -> Callable[[Callable[..., None]], Kernel]:
    """Register a kernel under the signatures and the largest block that it is launched with.

    `resident` is how many such blocks a multiprocessor should hold, if that costs registers, and
    `float64` says why it computes in float64 although its arrays are narrower.
    """

    def register(function: Callable[..., None]) -> Kernel:
        registered = Kernel(function, signatures, threads, resident, float64)
        REGISTRY.append(registered)
        return registered

    return register


def device_function(function: F) -> F:
    """Compile a function that only kernels call."""
    return cast(F, cuda.jit(device=True)(function))


def _shuffled_sum(value: Any) -> Any:
    # Partners swap, so every lane adds the same pairs and gets the same bits.
    for step in range(5):
        value += cuda.shfl_xor_sync(ALL_LANES, value, 16 >> step)
    return value


def _simulated_sum(value: Any) -> Any:
    values = cuda.shared.array(MOST_THREADS, np.float64)
    place = thread_index()
    values[place] = value
    cuda.syncthreads()
    first = place // WARP * WARP
    lanes = min(WARP, cuda.blockDim.x * cuda.blockDim.y - first)
    total = type(value)(sum(values[first : first + lanes]))
    cuda.syncthreads()
    return total


@device_function
def thread_index() -> Any:
    """Return the thread's place in a block of one or two axes."""
    return cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y


# Sum over the 32 lanes of a warp, the same bits in each of them. All threads of the block
# call it together, in blocks of whole warps; the simulator takes any block.
warp_sum = device_function(_simulated_sum if SIMULATED else _shuffled_sum)


@device_function
def block_sum(value: Any, partials: Any) -> Any:
    """Return the sum over the block, the same bits in each thread.

    All threads call it together. `partials` (`MOST_WARPS`) is shared memory of the value's type,
    free again upon return.
    """
    thread = thread_index()
    lane = thread % WARP
    total = warp_sum(value)
    if lane == 0:
        partials[thread // WARP] = total
    cuda.syncthreads()
    warps = cuda.blockDim.x * cuda.blockDim.y // WARP
    total = warp_sum(partials[lane] if lane < warps else type(value)(0))
    cuda.syncthreads()
    return total
