"""`.npy` and raw files that are damaged, hostile or described wrongly."""

import os
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import own_process
import pytest

from eigenfeatures.eigen import array_files
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.volumes import open_volume


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_npy_of_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    trap = np.empty((2, 2, 2), object)
    trap[...] = _Trap(tmp_path / "sprung")
    np.save(tmp_path / "v.npy", trap, allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    for name in ("v.npy", "bare.npy"):
        with pytest.raises(InputError, match=rf"{name}: isn't a whole \.npy"):
            open_volume(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((tmp_path / "bare.npy").read_bytes())  # noqa: S301 (to see that the trap works)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("length", [0, 5, 60, 128, 700])
def test_a_truncated_npy(tmp_path: Path, length: int) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((5, 20, 30), np.uint8))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"v\.npy: isn't a whole \.npy .*; save the array again") as refusal:
        open_volume(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["v.npy", "v.raw"])
def test_a_file_cut_short_while_it_is_read(tmp_path: Path, name: str) -> None:
    volume = np.random.default_rng(2).integers(0, 255, (50, 100, 100), dtype=np.uint8)
    path = tmp_path / name
    raw = name == "v.raw"
    if raw:
        volume.tofile(path)
    else:
        np.save(path, volume)
    with open_volume(path, **({"shape": volume.shape, "dtype": "u1"} if raw else {})) as stack:
        np.testing.assert_array_equal(stack.read([49]), volume[[49]])
        os.truncate(path, 300_000)
        with pytest.raises(InputError, match=r"slice 49 \(counted from 0\) can't be read"):
            stack.read([49])


def test_raw_of_either_byte_order(tmp_path: Path) -> None:
    volume = np.random.default_rng(2).integers(0, 60_000, (3, 8, 9), dtype=np.uint16)
    volume.astype(">u2").tofile(tmp_path / "v.bin")
    with open_volume(tmp_path / "v.bin", shape=(3, 8, 9), dtype=">u2") as stack:
        assert stack.dtype == np.uint16
        assert stack.files == (tmp_path / "v.bin",)
        np.testing.assert_array_equal(stack.read([2, 0], Region(1, 2, 3, 4)), volume[[2, 0], 1:4, 2:6])
    with open_volume(tmp_path / "v.bin", shape=(3, 8, 9), dtype="<u2") as stack:
        np.testing.assert_array_equal(stack.read([0]), volume[[0]].byteswap())


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ("ab", "u2", "^shape 'ab': must be whole numbers of slices, rows and columns"),
        ("389", "u2", "shape '389': must be whole numbers"),
        (3, "u2", "shape 3: must be whole numbers"),
        ((3, 8, 9.5), "u2", r"shape \(3, 8, 9.5\): must be whole numbers"),
        ((3, None, 9), "u2", r"shape \(3, None, 9\): must be whole numbers"),
        ((3, 8, 10), "u2", r"v\.raw: has 432 bytes, but 3×8×10 uint16 are 480; correct shape"),
        ((3, 8, 8), "u2", "has 432 bytes, but 3×8×8 uint16 are 384"),
        ((3, 8, 9), "u1", "has 432 bytes, but 3×8×9 uint8 are 216"),
        ((3, 8, -9), "u2", "is empty"),
        ((216,), "u2", "is an array of 216 values"),
        ((3, 8, 9), "uint61", "dtype 'uint61': is no type"),
        ((3, 8, 9), "f8", "64-bit float values"),
        ((3, 8, 9), "O", "holds no plain numbers"),
        ((2**40, 2**40, 2**40), "u2", "has 432 bytes"),
    ],
)
def test_raw_that_is_described_wrongly(tmp_path: Path, shape: Any, dtype: str, reason: str) -> None:
    np.zeros((3, 8, 9), np.uint16).tofile(tmp_path / "v.raw")
    with pytest.raises(InputError, match=reason) as refusal:
        open_volume(tmp_path / "v.raw", shape=shape, dtype=dtype)
    assert "\n" not in str(refusal.value)


