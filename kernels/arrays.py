"""What the kernels accept as arrays, and the form in which the loops get them."""

import math
import operator
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

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

# Eigenvalues of a Gram matrix of float32, against the largest one, that are told from its rounding: below,
# a vector that X maps to zero could pass for a small singular vector.
RESOLVED = 1e-5

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
    if np.ma.isMaskedArray(array):
        raise TypeError(f"{name} is a masked array; fill what it masks first, by its method filled")
    try:
        given = xp.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{name} can't be read as an array: {error}") from error
    dtype = _LOOP_DTYPES.get(f"{given.dtype.kind}{given.dtype.itemsize}")
    if dtype is None:
        raise TypeError(f"{name} holds {given.dtype}; give integers or floats of 8 to 64 bits")
    if given.ndim < trailing:
        raise ValueError(f"{name} has {given.ndim} axes and needs at least {trailing}")
    if 0 in given.shape[given.ndim - trailing :]:
        raise ValueError(f"{name} of shape {given.shape} has no pixels")
    contiguous: NDArray[Any] = xp.ascontiguousarray(given, dtype=dtype)
    return read_only(contiguous) if isinstance(contiguous, np.ndarray) else contiguous.view()


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


def _overlap(out: Any, given: object, xp: Any) -> bool:
    if xp is not np:
        return isinstance(given, xp.ndarray) and bool(xp.may_share_memory(out, given))
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
        raise TypeError(f"{name} {value!r} is not a whole number; give {allowed}") from None
