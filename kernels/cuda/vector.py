"""Loads and stores of 16 bytes, the widest that a thread makes.

Elements travel as a tuple: four float32, two float64, or four 32-bit words that hold
narrower integers and are good for storing alone. Both ends must be aligned to 16 bytes.
The simulator moves the same elements, and refuses an address that a GPU would fault at.
"""

from collections.abc import Callable
from typing import Any

from eigenfeatures.kernels.cuda.compile import SIMULATED, device_function

if not SIMULATED:
    from numba.cuda import types
    from numba.cuda.cgutils import ir
    from numba.cuda.extending import intrinsic

# Bytes moved at once.
WIDTH = 16

# Address spaces of NVVM.
_GLOBAL = 1
_SHARED = 3


def _elements(array: Any) -> Any:
    """Return the type of what a thread holds of an array: its floats, or words of its integers."""
    element = array.dtype if isinstance(array.dtype, types.Float) else types.uint32
    return types.UniTuple(element, WIDTH * 8 // element.bitwidth)


def _pointer(context: Any, builder: Any, array: Any, given: tuple[Any, Any], space: int) -> Any:
    """Return the address of an element as one of a vector in an address space."""
    held = _elements(array)
    vector = ir.VectorType(context.get_value_type(held.dtype), held.count)
    data = context.make_array(array)(context, builder, given[0]).data
    place = builder.bitcast(builder.gep(data, [given[1]]), vector.as_pointer())
    return builder.addrspacecast(place, vector.as_pointer(space))


def _load_global(_typing: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        vector = builder.load(_pointer(context, builder, array, given, _GLOBAL), align=WIDTH)
        vector.set_metadata("invariant.load", builder.module.add_metadata([]))
        items = [builder.extract_element(vector, ir.IntType(32)(k)) for k in range(vector.type.count)]
        return context.make_tuple(builder, held, items)

    held = _elements(array)
    return held(array, types.int64), generate


def _store_shared(_typing: Any, array: Any, _index: Any, elements: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        place = _pointer(context, builder, array, given[:2], _SHARED)
        vector = ir.Constant(place.type.pointee, ir.Undefined)
        for k in range(elements.count):
            item = builder.extract_value(given[2], k)
            vector = builder.insert_element(vector, item, ir.IntType(32)(k))
        builder.store(vector, place, align=WIDTH)
        return context.get_dummy_value()

    return types.void(array, types.int64, elements), generate


def _simulated_load(array: Any, index: Any) -> Any:
    return tuple(_aligned(array, index))


def _simulated_store(array: Any, index: Any, elements: Any) -> None:
    _aligned(array, index)[:] = elements


def _aligned(array: Any, index: Any) -> Any:
    count, index = WIDTH // array.itemsize, int(index)
    if not 0 <= index <= len(array) - count:
        raise IndexError(f"{count} elements from {index} on are not all of an array of {len(array)}")
    if (array.ctypes.data + index * array.itemsize) % WIDTH:
        raise ValueError(f"element {index} is not aligned to {WIDTH} bytes")
    return array[index : index + count]


# load_global(array, index): the 16 bytes from an element on, of an array in the GPU's memory
# that no thread writes meanwhile, so that the load takes the read-only path.
load_global: Callable[..., Any] = device_function(_simulated_load) if SIMULATED else intrinsic(_load_global)

# store_shared(array, index, elements): write what `load_global` returned to shared memory.
store_shared: Callable[..., Any] = (
    device_function(_simulated_store) if SIMULATED else intrinsic(_store_shared)
)
