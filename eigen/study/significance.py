"""Which of several paired comparisons count."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from eigenfeatures.eigen.study.bootstrap import Paired

LEVEL = 0.05

Label = TypeVar("Label", bound=Hashable)


def significant(tests: Mapping[Label, Paired]) -> set[Label]:
    """Return the comparisons that are significant at 5 % by Holm's step-down procedure (Holm 1979).

    Parameters
    ----------
    tests
        Label to comparison. One whose interval speaks of slices only, there being a single pair of
        runs, is never significant, nor is one that isn't defined.
    """
    p_values = {label: test.p for label, test in tests.items() if test.difference.runs and test.p <= 1}
    accepted: set[Label] = set()
    for number, label in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if p_values[label] > LEVEL / (len(p_values) - number):
            break
        accepted.add(label)
    return accepted
