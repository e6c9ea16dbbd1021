"""Measurements come back as they were, and what isn't measurements is refused without being unpickled."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.study.stored import load_arrays, save_arrays

ARRAYS = {
    "runs": np.array(["small 0", "réduit 1"]),
    "pairs": np.array([[0, 1]]),
    "of_pairs/u1/pearson": np.array([[0.5, np.nan, np.inf]]),
    "of_runs/u1/iou": np.zeros((0, 3)),
}


class Trap:
    """Says where it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "pass.npz"
    save_arrays(path, ARRAYS)
    return path


def refused(path):
    with pytest.raises(InputError) as caught:
        load_arrays(path)
    assert str(caught.value) == f"{path} holds no measurements of a study; delete it"


def test_arrays_come_back_with_names_types_and_bits(stored):
    found = load_arrays(stored)
    assert list(found) == list(ARRAYS)
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_the_same_arrays_make_the_same_bytes(stored, tmp_path):
    save_arrays(tmp_path / "again.npz", ARRAYS)
    assert (tmp_path / "again.npz").read_bytes() == stored.read_bytes()


def test_a_file_that_can_not_be_written_whole_leaves_the_old_one(stored):
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no numbers")

    before = stored.read_bytes()
    with pytest.raises(RuntimeError, match="no numbers"):
        save_arrays(stored, {**ARRAYS, "late": Broken()})
    assert stored.read_bytes() == before
    assert [entry.name for entry in stored.parent.iterdir()] == ["pass.npz"]


def test_objects_are_not_unpickled(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], object)
    np.savez(tmp_path / "pass.npz", runs=np.array(["a"]), trap=trap)
    refused(tmp_path / "pass.npz")
    np.save(tmp_path / "array.npy", trap, allow_pickle=True)
    refused(tmp_path / "array.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(stored, share):
    stored.write_bytes(stored.read_bytes()[: int(share * stored.stat().st_size)])
    refused(stored)


def test_a_damaged_file_is_refused_wherever_it_is_hit(stored):
    """Whatever byte is changed: refused, or (names, padding, dates) the numbers are those that were saved."""
    whole = stored.read_bytes()
    refusals = 0
    for at in range(0, len(whole), 7):
        stored.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = load_arrays(stored)
        except InputError:
            refusals += 1
        else:
            for name in set(found) & set(ARRAYS):
                np.testing.assert_array_equal(found[name], ARRAYS[name])
    assert refusals > 20


def write_member(path, name, data, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, data)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "pass.npz"
    refused(path)  # missing
    path.write_bytes(b"not a zip at all")
    refused(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    refused(path.with_suffix(".npy"))
    write_member(path, "runs.txt", b"no array")
    refused(path)
    write_member(path, "runs.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': broken")
    refused(path)
    # More than any memory holds, in a file of some bytes.
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
    write_member(path, "runs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(path)
