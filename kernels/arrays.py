"""What the kernels accept as arrays, and the form in which the loops get them."""

import math
import operator
from collections.abc import Iterable
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class ForeignArray(Protocol):
    """An array of another library than NumPy, such as torch: what has the methods of DLPack."""

    def __dlpack__(self) -> Any: ...

    # As the array API standard has it. NumPy's own arrays give integers, by which type checkers tell them.
    def __dlpack_device__(self) -> tuple[Enum, int]: ...


# What a call takes and gives back, where it isn't NumPy's.
Foreign = TypeVar("Foreign", bound=ForeignArray)

# The arrays of a result: NumPy's, unless something else is said.
if TYPE_CHECKING:
    Array = TypeVar("Array", default=NDArray[Any])
else:  # before Python 3.13 the variables of types have no defaults
    Array = TypeVar("Array")

# What the loops are compiled for, and to which of these the other types widen without loss
# (integers beyond 53 bits are rounded).
_LOOP_DTYPES = {
    "i1": np.float32,
    "u1": np.uint8,
    "i2": np.float32,
    "u2": np.uint16,
    "i4": np.float64,
    "u4": np.float64,
    "i8": np.float64,
    "u8": np.float64,
    "f2": np.float32,
    "f4": np.float32,
    "f8": np.float64,
}

# What the rounding of responses makes of a singular value of zero, against the largest one; also the
# least residual that can be promised for vectors of that precision.
NOISE = MappingProxyType({np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12})

# Eigenvalues of a Gram matrix, against the largest one, that are told from its rounding: below, a vector that
# X maps to zero could pass for a small singular vector.
RESOLVED = MappingProxyType({np.dtype(np.float32): 1e-5, np.dtype(np.float64): 2e-14})

# The names of what the loops take, as all libraries have them.
ELEMENTS = frozenset(np.dtype(code).name for code in _LOOP_DTYPES)

# Letters of a wrong value in a message.
_SHOWN = 60

# Candidates to try before strided views count as overlapping: milliseconds at most.
_OVERLAP_WORK = 10_000


def loop_input(array: ArrayLike, name: str, trailing: int, xp: Any = np) -> NDArray[Any]:
    """Return real numbers as the loops take them: native and C-contiguous.

    Parameters
    ----------
    array
        Anything that ``xp.asarray`` turns into integers or floats of at most 64 bits.
    name
        The argument's name, for messages.
    trailing
        How many of the last axes hold one item; none of them may be empty.
    xp
        NumPy or CuPy.

    Returns
    -------
    array
        uint8, uint16, float32 or float64. A view wherever the layout allows it. One of
        NumPy is read-only.

    Raises
    ------
    TypeError
        Where the elements are not real numbers, or some are masked.
    ValueError
        Where there are too few axes, or an item has no pixels.
    """
    try:
        given = xp.asanyarray(array)  # of any class, so that masks of what an object computes are seen
    except (MemoryError, OSError):  # nothing that another argument would mend
        raise
    except Exception as error:  # an object's own method may raise anything
        raise TypeError(f"{name} can't be read as an array: {one_line(error)}") from error
    dtype = _LOOP_DTYPES.get(f"{given.dtype.kind}{given.dtype.itemsize}")
    if dtype is None:
        raise TypeError(f"{name} holds {given.dtype}; give integers or floats of 8 to 64 bits")
    if _has_masked(array) or _has_masked(given):
        raise TypeError(f"{name} has masked elements; fill them first, by the method filled")
    if given.ndim < trailing:
        raise ValueError(f"{name} has {given.ndim} axes and needs at least {trailing}")
    if 0 in given.shape[given.ndim - trailing :]:
        raise ValueError(f"{name} of shape {given.shape} has no pixels")
    contiguous: NDArray[Any] = xp.ascontiguousarray(given, dtype=dtype)
    return read_only(contiguous) if isinstance(contiguous, np.ndarray) else contiguous.view()


def _has_masked(value: object) -> bool:
    """Tell whether an array has masked elements, or one that lies in lists, of which no mask remains."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    if not isinstance(value, list | tuple):
        return False
    # The types first, in which a long list of numbers has but one.
    nested = any(issubclass(kind, list | tuple | np.ma.MaskedArray) for kind in set(map(type, value)))
    return nested and any(map(_has_masked, value))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that no loop can write to: loops are compiled for such input alone."""
    view = array.view()
    view.flags.writeable = False
    return view


