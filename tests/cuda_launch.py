"""Launch a function of a test on a device as kernels are, or in the simulator."""

from numba.cuda import types
from numba.cuda.typing.typeof import typeof

from eigenfeatures.kernels.cuda import memory
from eigenfeatures.kernels.cuda.compile import MOST_THREADS, Kernel


def launch(function, blocks, threads, *arguments):
    kinds = [typeof(memory.to_host(each) if getattr(each, "ndim", 0) else each) for each in arguments]
    kernel = Kernel(function, (types.void(*kinds),), MOST_THREADS, None, "")
    memory.launch(kernel, blocks, threads, *arguments)
