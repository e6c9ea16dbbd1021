"""One call of a kernel: where it computes, and whose arrays go in and come out.

The backend follows the device of the arrays, not their type. Host data never moves to a
GPU unless ``backend="cuda"`` asks for it, and a backend that was named runs or raises.

Arrays of other libraries come in by DLPack and go out as arrays of the same library,
without a copy, where that has a function ``from_dlpack``; else, as for JAX, as NumPy's or
CuPy's. No library is imported for this: an array of one shows that it is loaded.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eigenfeatures.kernels.arrays import ELEMENTS, loop_input, one_line, shown, writeable

Backend: TypeAlias = Literal["auto", "cpu", "cuda"]

Result = TypeVar("Result")

_BACKENDS = get_args(Backend)

# Compute capability from which on GPUs copy to shared memory asynchronously, as the kernels for them do.
LEAST_CAPABILITY = (8, 0)

# Arguments that may be left out.
_OPTIONAL = ("out", "start")

# DLPack's numbers for memory that the processor reads, and for that of CUDA.
_HOST = (1, 3)
_CUDA = (2, 13)


class Call:
    """The arrays of one call, its backend and its stream; a context in which to compute.

    Parameters
    ----------
    backend
        ``"auto"`` follows the arrays.
    stream
        CUDA stream to work on: of CuPy, of torch, or its address. By default the current
        one of the arrays' library.
    arrays
        The call's arrays by the names of their arguments; None for those that were not given.

    Raises
    ------
    TypeError
        Where arrays are of two libraries besides NumPy, on two devices, or not handed out
        by their library, such as tensors that require a gradient.
    ValueError
        Where there is no such backend, or a stream is given for work on the CPU.
    OSError
        Where work on a GPU is asked for and there are no packages or no device for it.
    """

    def __init__(self, backend: Backend, stream: object = None, **arrays: object) -> None:
        if not isinstance(backend, str) or backend not in _BACKENDS:
            raise ValueError(f"no backend {shown(backend)}; choose from {', '.join(_BACKENDS)}")
        missing = next((name for name in arrays if name not in _OPTIONAL and arrays[name] is None), None)
        if missing is not None:
            raise TypeError(f"{missing} is None; give an array")
        self._given = {name: value for name, value in arrays.items() if value is not None}
        self._library = self._common_library()
        self._gpu = self._common_gpu()
        if backend == "cpu" and self._gpu is not None:
            raise TypeError('the arrays are on a GPU and backend="cpu" was asked for; move them to the host')
        self.on_gpu = backend == "cuda" or self._gpu is not None
        if stream is not None and not self.on_gpu:
            raise ValueError("stream is for work on a GPU, and this call computes on the CPU")
        self._stream = stream
        self._stack = ExitStack()
        self._target: NDArray[Any] | None = None
        self._converted: dict[str, Any] = {}
        self._read: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if self.on_gpu:
            self._stack.enter_context(self._memory.computing(self._gpu, self._stream, self._library))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def xp(self) -> Any:
        """NumPy, or CuPy on a GPU."""
        return self._memory.xp() if self.on_gpu else np

    def loops(self, module: str) -> ModuleType:
        """Return this backend's module of that name."""
        return importlib.import_module(f"eigenfeatures.kernels.{'cuda' if self.on_gpu else 'cpu'}.{module}")

    def input(self, name: str, trailing: int) -> NDArray[Any]:
        """Return an argument as the loops take it; see `loop_input`."""
        value = self._native(name)
        moves = self.on_gpu and self._gpu is None
        # Checked before it moves: a list or a wrong type is refused by NumPy.
        given = loop_input(value, name, trailing, np if moves else self.xp)
        if not hasattr(value, "strides"):  # a list, or what computes its array whenever it is asked for one
            self._read[name] = given
        return cast(NDArray[Any], self._memory.to_device(given)) if moves else given

    def output(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return a contiguous array to fill: the argument ``out`` where it can serve."""
        if "out" in self._given:
            at_home = np if self._gpu is None else self.xp
            inputs = [self._read.get(name, self._native(name)) for name in self._given if name != "out"]
            self._target = writeable(self._native("out"), shape, dtype, inputs, at_home)
            if at_home is self.xp and self._target.flags.c_contiguous and self._target.dtype.isnative:
                return self._target
        return cast(NDArray[Any], self.xp.empty(shape, dtype))

    def result(self, value: Result) -> Result:
        """Return a result's arrays of numbers as the caller's library has them, ``out`` as itself."""
        if self._target is None:
            return cast(Result, _mapped(value, self._returned))
        if self._target is not value:
            self._target[...] = self._home(value)
        return cast(Result, self._given["out"])

    def _common_library(self) -> str | None:
        libraries = sorted({_library(value) for value in self._given.values() if _is_foreign(value)})
        if len(libraries) > 1:
            raise TypeError(f"arrays of {' and '.join(libraries)} are mixed; give those of one library")
        return libraries[0] if libraries else None

    def _common_gpu(self) -> int | None:
        places = {
            name: _gpu_of(value, name)
            for name, value in self._given.items()
            if isinstance(value, np.ndarray) or _is_foreign(value)
        }
        if len(set(places.values())) > 1:
            said = (
                f"{name} on {'the host' if gpu is None else f'GPU {gpu}'}" for name, gpu in places.items()
            )
            raise TypeError(f"arrays are on different devices ({', '.join(said)}); bring them to one")
        return next(iter(places.values()), None)

    @cached_property
    def _memory(self) -> Any:
        try:
            memory = importlib.import_module("eigenfeatures.kernels.cuda.memory")
            memory.xp()  # imports CuPy
        except ImportError as error:
            raise OSError(
                f"work on a GPU needs more packages ({error}): pip install 'eigenfeatures[gpu]'"
            ) from error
        return memory

    def _native(self, name: str) -> Any:
        """Return an argument where it lies, as an array of NumPy or CuPy if it is of another library."""
        value: Any = self._given[name]
        if not _is_foreign(value) or (self._gpu is not None and isinstance(value, self.xp.ndarray)):
            return value
        if name in self._converted:  # torch takes longer to hand a tensor out than a launch takes
            return self._converted[name]
        if hasattr(value, "is_neg") and value.is_neg():
            # Torch hands out memory as it lies, where the values are yet to be negated.
            if name == "out":
                raise TypeError("out is a negated view of torch; give a tensor of its own")
            value = value.resolve_neg()
        try:
            array = (np if self._gpu is None else self.xp).from_dlpack(value)
        except (MemoryError, OSError):  # nothing that another argument would mend
            raise
        except Exception as error:  # each library raises errors of its own types
            dtype = getattr(value, "dtype", None)
            if dtype is not None and _dtype_name(dtype) not in ELEMENTS:
                raise TypeError(
                    f"{name} holds {dtype}; convert it to integers or floats of NumPy, in torch by .float()"
                ) from error
            raise TypeError(
                f"{name}, of {_library(value)}, can't be read by DLPack: {one_line(error)}"
            ) from error
        if _is_nowhere(array):
            raise TypeError(
                f"{name}, a {type(value).__name__} of {_library(value)}, holds no numbers; "
                "give an array that does"
            )
        self._converted[name] = array
        return array

    def _home(self, array: Any) -> Any:
        """Bring an array back to the host where the caller's arrays are there."""
        return self._memory.to_host(array) if self.on_gpu and self._gpu is None else array

    def _returned(self, array: Any) -> Any:
        home = self._home(array)
        from_dlpack = getattr(sys.modules.get(self._library or ""), "from_dlpack", None)
        if from_dlpack is None or _library(home) == self._library:
            return home
        return from_dlpack(np.asarray(home) if isinstance(home, np.generic) else home)


def _is_foreign(value: object) -> bool:
    return hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray | np.generic)