def working_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    """Return the precision of arithmetic: float64 for float64, float32 for all else."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)


def stacked(array: NDArray[Any], trailing: int) -> NDArray[Any]:
    """Merge the leading axes into one, which may be empty."""
    kept = array.shape[array.ndim - trailing :]
    count = array.size // math.prod(kept)
    return array.reshape((count, *kept))


def writeable(
    out: Any, shape: tuple[int, ...], dtype: DTypeLike, inputs: Iterable[object], xp: Any
) -> NDArray[Any]:
    """Return `out` where it can take a result without changing an input.

    Raises
    ------
    TypeError
        Where `out` is not an array of `dtype`, in any byte order.
    ValueError
        Where its shape is wrong, it is read-only, or it overlaps an input.
    """
    if not isinstance(out, xp.ndarray) or np.ma.isMaskedArray(out):
        raise TypeError(f"out must be an array of {np.dtype(dtype)}, and is a {type(out).__name__}")
    if out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out must be an array of {np.dtype(dtype)}, and holds {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape} and the result {shape}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only")
    if _overlaps_itself(out):
        raise ValueError("elements of out share memory; give an array whose elements have their own")
    if any(_overlap(out, given, xp) for given in inputs):
        raise ValueError("out overlaps the input, which must stay unchanged")
    # Loops aren't compiled for subclasses, such as matrices.
    return out.view(np.ndarray) if isinstance(out, np.ndarray) else cast(NDArray[Any], out)


def _overlaps_itself(array: Any) -> bool:
    """Tell whether some axis steps by less than what the axes of smaller steps span."""
    axes = zip(map(abs, array.strides), array.shape, strict=True)
    span = array.itemsize
    for step, length in sorted(axis for axis in axes if axis[1] > 1):
        if step < span:
            return bool(array.size > 0)
        span += step * (length - 1)
    return False


class _SameAddresses:
    """What NumPy takes for an array of the host with the addresses of one of a GPU. It is never read."""

    def __init__(self, array: Any) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (array.data.ptr, True),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
        }


def _overlap(out: Any, given: object, xp: Any) -> bool:
    if xp is not np:
        # CuPy's own comparison takes two views of one tensor, which came by DLPack, for arrays apart.
        if not isinstance(given, xp.ndarray) or out.size == 0 or given.size == 0:
            return False
        out, given = np.asarray(_SameAddresses(out)), _SameAddresses(given)
    try:
        # NumPy's stubs know two of the numbers that it takes.
        return np.shares_memory(out, np.asarray(given), max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def whole_number(value: object, name: str, allowed: str) -> int:
    """Return a value as an integer, where it is one.

    Raises
    ------
    TypeError
        Where it isn't; 2.0 is none either.
    """
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{name} {shown(value)} is not a whole number; give {allowed}") from None


def real_number(value: object, name: str) -> float:
    """Return a value as a float, where it is a real number.

    Raises
    ------
    TypeError
        Where it isn't; "0.5" is none either.
    ValueError
        Where it is beyond float64.
    """
    try:
        return math.ldexp(cast(float, value), 0)  # `float` would read text, too
    except OverflowError:
        raise ValueError(f"{name} is beyond float64; give a number nearer to 0") from None
    except Exception:  # a number of another library may raise anything
        raise TypeError(f"{name} must be a real number, and is {shown(value)}") from None


def flag(value: object, name: str) -> bool:
    """Return a value as a bool, where it is one.

    Raises
    ------
    TypeError
        Where it isn't: any text counts as true.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, and is {shown(value)}")


def shown(value: object) -> str:
    """Return a value as a message shows it: in one line, and no more than its beginning."""
    said = " ".join(repr(value).split())
    return said if len(said) <= _SHOWN else f"{said[: _SHOWN - 1]}…"


def one_line(error: Exception) -> str:
    """Return what an exception says in one line; its type, too, where it says nothing or but a key."""
    said = " ".join(str(error).split())
    return said if said and not isinstance(error, KeyError) else f"{type(error).__name__} {said}".rstrip()
