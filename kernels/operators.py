"""The five masks that approximate the gradient (paper, eq. 3 and Fig. 4)."""

from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, get_args

Operator: TypeAlias = Literal["forward", "central", "prewitt", "sobel", "scharr"]

OPERATORS: tuple[Operator, ...] = get_args(Operator)


class Mask(NamedTuple):
    """A difference along one axis, weighted across the other.

    Attributes
    ----------
    side, centre
        Weights of the differences beside the pixel and at it.
    one_sided
        Whether the difference is ``Y[j + 1] - Y[j]`` and not ``Y[j + 1] - Y[j - 1]``.
    """

    side: float
    centre: float
    one_sided: bool = False


# Forward difference: paper, section 2.2.2 and Fig. 4b. Scale 1: grey values a pixel.
FORWARD = Mask(0.0, 1.0, one_sided=True)
# Central difference, second-order accurate. Scale 1: grey values a pixel.
CENTRAL = Mask(0.0, 0.5)
# Prewitt 1970: paper, Fig. 4c. Unnormalised: 6 times the gradient of a ramp.
PREWITT = Mask(1.0, 1.0)
# Sobel and Feldman 1968: paper, Fig. 4d. Unnormalised: 8 times the gradient of a ramp.
SOBEL = Mask(1.0, 2.0)
# Scharr 2000, least error of the angle. Unnormalised: 32 times the gradient of a ramp.
SCHARR = Mask(3.0, 10.0)

MASKS = MappingProxyType(
    {"forward": FORWARD, "central": CENTRAL, "prewitt": PREWITT, "sobel": SOBEL, "scharr": SCHARR}
)


def mask_of(operator: str) -> Mask:
    """Return the mask of an operator by its name.

    Raises
    ------
    ValueError
        Where there is no operator of that name.
    """
    try:
        return MASKS[operator]
    except (KeyError, TypeError):  # the latter of what can't be a key
        raise ValueError(f"no operator {operator!r}; choose from {', '.join(OPERATORS)}") from None
