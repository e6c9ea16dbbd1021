from pathlib import Path

import numpy as np
import pytest
import tifffile
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, runs
from eigenfeatures.eigen.tiff_stacks import open_stack


def test_regions_and_slices_outside_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, random_images(np.uint8), photometric="minisblack")
    with open_stack(path) as stack:
        with pytest.raises(InputError, match="region 30,0,8,8 leaves its 37×45 slices"):
            stack.read([0], Region(30, 0, 8, 8))
        for index in (-1, 7):
            with pytest.raises(IndexError, match=f"no slice {index} in a stack of 7"):
                stack.read([index])


def test_region_from_text() -> None:
    assert Region.parse("1, 2,30,40") == Region(1, 2, 30, 40)
    assert str(Region(1, 2, 30, 40)) == "1,2,30,40"
    assert Region(10, 20, 31, 40).centre(10, 10) == Region(20, 35, 10, 10)
    for text in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3.5,4", "-1,0,3,3", "0,0,0,5"):
        with pytest.raises(InputError, match="region"):
            Region.parse(text)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], []),
        ([4], [range(4, 5)]),
        ([2, 3, 4], [range(2, 5)]),
        ([0, 3, 6, 7], [range(0, 7, 3), range(7, 8)]),
        ([5, 5, 4, 9], [range(5, 6), range(5, 6), range(4, 10, 5)]),
    ],
)
def test_indices_are_split_into_rising_runs(indices: list[int], expected: list[range]) -> None:
    split = list(runs(indices))
    assert [run for _, run in split] == expected
    assert [index for _, run in split for index in run] == indices
    assert [position for position, _ in split] == [
        sum(len(run) for run in expected[:number]) for number in range(len(expected))
    ]
