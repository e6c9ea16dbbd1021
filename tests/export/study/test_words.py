"""How numbers are put into words, and what is said of u₁ against α."""

import numpy as np
import pytest

from eigenfeatures.eigen.study.bootstrap import Interval, Paired
from eigenfeatures.export.study.parts import in_words, level_in_words, p_in_words
from eigenfeatures.export.study.stability import _against_alpha


def interval(estimate, low, high, runs=5):
    return Interval(estimate, low, high, runs, 0.1, 4.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (interval(0.5, 0.25, 0.75), "0.50 [0.25, 0.75]"),
        (interval(0.5, 0.25, 0.75, runs=0), "0.50 [0.25, 0.75, over slices only]"),
        (interval(0.5, -1.0, 1.0), "0.50 (too few runs for an interval)"),
        (interval(0.5, np.nan, np.nan), "0.50 (too few runs for an interval)"),
        (interval(np.nan, np.nan, np.nan, runs=0), "–"),
    ],
)
def test_an_interval_says_what_it_can_speak_of(given, words):
    assert in_words(given) == words


def test_levels_are_those_of_the_definitions():
    levels = [level_in_words(value) for value in (0.8, 0.79, 0.5, 0.49, -0.9)]
    assert levels == ["nearly the same", "alike", "alike", "different", "different"]


def test_no_p_is_known_better_than_to_a_thousandth():
    assert [p_in_words(p) for p in (1e-15, 0.0009, 0.001, 0.083, 0.2)] == [
        *("p < 0.001", "p < 0.001", "p = 0.001", "p = 0.083", "p = 0.2")
    ]


def paired(difference, p, runs=5):
    return Paired(interval(difference, np.nan, np.nan, runs), 1.0, 0.9, p)


def test_pairings_are_listed_in_their_order_and_by_what_is_shown():
    """In the order given: a set's order would change from one process to the next, and the bytes with it."""
    names = [f"network{k}" for k in range(9)]
    tests = {name: paired(0.3, 0.001) for name in names}
    tests |= {
        "behind": paired(-0.3, 0.001),
        "unknown": paired(0.3, 0.4),
        "one pair": paired(0.3, 1e-9, runs=0),
    }
    assert _against_alpha(tests) == (
        f"u₁ is more stable than α in {', '.join(names)}; less stable than α in behind; "
        "not shown to differ from α in stability in unknown, one pair (at 5 %, corrected for 12 comparisons)."
    )


def test_several_comparisons_are_corrected_for():
    """Holm: of three p of 0.02 none is below 0.05 / 3; of one it is."""
    assert "more stable than α in a" in _against_alpha({"a": paired(0.3, 0.02)})
    assert _against_alpha({name: paired(0.3, 0.02) for name in "abc"}).startswith("u₁ is not shown to differ")
    stepped = _against_alpha({"a": paired(0.3, 0.01), "b": paired(0.3, 0.02), "c": paired(0.3, 0.6)})
    assert "more stable than α in a, b;" in stepped
