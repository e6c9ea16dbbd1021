"""Slices that are missing are told by the numbers of the others."""

import pytest

from eigenfeatures.eigen.slice_numbers import missing_numbers


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["s001", "s002", "s003"], []),
        (["s8", "s10", "s9", "s12"], [11]),
        (["a_7_0001", "a_7_0002", "a_7_0005"], [3, 4]),
        (["s01.b2", "s03.b2", "s04.b2"], [2]),
        (["s000", "s010", "s020"], []),
        (["s000", "s010", "s020", "s040"], [30]),
        (["1", "2", "1000000000000000"], []),
        (["2.20230101120000000001", "2.20230101120000000002", "2.99930101120000000003"], []),
        (["x1y1", "x2y2", "x4y4"], []),
        (["a1", "b2", "c4"], []),
        (["a1", "a2", "a4b"], []),
        (["s1", "s01", "s3"], []),
        (["s1", "s01", "s3", "s4"], [2]),
        (["one"], []),
        (["7"], []),
        ([], []),
    ],
)
def test_numbers_between_the_first_and_the_last(names: list[str], expected: list[int]) -> None:
    assert missing_numbers(names) == expected
