"""The parameters of a launch, in the order and the bytes that a kernel compiled by Numba takes."""

import struct
from collections.abc import Iterator
from typing import Any

from numba.cuda import types

_INTEGERS = {8: "b", 16: "h", 32: "i", 64: "q"}


class Parameters:
    """What arguments of one signature look like to its kernel.

    To it, an array is what Numba's data model makes of one: two addresses that only the CPU uses,
    the number of elements, their size, the address, shape and strides. Members of tuples are
    parameters of their own.

    Parameters
    ----------
    signature
        Of the kernel, as Numba has it.

    Raises
    ------
    TypeError
        Where it has arguments of other types than arrays, real numbers, booleans and tuples of them.
    """

    def __init__(self, signature: Any) -> None:
        codes = "".join(code for kind in signature.args for code in _codes(kind))
        # CUDA aligns parameters as C does members of a structure.
        self._structure = struct.Struct(f"@{codes}")

    @property
    def format(self) -> str:
        """As `struct` writes it."""
        return self._structure.format

    def packed(self, arguments: tuple[Any, ...], array: type) -> bytes:
        """Return the bytes of arguments, whose arrays are of type `array`, CuPy's."""
        return self._structure.pack(*_flattened(arguments, array))


def _codes(kind: Any) -> Iterator[str]:
    if isinstance(kind, types.Array):
        yield "q" * (5 + 2 * kind.ndim)
    elif isinstance(kind, types.BaseTuple):
        for part in kind:
            yield from _codes(part)
    elif isinstance(kind, types.Boolean):
        yield "?"
    elif isinstance(kind, types.Integer):
        code = _INTEGERS[kind.bitwidth]
        yield code if kind.signed else code.upper()
    elif isinstance(kind, types.Float):
        yield {32: "f", 64: "d"}[kind.bitwidth]
    else:
        raise TypeError(f"kernels take no arguments of type {kind}")


def _flattened(arguments: tuple[Any, ...], array: type) -> list[Any]:
    numbers: list[Any] = []
    for value in arguments:
        if isinstance(value, array):
            item: Any = value
            numbers += (0, 0, item.size, item.itemsize, item.data.ptr, *item.shape, *item.strides)
        elif isinstance(value, tuple):
            numbers += _flattened(value, array)
        else:
            numbers.append(value)
    return numbers
