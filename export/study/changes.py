"""What is shown of a change: that it is there, that it is too small to matter, or nothing."""

from collections.abc import Mapping
from enum import Enum, auto

from eigenfeatures.eigen.study.bootstrap import Interval, Paired
from eigenfeatures.eigen.study.significance import Label, significant

# Correlations that differ by less are taken for the same.
EQUAL_WITHIN = 0.05


class Change(Enum):
    """What a paired difference shows."""

    MORE = auto()
    LESS = auto()
    SAME = auto()
    NOT_MORE = auto()
    """The same or less: which of them isn't shown."""
    UNKNOWN = auto()


def changes(tests: Mapping[Label, Paired]) -> dict[Label, Change]:
    """Say what each of several comparisons shows, corrected for their number.

    That a change is too small to matter is a finding, and that it can't be told is none. An interval
    that speaks of slices only, there being a single pair of runs, shows nothing.
    """
    shown = significant(tests)
    return {label: _change(test.difference, label in shown) for label, test in tests.items()}


def not_above(difference: Interval) -> bool:
    """Whether it is shown that the first isn't larger than the second, but for what doesn't matter."""
    return bool(difference.runs) and difference.high <= EQUAL_WITHIN


def _change(difference: Interval, counts: bool) -> Change:
    if not_above(difference) and difference.low >= -EQUAL_WITHIN:
        return Change.SAME
    if counts:
        return Change.MORE if difference.estimate > 0 else Change.LESS
    return Change.NOT_MORE if not_above(difference) else Change.UNKNOWN
