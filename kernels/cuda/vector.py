"""Copies of 16 bytes from a GPU's memory to shared memory, the widest that a thread makes.

From sm_80 on they pass no register and a thread does not wait for one before it asks for the
next. Both ends must be aligned to 16 bytes. The simulator copies the same elements, and refuses an
address that a GPU would fault at.
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


def _address(context: Any, builder: Any, array: Any, given: tuple[Any, Any], space: int) -> Any:
    """Return the address of an element in an address space, as a number."""
    data = context.make_array(array)(context, builder, given[0]).data
    place = builder.gep(data, [given[1]])
    placed = builder.addrspacecast(place, place.type.pointee.as_pointer(space))
    return builder.ptrtoint(placed, ir.IntType(32 if space == _SHARED else 64))


def _asm(builder: Any, instruction: str, constraint: str, operands: tuple[Any, ...]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    builder.asm(kind, instruction, f"{constraint}~{{memory}}", operands, side_effect=True)


def _copy_to_shared(_typing: Any, shared: Any, _place: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        target = _address(context, builder, shared, given[:2], _SHARED)
        source = _address(context, builder, array, given[2:], _GLOBAL)
        _asm(builder, f"cp.async.cg.shared.global [$0], [$1], {WIDTH};", "r,l,", (target, source))
        return context.get_dummy_value()

    return types.void(shared, types.int64, array, types.int64), generate


def _await_copies(_typing: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, _given: Any) -> Any:
        _asm(builder, "cp.async.wait_all;", "", ())
        return context.get_dummy_value()

    return types.void(), generate


def _simulated_copy(shared: Any, place: Any, array: Any, index: Any) -> None:
    _aligned(shared, place)[:] = _aligned(array, index)


def _simulated_wait() -> None:
    """Do nothing: copies are done at once."""


def _aligned(array: Any, index: Any) -> Any:
    count, index = WIDTH // array.itemsize, int(index)
    if not 0 <= index <= len(array) - count:
        raise IndexError(f"{count} elements from {index} on are not all of an array of {len(array)}")
    if (array.ctypes.data + index * array.itemsize) % WIDTH:
        raise ValueError(f"element {index} is not aligned to {WIDTH} bytes")
    return array[index : index + count]


# copy_to_shared(shared, place, array, index): copy the 16 bytes from an element on, of an array in the GPU's
# memory that no thread writes meanwhile. They are there after `await_copies`.
copy_to_shared: Callable[..., Any] = (
    device_function(_simulated_copy) if SIMULATED else intrinsic(_copy_to_shared)
)

# await_copies(): wait until this thread's copies have arrived; other threads see them after a barrier.
await_copies: Callable[..., Any] = device_function(_simulated_wait) if SIMULATED else intrinsic(_await_copies)
