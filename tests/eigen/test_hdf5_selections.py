"""Which slices of their sources virtual data sets of HDF5 may select, and how many may be claimed."""

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import SHAPE, VOLUME, virtual, write

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.volumes import open_volume


def test_dropped_frames_are_read_as_by_hdf5(tmp_path: Path) -> None:
    write(tmp_path / "raw.h5", VOLUME.repeat(2, 0))
    layout = h5py.VirtualLayout(SHAPE, np.uint16)
    source = h5py.VirtualSource("raw.h5", "entry/data", (18, *SHAPE[1:]))
    layout[[0, 1, 5, 8]] = source[[0, 2, 10, 17]]
    layout[[2, 3, 4, 6, 7]] = source[[4, 6, 8, 13, 14]]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("entry/data", layout)
        np.testing.assert_array_equal(file["entry/data"][...], VOLUME)
    for axis in range(3):
        with open_volume(tmp_path / "v.h5", axis=axis) as stack:
            expected = np.moveaxis(VOLUME, axis, 0)
            np.testing.assert_array_equal(stack.read(range(len(expected))), expected)
            assert stack.filled == 0


Corner = tuple[int, int, int]


def selected(space: Any, corners: list[tuple[Corner, Corner]]) -> Any:
    for number, (start, size) in enumerate(corners):
        how = h5py.h5s.SELECT_OR if number else h5py.h5s.SELECT_SET
        space.select_hyperslab(start, (1, 1, 1), block=size, op=how)
    return space


def test_irregular_parts_of_slices_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "raw.h5")
    for name, corners, reason in (
        ("rows", [((0, 0, 0), (1, 12, 10)), ((2, 0, 0), (1, 6, 10)), ((5, 0, 0), (1, 6, 10))], "parts of s"),
        ("tiles", [((k, 6 * (k % 2), 0), (1, 6, 10)) for k in range(9)], "parts of slices"),
        ("many", [((k, i, 0), (1, 1, 10)) for k in (0, 2) for i in range(k, 12, 2)], "parts of slices"),
        ("beyond", [((0, 0, 0), (1, 12, 10)), ((2, 0, 0), (1, 12, 10)), ((9, 0, 0), (1, 12, 10))], "more t"),
    ):
        part = selected(h5py.h5s.create_simple((20, 12, 10)), corners)
        count = -(-part.get_select_npoints() // 120)
        place = h5py.h5s.create_simple(SHAPE)
        if name == "beyond":
            place.select_hyperslab((0, 0, 0), (1, 1, 1), block=(count, 12, 10))
        else:
            place = selected(place, corners)
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_virtual(place, b"raw.h5", b"entry/data", part)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            h5py.h5d.create(file.id, b"v", h5py.h5t.NATIVE_UINT16, h5py.h5s.create_simple(SHAPE), settings)
        with pytest.raises(InputError, match=f"{name}.h5:/v: is put together of {reason}"):
            open_volume(tmp_path / f"{name}.h5")


@pytest.mark.parametrize("slices", [10**8, 10**13])
@pytest.mark.parametrize("whole", [False, True])
def test_an_endless_claim_takes_no_memory(tmp_path: Path, slices: int, whole: bool) -> None:
    """Neither the virtual data set's nor a source's; both are files of a few KB."""
    shape = (slices, 2, 2)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("entry/data", shape if whole else (1, 2, 2), np.uint16, chunks=(1, 2, 2))
    part = slice(None) if whole else slice(0, 1)
    virtual(
        tmp_path / "v.h5", [("raw.h5", part, part)], shape=shape, source_shape=shape if whole else (1, 2, 2)
    )
    virtual(tmp_path / "w.h5", [("raw.h5", slice(0, 1), None)], shape=(3, 2, 2), source_shape=(1, 2, 2))
    tracemalloc.start()
    with pytest.raises(InputError, match=f"v.h5:/entry/data: claims {slices} slices of other data sets and"):
        open_volume(tmp_path / "v.h5")
    if whole:
        with pytest.raises(InputError, match=rf"w\.h5:.* is put together of 1 slices of {slices} in .*raw"):
            open_volume(tmp_path / "w.h5")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
