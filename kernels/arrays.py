"""What the kernels accept as arrays, and the form in which the loops get them."""

from typing import Any

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


def loop_input(array: ArrayLike, name: str, trailing: int) -> NDArray[Any]:
    """Return real numbers as the loops take them: native, C-contiguous and read-only.

    Parameters
    ----------
    array
        Anything that `numpy.asarray` turns into integers or floats of at most 64 bits.
    name
        The argument's name, for messages.
    trailing
        How many of the last axes hold one item; none of them may be empty.

    Returns
    -------
    numpy.ndarray
        uint8, uint16, float32 or float64. A view wherever the layout allows it.
        It is marked read-only so that no loop can change a caller's data, and so that
        each loop is compiled for one kind of array.

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are too few axes, or an item has no pixels.
    """
    try:
        given = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{name} can't be read as a NumPy array: {error}") from error
    dtype = _LOOP_DTYPES.get(f"{given.dtype.kind}{given.dtype.itemsize}")
    if dtype is None:
        raise TypeError(f"{name} holds {given.dtype}; give integers or floats of 8 to 64 bits")
    if given.ndim < trailing:
        raise ValueError(f"{name} has {given.ndim} axes and needs at least {trailing}")
    if 0 in given.shape[given.ndim - trailing :]:
        raise ValueError(f"{name} of shape {given.shape} has no pixels")
    view = np.ascontiguousarray(given, dtype=dtype).view()
    view.flags.writeable = False
    return view


def working_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    """Return the precision of arithmetic: float64 for float64, float32 for all else."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)


def stacked(array: NDArray[Any], trailing: int) -> NDArray[Any]:
    """Merge the leading axes into one, which may be empty."""
    kept = array.shape[array.ndim - trailing :]
    count = array.size // int(np.prod(kept))
    return array.reshape((count, *kept))


def output(
    out: NDArray[Any] | None, shape: tuple[int, ...], dtype: DTypeLike, inputs: NDArray[Any]
) -> NDArray[Any]:
    """Return `out` where it can take a result without changing the input, or a new array.

    Raises
    ------
    TypeError
        Where `out` is not a NumPy array of `dtype`.
    ValueError
        Where its shape or layout is wrong, it is read-only, or it overlaps the input.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        raise TypeError(f"out must be a NumPy array of {np.dtype(dtype)}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape} and the result {shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writeable")
    if np.may_share_memory(out, inputs):
        raise ValueError("out overlaps the input, which must stay unchanged")
    return out
