from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_volumes import DTYPES, random_images

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, Stack
from eigenfeatures.eigen.volumes import open_volume

SHAPE = (11, 14, 17)
CHUNKS = (4, 5, 6)  # divide none of the sides


def _zarr(path: Path, volume: np.ndarray, **options: Any) -> str:
    array = zarr.create_array(path, shape=volume.shape, dtype=volume.dtype, **{"chunks": CHUNKS} | options)
    array[...] = volume
    return str(path)


def _hdf5(path: Path, volume: np.ndarray, **options: Any) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data", data=volume, **options)
    return str(path)


def _npy(path: Path, volume: np.ndarray) -> str:
    np.save(path, volume)
    return str(path)


def _raw(path: Path, volume: np.ndarray) -> str:
    volume.tofile(path)
    return str(path)


def _tiff(path: Path, volume: np.ndarray, **options: Any) -> str:
    tifffile.imwrite(path, volume, photometric="minisblack", **options)
    return str(path)


def _tiff_folder(path: Path, volume: np.ndarray) -> str:
    path.mkdir()
    for number, image in enumerate(volume):
        tifffile.imwrite(path / f"s{number}.tif", image)
    return str(path)


def _big(volume: np.ndarray) -> np.ndarray:
    return volume.astype(volume.dtype.newbyteorder(">"))


KINDS: dict[str, Callable[[Path, np.ndarray], str]] = {
    "Zarr 2": lambda path, volume: _zarr(path / "v.zarr", volume, zarr_format=2),
    "Zarr 2, big-endian": lambda path, volume: _zarr(path / "v.zarr", _big(volume), zarr_format=2),
    "Zarr 2, Fortran order": lambda path, volume: _zarr(path / "v.zarr", volume, zarr_format=2, order="F"),
    "Zarr 3": lambda path, volume: _zarr(path / "v.zarr", volume, zarr_format=3),
    "Zarr 3, uncompressed": lambda path, volume: _zarr(path / "v.zarr", volume, compressors=None),
    "Zarr 3, shards": lambda path, volume: _zarr(path / "v.zarr", volume, shards=(8, 10, 12)),
    "Zarr 3, one of a group": lambda path, volume: _zarr(path / "v.zarr" / "a", volume)[:-2],
    "Zarr 3, named": lambda path, volume: _zarr(path / "v.zarr" / "a" / "b", volume),
    "Zarr 3, five axes": lambda path, volume: _zarr(
        path / "v.zarr", volume[None, None], chunks=(1, 1, *CHUNKS)
    ),
    "HDF5": lambda path, volume: _hdf5(path / "v.h5", volume),
    "HDF5, big-endian": lambda path, volume: _hdf5(path / "v.h5", _big(volume)),
    "HDF5, chunks": lambda path, volume: _hdf5(path / "v.nxs", volume, chunks=CHUNKS, compression="gzip"),
    "HDF5, named": lambda path, volume: _hdf5(path / "v", volume) + ":/entry/data",
    "HDF5, five axes": lambda path, volume: _hdf5(path / "v.h5", volume[None, None]) + ":entry/data",
    "npy": lambda path, volume: _npy(path / "v.npy", volume),
    "npy, Fortran order": lambda path, volume: _npy(path / "v.npy", np.asfortranarray(volume)),
    "npy, big-endian": lambda path, volume: _npy(path / "v.npy", _big(volume)),
    "raw": lambda path, volume: _raw(path / "v.raw", volume),
    "TIFF": lambda path, volume: _tiff(path / "v.tif", volume),
    "TIFF, strips": lambda path, volume: _tiff(path / "v.tif", volume, compression="zlib", rowsperstrip=4),
    "TIFF folder": lambda path, volume: _tiff_folder(path / "v", volume),
}


def _write(path: Path, kind: str, volume: np.ndarray) -> tuple[str, dict[str, Any]]:
    """Return the source, and what `open_volume` must be told of it."""
    path.mkdir(exist_ok=True)
    if "one of a group" in kind:
        zarr.create_group(path / "v.zarr", zarr_format=3)
    known = {"shape": volume.shape, "dtype": volume.dtype} if kind == "raw" else {}
    return KINDS[kind](path, volume), known


def _make(path: Path, kind: str, volume: np.ndarray, **options: Any) -> Stack:
    source, known = _write(path, kind, volume)
    return open_volume(source, **known, **options)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_equals_numpy(tmp_path: Path, kind: str, axis: int) -> None:
    volume = random_images(np.uint16, SHAPE)
    expected = np.moveaxis(volume, axis, 0)
    source, known = _write(tmp_path, kind, volume)
    with open_volume(source, axis=axis, **known) as stack:
        assert stack.shape == expected.shape
        read = stack.read(range(len(expected)))
        part = stack.read([7, 0, 3, 3, 5], Region(2, 3, 7, 8))
        assert stack.filled == 0
    assert read.dtype == np.uint16
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(part, expected[[7, 0, 3, 3, 5], 2:9, 3:11])
    with open_volume(source, axis=axis, every=4, **known) as stack:
        read = stack.read(range(stack.shape[0]))
        part = stack.read([2, 0])
    np.testing.assert_array_equal(read, expected[::4])
    np.testing.assert_array_equal(part, expected[[8, 0]])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("kind", ["Zarr 2", "Zarr 3", "HDF5, chunks", "npy", "raw"])
