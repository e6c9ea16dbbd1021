"""Arrays of other libraries: in by DLPack, out as arrays of the same library, without a copy.

No library is imported for this: an array of one shows that it is loaded already.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# DLPack's number for memory that the processor reads.
_HOST = 1


def any_library(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function on NumPy arrays take those of torch and of other libraries with DLPack.

    The results are of the library of the arguments. Where it can't take them by a
    function ``from_dlpack``, they are NumPy arrays. NumPy arrays pass through.

    Raises
    ------
    TypeError
        From the call, for arrays of two such libraries, arrays on a GPU and arrays that
        their library doesn't hand out, such as tensors that require a gradient.
    """

    @functools.wraps(function)
    def call(*given: Arguments.args, **named: Arguments.kwargs) -> Result:
        foreign = [value for value in (*given, *named.values()) if _is_foreign(value)]
        if not foreign:
            return function(*given, **named)
        libraries = {_library(value) for value in foreign}
        if len(libraries) > 1:
            raise TypeError(
                f"arrays of {' and '.join(sorted(libraries))} are mixed; give those of one library"
            )
        positional = [_on_host(value) if _is_foreign(value) else value for value in given]
        keywords = {name: _on_host(value) if _is_foreign(value) else value for name, value in named.items()}
        result = cast(Callable[..., Result], function)(*positional, **keywords)
        out = named.get("out")
        return cast(Result, out) if out is not None else _returned(result, libraries.pop())

    return call


def _is_foreign(value: object) -> bool:
    return hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray | np.generic)


def _library(array: object) -> str:
    return type(array).__module__.partition(".")[0]


def _on_host(array: Any) -> NDArray[Any]:
    if array.__dlpack_device__()[0] != _HOST:
        raise TypeError(
            f"the array of {_library(array)} lies on a GPU, and this version computes on the CPU; "
            "move it to the host"
        )
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"the array of {_library(array)} can't be read by DLPack: {error}") from error


def _returned(result: Any, library: str) -> Any:
    """Give every array of numbers in a result to the caller's library."""
    if isinstance(result, np.ndarray | np.generic):
        from_dlpack = getattr(sys.modules.get(library), "from_dlpack", None)
        is_number = result.dtype.kind in "iuf"
        return from_dlpack(np.asarray(result)) if from_dlpack and is_number else result
    if is_dataclass(result) and not isinstance(result, type):
        return replace(
            result, **{item.name: _returned(getattr(result, item.name), library) for item in fields(result)}
        )
    values = [_returned(value, library) for value in result]
    return type(result)(*values) if hasattr(result, "_fields") else tuple(values)