def _library(array: object) -> str:
    """Return whose array it is: a subclass may be another package's, and inherits `__dlpack__`."""
    owners = [kind for kind in type(array).__mro__ if "__dlpack__" in vars(kind)]
    return (owners[-1] if owners else type(array)).__module__.partition(".")[0]


def _gpu_of(array: Any, name: str) -> int | None:
    """Return the number of the GPU that holds an array, or None for the host."""
    if isinstance(array, np.ndarray):
        return None
    try:
        kind, index = map(int, array.__dlpack_device__())
    except Exception as error:  # each library raises errors of its own types
        raise TypeError(
            f"{name}, of {_library(array)}, doesn't tell where its numbers lie ({one_line(error)}); "
            "give an array that holds some, and a whole batch in place of vmap"
        ) from error
    if kind in _HOST:
        return None
    if kind not in _CUDA:
        raise TypeError(f"{name}, of {_library(array)}, is neither on the host nor on a CUDA GPU")
    return index


def _dtype_name(dtype: Any) -> str:
    """Return a type of any library by NumPy's name: "float32" for ``torch.float32``."""
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def _is_nowhere(array: Any) -> bool:
    """Tell whether an array came by DLPack without an address, as torch's fake and functional tensors do.

    NumPy then gives it memory of its own, which holds anything.
    """
    return array.size > 0 and bool(
        array.flags.owndata if isinstance(array, np.ndarray) else not array.data.ptr
    )


def _mapped(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply `convert` to every array of numbers in a result."""
    if hasattr(value, "dtype"):
        return convert(value) if value.dtype.kind in "iuf" else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{item.name: _mapped(getattr(value, item.name), convert) for item in fields(value)}
        )
    values = [_mapped(item, convert) for item in value]
    return type(value)(*values) if hasattr(value, "_fields") else tuple(values)