def test_every_type(tmp_path: Path, kind: str, dtype: type) -> None:
    volume = random_images(dtype, SHAPE)
    with _make(tmp_path, kind, volume) as stack:
        read = stack.read(range(len(volume)))
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, volume)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_slices_and_region_equal_numpy_indexing(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(
        st.sampled_from(["Zarr 2", "Zarr 3, shards", "HDF5, chunks", "npy, Fortran order", "TIFF"])
    )
    axis, every = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 5))
    volume = random_images(np.int16, SHAPE)
    if not (tmp_path / kind).exists():
        _make(tmp_path / kind, kind, volume).close()
    expected = np.moveaxis(volume, axis, 0)[::every]
    slices, rows, columns = expected.shape
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height, width = data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, columns - left))
    indices = data.draw(st.lists(st.integers(0, slices - 1), max_size=5))
    (source,) = (tmp_path / kind).iterdir()
    with open_volume(source, axis=axis, every=every) as stack:
        assert stack.shape == expected.shape
        read = stack.read(indices, Region(top, left, height, width))
    np.testing.assert_array_equal(read, expected[indices][:, top : top + height, left : left + width])


@pytest.mark.parametrize("kind", ["Zarr 3", "HDF5", "npy", "raw"])
def test_a_plane_is_a_stack_of_one_slice(tmp_path: Path, kind: str) -> None:
    plane = random_images(np.uint8, (9, 8))
    source = {
        "Zarr 3": lambda: _zarr(tmp_path / "p.zarr", plane, chunks=(4, 4)),
        "HDF5": lambda: _hdf5(tmp_path / "p.h5", plane) + ":/entry/data",
        "npy": lambda: _npy(tmp_path / "p.npy", plane),
        "raw": lambda: _raw(tmp_path / "p.raw", plane),
    }[kind]()
    options: dict[str, Any] = {"shape": plane.shape, "dtype": "u1"} if kind == "raw" else {}
    for axis in range(3):
        with open_volume(source, axis=axis, **options) as stack:
            expected = np.moveaxis(plane[None], axis, 0)
            assert stack.shape == expected.shape
            np.testing.assert_array_equal(stack.read(range(len(expected))), expected)


@pytest.mark.parametrize("kind", ["Zarr 2", "HDF5, chunks", "npy", "TIFF, strips"])
def test_threads_may_share_a_stack(tmp_path: Path, kind: str) -> None:
    volume = random_images(np.uint16, SHAPE)
    order = np.random.default_rng(1).integers(0, SHAPE[1], 60)
    with _make(tmp_path, kind, volume, axis=1) as stack, ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda index: stack.read([index])[0], order))
    np.testing.assert_array_equal(np.stack(read), volume.swapaxes(0, 1)[order])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [1, 2])
def test_a_chunk_is_fetched_once_for_all_its_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int, every: int
) -> None:
    source = _zarr(tmp_path / "v.zarr", random_images(np.uint8, SHAPE))
    fetched: list[str] = []
    get = zarr.storage.LocalStore.get

    async def counted(self: Any, key: str, *arguments: Any, **options: Any) -> Any:
        fetched.append(key)
        return await get(self, key, *arguments, **options)

    with open_volume(source, axis=axis, every=every) as stack:
        monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
        stack.read(range(stack.shape[0]))
    assert len(fetched) == len(set(fetched)) == 27  # 3 chunks along each axis


@pytest.mark.parametrize("kind", ["Zarr 3", "HDF5", "npy", "TIFF"])
def test_values_that_are_not_finite_name_the_slice(tmp_path: Path, kind: str) -> None:
    volume = random_images(np.float32, SHAPE)
    volume[4, 10, 12] = np.nan
    with _make(tmp_path, kind, volume, every=2) as stack:
        np.testing.assert_array_equal(stack.read([0, 1]), volume[[0, 2]])
        with pytest.raises(InputError, match=r"slice 4 \(counted from 0\) holds NaN or infinite"):
            stack.read(range(4))


