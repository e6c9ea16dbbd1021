"""Threads that stay together through the steps of one call.

A parallel loop for each step would wake the threads as often, which for a slice by itself costs what the
second thread gains. Here one parallel loop is opened for all steps. Whoever enters it first leads: it
offers the tasks of a step, works on them, and goes on when all are done. Others take
tasks from it once they are awake. The leader waits for tasks that were taken, never for a thread that hasn't
come, so the loop also ends where one thread runs its iterations one after another.
"""

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import NumbaTypeError
from numba.extending import intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

from eigenfeatures.kernels.cpu.compile import helper

# Counters to a cache line.
_LINE = 8

# Places of the counters: threads that have come, steps offered, tasks done, and each member's that are taken.
_COME, _OFFERED, _DONE, _TAKEN = range(0, 4 * _LINE, _LINE)


def make(members: int) -> NDArray[np.int64]:
    """Return the counters that a team of at most so many threads needs for one call."""
    return np.zeros(_TAKEN + members * _LINE, np.int64)


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    make_array: Any = arrayobj.make_array
    array = make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _signature(array: Any, *others: Any) -> Any:
    if not (isinstance(array, types.Array) and array.dtype == types.int64):
        raise NumbaTypeError("counters are an array of int64")
    return types.int64(array, types.int64, *others)


def _reading(_context: Any, array: Any, _place: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature, arguments), "acquire", 8)

    return _signature(array), code


def _adding(_context: Any, array: Any, _place: Any, _number: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments)
        return builder.atomic_rmw("add", pointer, arguments[2], "acq_rel")

    return _signature(array, types.int64), code


def _replacing(_context: Any, array: Any, _place: Any, _old: Any, _new: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments)
        pair = builder.cmpxchg(pointer, arguments[2], arguments[3], "acq_rel", "acquire")
        return builder.zext(builder.extract_value(pair, 1), context.get_value_type(types.int64))

    return _signature(array, types.int64, types.int64), code


# A counter, at a place of an array: read it, and with it all that its writer had written before; add to it
# and get what it was; replace it if it is still an old number, and get 1 where it was.
_read: Any = intrinsic(_reading)
_add: Any = intrinsic(_adding)
_replace: Any = intrinsic(_replacing)


@helper
def enter(team: Any) -> Any:
    """Return how many threads came before the calling one, which leads if there are none."""
    return _add(team, _COME, 1)


@helper
def offer(team: Any) -> None:
    """Offer the tasks of another step; who takes them can read all that was written before."""
    _add(team, _OFFERED, 1)


@helper
def take(team: Any, member: Any, tasks: Any) -> Any:
    """Return one of the tasks, from 0 on, that nobody has taken in this step, or -1 where none is left.

    Every member has a run of tasks, which it takes first, so that it reads neighbouring memory. In every
    other step it goes backwards: what it used last is still in the cache.
    """
    members, steps = (team.size - _TAKEN) // _LINE, _read(team, _OFFERED)
    for i in range(members):
        whose = (member + i) % members
        first, stop = whose * tasks // members, (whose + 1) * tasks // members
        place, limit = _TAKEN + whose * _LINE, steps * (stop - first)
        number = _read(team, place)
        while number < limit:
            if _replace(team, place, number, number + 1):
                left = limit - 1 - number
                return first + left if steps % 2 == 0 else stop - 1 - left
            number = _read(team, place)
    return -1


@helper
def done(team: Any) -> None:
    """Tell that a task that was taken is done."""
    _add(team, _DONE, 1)


@helper
def wait(team: Any, tasks: Any) -> None:
    """Wait until the tasks of all steps are done."""
    offered = _read(team, _OFFERED) * tasks
    while _read(team, _DONE) < offered:
        pass


@helper
def dismiss(team: Any) -> None:
    """Send the others home."""
    _add(team, _OFFERED, -1 - _read(team, _OFFERED))


@helper
def dismissed(team: Any) -> Any:
    """Tell whether there will be no more tasks."""
    return _read(team, _OFFERED) < 0
