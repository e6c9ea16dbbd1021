"""Which numbers are missing among the names of a folder's slices."""

import math
import re
from collections.abc import Sequence


def missing_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers that names such as "s001", "s002", "s004" lack between the first and the last.

    Numbers at equal steps lack none. Nor do names that differ in more than one
    number, or in numbers that can't be a count since most would be missing.

    Parameters
    ----------
    names : sequence of str
        Of the slices, in any order.
    """
    parts = [re.split(r"([0-9]+)", name) for name in names]
    if len({len(part) for part in parts}) != 1:
        return []
    differing = [place for place, texts in enumerate(zip(*parts, strict=True)) if len({*texts}) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:  # the texts between the numbers have even places
        return []
    numbers = sorted({int(part[differing[0]]) for part in parts})
    step = math.gcd(*(number - numbers[0] for number in numbers)) or 1
    if (numbers[-1] - numbers[0]) // step >= 2 * len(numbers):
        return []
    return sorted({*range(numbers[0], numbers[-1], step)} - {*numbers})
