"""Functions that kernels call by their address.

Numba compiles all that a kernel calls into the kernel, and does so four times where it is parallel: its loop
for the threads, two wrappers of that and the function around it. A call by address leaves a large function
out of that, and the serial and the parallel build share it.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaTypeError
from numba.extending import intrinsic

from eigenfeatures.kernels.cpu.compile import separate


class Separate:
    """A helper that is compiled by itself, once for each type of the numbers that its arguments hold.

    That type must tell the types of all arguments, but for whether an array can be written to.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function: Any = separate(function)
        self._addresses: dict[np.dtype[Any], int] = {}
        self.__doc__ = function.__doc__

    def address(self, dtype: np.dtype[Any], *arguments: object) -> int:
        """Return where the code for such arguments lies; the first call for a type compiles or loads it.

        Numba's way to tell the types of arguments takes 0.3 ms for a search, so it isn't asked each time.
        """
        if dtype not in self._addresses:
            signature = tuple(map(numba.typeof, arguments))
            self._function.compile(signature)
            compiled = self._function.overloads[signature]
            self._addresses[dtype] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        return self._addresses[dtype]


def _contiguous(given: Any) -> bool:
    if isinstance(given, types.BaseTuple):
        parts: Any = given
        return all(map(_contiguous, parts))
    return not isinstance(given, types.Array) or given.layout == "C"


def _calling(_context: Any, _address: Any, arguments: Any) -> Any:
    if not _contiguous(arguments):
        raise NumbaTypeError("arrays must be contiguous: the address doesn't tell for which it was compiled")

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tools: Any = cgutils
        convention, of_arguments = context.call_conv, tuple(signature.args[1])
        function = convention.get_function_type(types.none, of_arguments).as_pointer()
        pointer = builder.inttoptr(values[0], function)
        parts = tools.unpack_tuple(builder, values[1])
        status, result = convention.call_function(builder, pointer, types.none, of_arguments, parts)
        with tools.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return result

    return types.none(types.int64, arguments), code


# Call the function at an address with a tuple of arguments.
call: Any = intrinsic(_calling)
