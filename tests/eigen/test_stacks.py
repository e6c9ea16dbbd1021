from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from random_volumes import random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Missing, Region, runs
from eigenfeatures.eigen.tiff_stacks import open_stack
from eigenfeatures.eigen.volumes import open_volume


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


@pytest.mark.parametrize("missing", ["refuse", "fill"])
def test_values_are_looked_at_once_for_being_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: Missing
) -> None:
    """Also of each second slice."""
    np.save(tmp_path / "v.npy", random_images(np.float32, (8, 6, 5)))
    finite, looked = np.isfinite, []

    def look(image: NDArray[np.float32]) -> NDArray[np.bool_]:
        looked.append(image.shape)
        return finite(image)

    with open_volume(tmp_path / "v.npy", every=2, missing=missing) as stack:
        monkeypatch.setattr(np, "isfinite", look)
        stack.read(range(4))
    assert looked == [(6, 5)] * 4


def test_of_each_second_slice_what_is_no_number_is_named_or_filled(tmp_path: Path) -> None:
    volume = random_images(np.float32, (8, 6, 5))
    volume[4, 1, 2], volume[5] = np.nan, np.inf
    np.save(tmp_path / "v.npy", volume)
    with (
        open_volume(tmp_path / "v.npy", every=2) as stack,
        pytest.raises(InputError, match=r"slice 4 \(counted from 0\) holds NaN"),
    ):
        stack.read(range(4))
    volume[4, 1, 2] = 0
    with open_volume(tmp_path / "v.npy", every=2, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(4)), volume[::2])
        assert [stack.is_filled(k) for k in range(4)] == [False, False, True, False]
        assert stack.filled == 1