def test_raw_without_a_description_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "v.raw").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"v\.raw: says nothing of its values; give shape"):
        open_volume(tmp_path / "v.raw")
    for name in ("no.npy", "no.tif", "no.zarr", "no.h5", "no.h5:/a"):
        with pytest.raises(InputError, match=r"/no\..*: can't be read: No such file or directory; check"):
            open_volume(tmp_path / name)
    with pytest.raises(InputError, match=r"no\.raw: can't be read: No such file"):
        open_volume(tmp_path / "no.raw", shape=(2, 2, 2), dtype="u1")
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        open_volume(tmp_path, shape=(1, 64, 64), dtype="u1")


def test_a_file_of_no_kind_that_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", np.zeros((3, 8, 9), np.uint8))
    with pytest.raises(
        InputError, match=r"v\.npz: isn't a TIFF file, nor of another kind that is read; export"
    ):
        open_volume(tmp_path / "v.npz")


def test_a_file_larger_than_memory_is_read_slice_by_slice(tmp_path: Path) -> None:
    """Forty sparse gigabytes."""
    slices, side = 10_000, 2048
    path = tmp_path / "huge.raw"
    last = np.random.default_rng(5).integers(0, 255, (side, side), dtype=np.uint8)
    with path.open("wb") as file:
        file.seek((slices - 1) * side**2)
        file.write(last.tobytes())
    with open_volume(path, shape=(slices, side, side), dtype="u1") as stack:
        np.testing.assert_array_equal(stack.read([0, slices - 1]), np.stack([np.zeros_like(last), last]))
    with open_volume(path, shape=(slices, side, side), dtype="u1", axis=2, every=1000) as stack:
        assert stack.shape == (3, slices, side)
        part = stack.read([1, 2], Region(slices - 2, 100, 2, 300))
    np.testing.assert_array_equal(part[:, 1], last[100:400, [1000, 2000]].T)
    assert not part[:, 0].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("ndim", [2, 3, 5])
def test_portions_that_are_mapped_make_up_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int, order: Literal["C", "F"], ndim: int
) -> None:
    volume = np.random.default_rng(2).integers(0, 60_000, (7, 8, 9), dtype=np.uint16)
    volume = volume[:1] if ndim == 2 else volume
    shaped = volume.reshape(volume.shape[3 - ndim :] if ndim == 2 else (1,) * (ndim - 3) + volume.shape)
    np.save(tmp_path / "v.npy", np.asarray(shaped, order=order))
    slices = np.moveaxis(volume, axis, 0)
    for portion in (1, 300, 1 << 20):
        monkeypatch.setattr(array_files, "_MAPPED", portion)
        with open_volume(tmp_path / "v.npy", axis=axis) as stack:
            np.testing.assert_array_equal(stack.read(range(len(slices))), slices)
            chosen = [*range(len(slices) - 1, -1, -2), 0]
            rows, columns = slices.shape[1:]
            region = Region(0, 1, rows, columns - 1)
            np.testing.assert_array_equal(stack.read(chosen, region), slices[chosen, :, 1:])


_ACROSS = """
import sys
from eigenfeatures.eigen.volumes import open_volume
def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
with open_volume(sys.argv[1], axis=2, shape=(1024, 1024, 512), dtype="u1") as stack:
    stack.read([3])[0, 0, 0]
    before = peak()
    stack.read([7, 8])
    print(peak() - before, peak())
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from /proc, which Linux has"
)
def test_slices_across_a_file_leave_most_of_it_out_of_memory(tmp_path: Path) -> None:
    """Each slice has a value of every page of the file."""
    with (tmp_path / "v.raw").open("wb") as file:
        file.truncate(1 << 29)
    grown, whole = own_process.printed(_ACROSS, tmp_path / "v.raw")
    assert grown < 1 << 26
    assert whole < 1 << 29
