"""Virtual data sets of HDF5: read as by HDF5, save that nothing is looked for and nothing missing made up."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import SHAPE, VOLUME, link, one_after_another, virtual, write

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.hdf5_data import DataSetStack
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.eigen.volumes import open_volume


def in_turn(folder: Path) -> Path:
    """As of a detector whose frames several computers write, here two at a time."""
    for number in range(2):
        frames = [k for k in range(9) if k // 2 % 2 == number]
        write(folder / f"{number}.h5", VOLUME[frames])
    layout = h5py.VirtualLayout(SHAPE, np.uint16)
    for number, frames in enumerate(([0, 1, 4, 5, 8], [2, 3, 6, 7])):
        source = h5py.VirtualSource(f"{number}.h5", "entry/data", (len(frames), *SHAPE[1:]))
        for first in range(0, len(frames), 2):
            layout[frames[first] : frames[first] + 2] = source[first : first + 2]
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("entry/data", layout)
    return folder / "v.h5"


def by_steps(folder: Path) -> Path:
    for number in range(3):
        write(folder / f"{number}.h5", np.repeat(VOLUME[number::3], 2, 0))
    return virtual(
        folder / "v.h5",
        [(f"{n}.h5", slice(n, 9, 3), slice(0, 6, 2)) for n in range(3)],
        source_shape=(6, *SHAPE[1:]),
    )


def a_file_a_slice(folder: Path) -> Path:
    for number, image in enumerate(VOLUME):
        write(folder / f"{number}.h5", image)
    return virtual(folder / "v.h5", [(f"{n}.h5", n, slice(None)) for n in range(9)], source_shape=SHAPE[1:])


def of_the_file_itself(folder: Path) -> Path:
    write(folder / "v.h5", VOLUME[::-1], "raw")
    layout = h5py.VirtualLayout((1, 1, *SHAPE), np.uint16)
    for k in range(9):
        layout[0, 0, k] = h5py.VirtualSource(".", "raw", SHAPE)[8 - k]
    with h5py.File(folder / "v.h5", "a") as file:
        file.create_virtual_dataset("entry/data", layout)
    return folder / "v.h5"


def by_a_link(folder: Path) -> Path:
    """Names are those beside the file that has the virtual data set."""
    (folder / "below").mkdir()
    one_after_another(folder / "below")
    return link(folder / "master.nxs", "below/v.h5")


WAYS = [one_after_another, in_turn, by_steps, a_file_a_slice, of_the_file_itself, by_a_link]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_virtual_data_set_is_read_as_by_hdf5(folder: Path, way: Any, axis: int) -> None:
    path = way(folder)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["entry/data"][...].reshape(SHAPE), VOLUME)
    expected = np.moveaxis(VOLUME, axis, 0)
    rng = np.random.default_rng(5)
    with open_volume(f"{path}:/entry/data", axis=axis) as stack:
        assert str(stack.path) == f"{path}:/entry/data"
        np.testing.assert_array_equal(stack.read(range(len(expected))), expected)
        for _ in range(20):
            indices = rng.integers(0, len(expected), rng.integers(1, 6))
            rows, columns = (np.sort(rng.choice(size + 1, 2, replace=False)) for size in expected.shape[1:])
            region = Region(int(rows[0]), int(columns[0]), int(np.ptp(rows)), int(np.ptp(columns)))
            np.testing.assert_array_equal(
                stack.read(indices, region), expected[indices, slice(*rows), slice(*columns)]
            )
        assert stack.filled == 0
    with open_volume(f"{path}:/entry/data", axis=axis, every=2) as stack:
        np.testing.assert_array_equal(stack.read(range(1, stack.shape[0])), expected[2::2])


def test_the_files_of_a_virtual_data_set_are_those_of_the_stack(folder: Path) -> None:
    path = by_a_link(folder)
    below = (folder / "below").resolve()
    with open_volume(path, axis=2) as stack:
        assert stack.files == (path, below / "v.h5", *(below / "pieces" / f"{n}.h5" for n in range(3)))


def test_a_virtual_data_set_has_its_own_voxel_size_and_is_chosen_as_any_other(folder: Path) -> None:
    path = one_after_another(folder)
    with h5py.File(path, "a") as file:
        file["entry/data"].attrs["element_size_um"] = (3, 2, 1)
    with open_volume(path, axis=1) as stack:
        assert stack.voxel_size == VoxelSize(2, 3, 1)
    write(path, name="entry/other")
    with pytest.raises(InputError, match="holds the volumes /entry/data, /entry/other; name one"):
        open_volume(path)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_that_no_file_gives_are_missing(folder: Path, axis: int) -> None:
    write(folder / "raw.h5")
    whole = slice(2, 6), slice(2, 6)
    path = virtual(folder / "v.h5", [("raw.h5", *whole)], fillvalue=7)
    expected = np.full_like(VOLUME, 7)
    expected[2:6] = VOLUME[2:6]
    view = np.moveaxis(expected, axis, 0)
    with open_volume(path, axis=axis) as stack:
        if axis == 0:
            np.testing.assert_array_equal(stack.read(range(2, 6)), VOLUME[2:6])
        with pytest.raises(
            InputError, match=r"v\.h5:/entry/data: slice 0 .* is in none of the files .*\(--missing fill\)"
        ):
            stack.read(range(len(view)))
    with open_volume(path, axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(len(view))), view)
        flagged = [index for index in range(len(view)) if stack.is_filled(index)]
        assert flagged == ([0, 1, 6, 7, 8] if axis == 0 else list(range(len(view))))
        assert stack.filled == len(flagged)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_chunk_that_a_source_lacks_is_missing(folder: Path, axis: int) -> None:
    with h5py.File(folder / "raw.h5", "w") as file:
        data = file.create_dataset("entry/data", SHAPE, np.uint16, chunks=(2, 12, 10), fillvalue=7)
        data[:4] = VOLUME[:4]
        data[6:] = VOLUME[6:]
    path = virtual(folder / "v.h5", [("raw.h5", slice(0, 8), slice(1, 9))])
    with (
        open_volume(path, axis=axis) as stack,
        pytest.raises(
            InputError, match=r"raw\.h5:/entry/data: slice 4 .* lacks chunk 2\.0\.0; copy the data"
        ),
    ):
        stack.read(range(8))
    expected = np.zeros_like(VOLUME)
    expected[:8] = VOLUME[1:]
    expected[3:5] = 7
    view = np.moveaxis(expected[:8] if axis == 0 else expected, axis, 0)
    with open_volume(path, axis=axis, missing="fill") as stack:
        np.testing.assert_array_equal(stack.read(range(len(view))), view)
        assert [k for k in range(len(view)) if stack.is_filled(k)] == ([3, 4] if axis == 0 else [*range(12)])


@pytest.mark.parametrize("axis", [1, 2])
def test_rows_that_lack_nothing_are_not_flagged_for_others_that_do(folder: Path, axis: int) -> None:
    """Or results depended on what else was read, as where a run is resumed."""
    with h5py.File(folder / "raw.h5", "w") as file:
        data = file.create_dataset("entry/data", SHAPE, np.uint16, chunks=(1, 6, 5))
        for k in range(9):
            if k:
                data[k] = VOLUME[k]
            else:  # lacks the chunk of the first rows and columns
                data[0, 6:], data[0, :6, 5:] = VOLUME[0, 6:], VOLUME[0, :6, 5:]
    path = virtual(folder / "v.h5", [("raw.h5", slice(0, 9), slice(0, 9))])
    size, hole = SHAPE[axis], SHAPE[axis] // 2
    for blocks in ([range(size)], [range(4), range(4, 8), range(8, size)], [range(hole, size), range(hole)]):
        with open_volume(path, axis=axis, missing="fill") as stack:
            for block in blocks:
                stack.read(block)
                assert [k for k in block if stack.is_filled(k)] == [k for k in block if k < hole]
    other = Region(0, 5, 9, 5) if axis == 1 else Region(0, 6, 9, 6)
    with open_volume(path, axis=axis, missing="fill") as stack:
        stack.read(range(hole, size))
        stack.read(range(size), other)
        assert stack.filled == 0
        stack.read(range(0, size, 2))
        assert [k for k in range(size) if stack.is_filled(k)] == [*range(0, hole, 2)]


def test_a_source_that_is_gone_is_no_fill_value(folder: Path) -> None:
    path = one_after_another(folder)
    with open_volume(path, missing="fill") as stack:
        stack.read([0])
        (folder / "pieces" / "1.h5").unlink()
        with pytest.raises(InputError, match=r"v\.h5:/entry/data: leads to 'pieces/1\.h5', which is no file"):
            stack.read(range(9))
    with pytest.raises(InputError, match=r"v\.h5:/entry/data: leads to 'pieces/1\.h5', which is no file"):
        open_volume(path, missing="fill")


def test_a_source_that_is_led_elsewhere_meanwhile_is_refused(folder: Path) -> None:
    path = one_after_another(folder)
    with open_volume(path) as stack:
        stack.read([0])
        (folder / "pieces" / "1.h5").rename(folder.parent / "1.h5")
        (folder / "pieces" / "1.h5").symlink_to(folder.parent / "1.h5")
        with pytest.raises(InputError, match=r"leads to 'pieces/1\.h5' by a symbolic link that doesn't end"):
            stack.read(range(9))


def test_threads_may_share_a_virtual_data_set(folder: Path) -> None:
    order = np.random.default_rng(1).integers(0, 9, 80)
    with open_volume(in_turn(folder)) as stack, ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda index: stack.read([index])[0], order))
    np.testing.assert_array_equal(np.stack(read), VOLUME[order])


def test_no_thread_closes_the_file_that_another_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = in_turn(folder), DataSetStack._read_named
    with open_volume(path) as stack, ThreadPoolExecutor(1) as pool:
        others: list[Any] = []

        def read_meanwhile(self: Any, *arguments: Any) -> None:
            if not others:
                others.append(pool.submit(stack.read, [2, 3]))
                wait(others, timeout=0.5)  # which it needn't, to be right
            read(self, *arguments)

        monkeypatch.setattr(DataSetStack, "_read_named", read_meanwhile)
        np.testing.assert_array_equal(stack.read([0, 1]), VOLUME[:2])
        np.testing.assert_array_equal(others[0].result(), VOLUME[2:4])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system doesn't list what is open")
def test_no_file_stays_open(folder: Path) -> None:
    """Also after a refusal."""
    path = one_after_another(folder)
    with open_volume(path) as stack:
        stack.read(range(9))
    (folder / "pieces" / "2.h5").unlink()
    with pytest.raises(InputError, match="which is no file"):
        open_volume(path)
    opened = [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]
    assert [name for name in opened if name.startswith(str(folder.resolve()))] == []


def test_what_virtual_data_sets_are_not_read(folder: Path) -> None:
    write(folder / "raw.h5")
    write(folder / "half.h5", VOLUME[:, :6])
    write(folder / "bytes.h5", VOLUME.astype(np.uint8))
    write(folder / "short.h5", VOLUME[:3])
    write(folder / "long.h5", np.concatenate([VOLUME, VOLUME[:1]]))
    write(folder / "flat.h5", VOLUME.reshape(9, 6, 20))
    write(folder / "plane.h5", VOLUME[0])
    write(folder / "table.h5", np.zeros((2, 2, 3, 12, 10), np.uint16))
    (folder / "raw.bin").write_bytes(VOLUME.tobytes())
    with h5py.File(folder / "outside.h5", "w") as file:
        file.create_dataset(
            "entry/data", SHAPE, np.uint16, external=[(str(folder / "raw.bin"), 0, VOLUME.nbytes)]
        )
    with h5py.File(folder / "group.h5", "w") as file:
        file.create_group("entry/data")
    with h5py.File(folder / "empty.h5", "w"):
        pass
    virtual(folder / "virtual.h5", [("raw.h5", slice(None), slice(None))])
    everything = slice(None)
    for name, parts, reason in (
        ("half", [("half.h5", (everything, slice(0, 6)), everything)], "is put together of parts of slices"),
        ("crop", [("raw.h5", (everything, slice(0, 6)), (everything, slice(0, 6)))], "parts of slices"),
        ("bytes", [("bytes.h5", everything, everything)], r"of uint8 in .*bytes\.h5 where it says uint16"),
        ("short", [("short.h5", everything, everything)], "is put together of more than there is"),
        ("long", [("long.h5", everything, None)], r"9 slices of 10 in .*long\.h5"),
        ("flat", [("flat.h5", everything, None)], "is put together of slices of 6×20 pixels"),
        ("plane", [("plane.h5", everything, everything)], "more than there is|slices of"),
        ("table", [("table.h5", everything, everything)], "is an array of 2×2×3×12×10 values"),
        ("outside", [("outside.h5", everything, everything)], "keeps its values in other places"),
        ("virtual", [("virtual.h5", everything, everything)], "keeps its values in other places"),
        ("group", [("group.h5", everything, everything)], "is no data set but a group"),
        ("empty", [("empty.h5", everything, everything)], "takes slices from .* is not in the file"),
    ):
        shape = {"half": (9, 6, 10), "flat": (9, 6, 20)}.get(name, SHAPE)
        path = virtual(folder / f"v-{name}.h5", parts, source_shape=shape)
        with pytest.raises(InputError, match=reason) as refusal:
            open_volume(path)
        assert "\n" not in str(refusal.value)


@pytest.fixture
def kept_times(tmp_path: Path) -> Path:
    """Return an HDF5 file with a growing data set, whose time of access tells that it was read."""
    path = write(tmp_path / "secret-0.h5", chunks=(1, 12, 10), maxshape=(None, 12, 10))
    os.utime(path, (1, path.stat().st_mtime))
    path.read_bytes()
    if path.stat().st_atime == 1:
        pytest.skip("this file system keeps no times of access")
    os.utime(path, (1, path.stat().st_mtime))
    return path


@pytest.mark.parametrize("pattern", [False, True])
def test_nothing_is_opened_to_tell_a_shape(folder: Path, kept_times: Path, pattern: bool) -> None:
    """Of a virtual data set that grows, HDF5 itself looks into the sources to tell its shape."""
    endless, path = h5py.h5s.UNLIMITED, folder / "v.h5"
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(SHAPE, (endless, 12, 10))
        space.select_hyperslab((0, 0, 0), (endless, 1, 1), (1, 1, 1), (1, 12, 10))
        source = h5py.h5s.create_simple((1, 12, 10) if pattern else SHAPE, (endless, 12, 10))
        if not pattern:
            source.select_hyperslab((0, 0, 0), (endless, 1, 1), (1, 1, 1), (1, 12, 10))
        name = str(kept_times).replace("secret-0", "secret-%b" if pattern else "secret-0")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_virtual(space, name.encode(), b"entry/data", source)
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, space, plist)
    os.utime(kept_times, (1, kept_times.stat().st_mtime))
    for given in (path, f"{path}:/data"):
        with pytest.raises(InputError, match=r"v\.h5:/data: grows with other files or names them by a pat"):
            open_volume(given)
    assert kept_times.stat().st_atime == 1
    with h5py.File(path) as file:
        assert file["data"].shape == ((1, 12, 10) if pattern else SHAPE)
    assert kept_times.stat().st_atime > 1, "what was looked for"


def test_random_damage_never_escapes(folder: Path) -> None:
    rng = np.random.default_rng(11)
    path = one_after_another(folder)
    link(path, "pieces/0.h5", name="entry/link")
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    refusals = []
    for _ in range(200):
        data = sound.copy()
        data[rng.integers(0, len(data), 8)] = rng.choice([0, 1, 46, 127, 255], 8)
        path.write_bytes(data.tobytes())
        try:
            with open_volume(f"{path}:/entry/data") as stack:
                stack.read(range(min(stack.shape[0], 20)))
        except InputError as error:
            refusals.append(str(error))
    assert 20 < len(refusals) < 200
    assert not any("\n" in message for message in refusals)