@pytest.mark.parametrize("kind", ["Zarr 3", "HDF5", "npy", "TIFF"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [1, 2])
def test_values_that_are_not_finite_are_filled_if_wished(
    tmp_path: Path, kind: str, axis: int, every: int
) -> None:
    volume = random_images(np.float32, SHAPE)
    volume[4, 10, 12], volume[5, 3, 1] = np.nan, -np.inf
    view = np.moveaxis(volume, axis, 0)[::every]
    holes = ~np.isfinite(view)
    with _make(tmp_path, kind, volume, axis=axis, every=every, missing="fill") as stack:
        found = stack.read(range(len(view)))
        np.testing.assert_array_equal(found, np.where(holes, 0, view))
        filled = holes.any((1, 2))
        assert [stack.is_filled(index) for index in range(len(view))] == filled.tolist()
        assert stack.filled == filled.sum() > 0


def test_a_slice_along_another_axis_is_named_by_it(tmp_path: Path) -> None:
    volume = random_images(np.float32, SHAPE)
    volume[4, 10, 12] = np.inf
    for kind in ("npy", "TIFF"):
        with (
            _make(tmp_path, kind, volume, axis=1) as stack,
            pytest.raises(
                InputError, match=r"slice 10 along axis 1 .* have infer fill them with 0 \(--missing fill"
            ),
        ):
            stack.read([9, 10])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"axis": 3}, "axis 3: must be 0, 1 or 2"),
        ({"axis": -1}, "axis -1: must be"),
        ({"every": 0}, "every 0: must be at least 1"),
        ({"every": 1.5}, "every 1.5: must be a whole number"),
        ({"axis": 1.0}, "axis 1.0: must be a whole number"),
        ({"axis": np.eye(2)}, r"axis array\(\[\[1., 0.\], \[0., 1.\]\]\): must be a whole number"),
        ({"missing": "ignore"}, "missing 'ignore': must be 'refuse' or 'fill'"),
        ({"shape": SHAPE}, "needs both, shape and dtype"),
        ({"dtype": "u2"}, "needs both, shape and dtype"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    source = _npy(tmp_path / "v.npy", np.zeros(SHAPE, np.uint16))
    with pytest.raises(InputError, match=reason):
        open_volume(source, **options)


@pytest.mark.parametrize("indices", [[0.5], [1.0], ["1"], "1", 1, None, np.zeros(2), [[1]]])
def test_slices_are_read_by_whole_numbers(tmp_path: Path, indices: Any) -> None:
    with _make(tmp_path, "npy", np.zeros(SHAPE, np.uint8)) as stack:
        with pytest.raises(
            InputError, match=r"v\.npy: slices are read by a list of whole numbers"
        ) as refusal:
            stack.read(indices)
        assert "\n" not in str(refusal.value)
        assert stack.read(np.array([3, 1], np.uint8)).shape == (2, *SHAPE[1:])


@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"every": 2}])
@pytest.mark.parametrize("kind", ["Zarr 3", "HDF5", "npy", "raw", "TIFF", "TIFF folder"])
def test_nothing_is_read_of_a_closed_stack(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    with _make(tmp_path, kind, np.ones(SHAPE, np.uint8), **options) as stack:
        stack.read([0])
    with pytest.raises(InputError, match=r"v[^ ]*: is closed; open it again to read it$"):
        stack.read([0])
    stack.close()  # as often as one likes


@pytest.mark.parametrize("kind", ["Zarr 2", "Zarr 3", "HDF5", "npy", "raw"])
@pytest.mark.parametrize("dtype", ["bool", "i1", "u4", "f2", "f8", "c8"])
def test_other_types_are_refused(tmp_path: Path, kind: str, dtype: str) -> None:
    with pytest.raises(
        InputError, match=r"-bit .* values; convert the stack to uint8, uint16, int16 or fl"
    ) as no:
        _make(tmp_path, kind, np.zeros(SHAPE, dtype))
    assert str(no.value).startswith(f"{tmp_path}/v")
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (1, 2, 3, 4, 5), (1, 1, 1, 3, 4, 5), (0, 4, 5)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volume = np.zeros(shape, np.uint8)
    sources = {
        "npy": lambda: (_npy(tmp_path / "v.npy", volume), {}),
        "HDF5": lambda: (_hdf5(tmp_path / "v.h5", volume) + ":/entry/data", {}),
        "Zarr": lambda: (_zarr(tmp_path / "v.zarr", volume, chunks=tuple(max(s, 1) for s in shape)), {}),
        "raw": lambda: (_raw(tmp_path / "v.raw", volume), {"shape": shape, "dtype": "u1"}),
    }
    for make in sources.values():
        source, options = make()
        with pytest.raises(InputError, match=r"is an array of|is empty|isn't a whole .npy"):
            open_volume(source, **options)


def test_a_slice_above_4_gib_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "v.zarr", shape=(10, 70_000, 70_000), chunks=(1, 100, 100), dtype="u1")
    with pytest.raises(InputError, match="a slice of 70000×70000 pixels exceeds 4 GiB"):
        open_volume(tmp_path / "v.zarr")
    with open_volume(tmp_path / "v.zarr", axis=1, missing="fill") as stack:
        assert stack.read([69_999], Region(0, 69_000, 10, 1000)).max() == 0
