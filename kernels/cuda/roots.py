"""Square roots of float32 without a branch.

The correctly rounded root that ``math.sqrt`` compiles to has a slow way for zeros and the ends of the range.
The branch to it keeps a loop's next rows from being under way meanwhile. PTX's ``sqrt.approx.f32`` takes all
numbers one way, and is at most 2⁻²³ of the root off: a last digit, as fused multiply-adds are.
"""

import math
from collections.abc import Callable
from typing import Any

from eigenfeatures.kernels.cuda.compile import SIMULATED, device_function

if not SIMULATED:
    from numba.cuda import types
    from numba.cuda.cgutils import ir
    from numba.cuda.extending import intrinsic


def _root(_typing: Any, value: Any) -> Any:
    def generate(_context: Any, builder: Any, _: Any, given: Any) -> Any:
        kind = ir.FunctionType(given[0].type, [given[0].type])
        if value == types.float64:
            return builder.asm(kind, "sqrt.rn.f64 $0, $1;", "=d,d", given, side_effect=False)
        return builder.asm(kind, "sqrt.approx.f32 $0, $1;", "=f,f", given, side_effect=False)

    return value(value), generate


def _simulated_root(value: Any) -> Any:
    return type(value)(math.sqrt(value))


# root(value): the square root of a float32, to its last digit, or of a float64, correctly rounded.
root: Callable[[Any], Any] = device_function(_simulated_root) if SIMULATED else intrinsic(_root)
