from pathlib import Path

import numpy as np
import pytest
import tifffile

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.stacks import Region, VoxelSize


def _volume(
    seed: int, slices: int = 6, height: int = 24, width: int = 30, dtype: type = np.uint8
) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (slices, height, width)).astype(dtype)


def _write_stack(path: Path, images: np.ndarray, **options: object) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, images, photometric="minisblack", **options)
    return images


def _write_slices(folder: Path, images: np.ndarray) -> np.ndarray:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"s{number}.tif", image)
    return images


def _specimens(samples: object) -> list[tuple[str, str, str]]:
    return [(specimen.sample, specimen.name, specimen.source) for specimen in samples.specimens]


def test_a_file_in_place_of_the_folder_is_told_as_such(tmp_path: Path) -> None:
    _write_stack(tmp_path / "scan.tif", _volume(0))
    with pytest.raises(InputError, match=r"scan\.tif: is a file; give the folder"):
        open_samples(tmp_path / "scan.tif")


def test_every_kind_of_class_side_by_side(tmp_path: Path) -> None:
    a10 = _write_slices(tmp_path / "a10", _volume(0, slices=11))
    a2 = _write_stack(tmp_path / "a2.ome.tif", _volume(1))
    left = _write_stack(tmp_path / "b, odd näme!" / "plate10.tif", _volume(2, slices=3))
    right = _write_slices(tmp_path / "b, odd näme!" / "plate9", _volume(3, slices=4))
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / ".DS_Store").write_text("hidden")
    _write_stack(tmp_path / "__MACOSX" / "._a2.ome.tif", _volume(1))
    (tmp_path / "a10" / "scan.log").write_text("text")
    with open_samples(tmp_path) as samples:
        assert samples.classes == ("a2", "a10", "b, odd näme!")
        assert _specimens(samples) == [
            ("a2", "a2", "a2"),
            ("a10", "a10", "a10"),
            ("b, odd näme!", "plate9", "plate9"),
            ("b, odd näme!", "plate10", "plate10"),
        ]
        assert samples.notes == (f"{tmp_path.name}: ignored LICENSE", "a10: ignored scan.log")
        assert samples.size == (24, 30)
        assert samples.dtype == np.uint8
        np.testing.assert_array_equal(samples.label, [0] * 6 + [1] * 11 + [2] * 7)
        np.testing.assert_array_equal(samples.specimen_of, [0] * 6 + [1] * 11 + [2] * 4 + [3] * 3)
        np.testing.assert_array_equal(samples.slice_of, [*range(6), *range(11), *range(4), *range(3)])
        everything = np.concatenate([a2, a10, right, left])
        assert len(samples) == len(everything) == 24
        np.testing.assert_array_equal(samples.read(range(24)), everything)
        shuffled = np.random.default_rng(9).permutation(24)
        np.testing.assert_array_equal(samples.read(shuffled), everything[shuffled])
        np.testing.assert_array_equal(samples.read([5, 5, 23]), everything[[5, 5, 23]])
        assert samples.read([]).shape == (0, 24, 30)
        names = [str(file.relative_to(tmp_path)) for file in samples.files()]
        assert names == sorted(names)
        assert len(names) == 1 + 11 + 4 + 1
        for index in (-1, 24):
            with pytest.raises(IndexError, match="0 to 23"):
                samples.read([index])


def test_the_common_size_is_the_smallest_and_cropped_at_the_centre(tmp_path: Path) -> None:
    a = _write_stack(tmp_path / "a.tif", _volume(0, height=24, width=31))
    b = _write_stack(tmp_path / "b.tif", _volume(1, height=29, width=20))
    with open_samples(tmp_path) as samples:
        assert samples.size == (24, 20)
        np.testing.assert_array_equal(samples.read(range(6)), a[:, :, 5:25])
        np.testing.assert_array_equal(samples.read(range(6, 12)), b[:, 2:26])
        assert samples.notes == (
            "a: 24×31 slices are cropped at the centre to 24×20",
            "b: 29×20 slices are cropped at the centre to 24×20",
        )
    with open_samples(tmp_path, size=16) as samples:
        np.testing.assert_array_equal(samples.read([7]), b[[1], 6:22, 2:18])
    with pytest.raises(InputError, match=r"b\.tif: size 21 exceeds its slices of 29×20; choose at most 20"):
        open_samples(tmp_path, size=21)
    with pytest.raises(InputError, match="size 0"):
        open_samples(tmp_path, size=0)


def test_mixed_types_are_read_as_float32(tmp_path: Path) -> None:
    a = _write_stack(tmp_path / "a.tif", _volume(0))
    b = _write_stack(tmp_path / "b.tif", _volume(1, dtype=np.uint16) + np.uint16(60_000))
    with open_samples(tmp_path) as samples:
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples.read(range(12)), np.concatenate([a, b]).astype(np.float32))
        (note,) = samples.notes
        assert note.startswith(
            "samples differ in type (uint8: a; uint16: b) and are read as float32: grey values"
        )


def test_two_regions_of_each_plate(tmp_path: Path) -> None:
    a, b = _write_stack(tmp_path / "a.tif", _volume(0)), _write_stack(tmp_path / "b.tif", _volume(1))
    regions = (Region(2, 0, 12, 10), Region(2, 20, 12, 10))
    with open_samples(tmp_path, regions=regions) as samples:
        assert _specimens(samples) == [
            ("a", "a#1", "a"),
            ("a", "a#2", "a"),
            ("b", "b#1", "b"),
            ("b", "b#2", "b"),
        ]
        expected = [a[:, 2:14, :10], a[:, 2:14, 20:], b[:, 2:14, :10], b[:, 2:14, 20:]]
        np.testing.assert_array_equal(samples.read(range(24)), np.concatenate(expected))
        assert len(samples.files()) == 2
    with open_samples(tmp_path, regions=regions, size=8) as samples:
        np.testing.assert_array_equal(samples.read([13]), b[[1], 4:12, 1:9])


def test_regions_by_class(tmp_path: Path) -> None:
    a, b = _write_stack(tmp_path / "a.tif", _volume(0)), _write_stack(tmp_path / "b.tif", _volume(1))
    with open_samples(tmp_path, regions={"b": [Region(0, 3, 14, 20)]}) as samples:
        assert _specimens(samples) == [("a", "a", "a"), ("b", "b", "b")]
        np.testing.assert_array_equal(samples.read([0]), a[[0], 5:19, 5:25])
        np.testing.assert_array_equal(samples.read([6]), b[[0], 0:14, 3:23])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"regions": {"c": [Region(0, 0, 5, 5)]}}, "'c', which is no class; there are a, b"),
        ({"regions": [Region(0, 0, 5, 5), Region(0, 0, 5, 6)]}, "regions 0,0,5,5 and 0,0,5,6 differ"),
        ({"regions": [Region(20, 0, 5, 5)]}, r"a\.tif: region 20,0,5,5 leaves its 24×30 slices"),
        ({"regions": [Region(0, 0, 12, 9)], "size": 10}, r"a\.tif: size 10 exceeds its regions of 12×9"),
    ],
)
def test_regions_that_do_not_fit(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    for name in "ab":
        _write_stack(tmp_path / f"{name}.tif", _volume(0))
    with pytest.raises(InputError, match=reason):
        open_samples(tmp_path, **options)


def test_what_is_to_know_of_a_stack_is_noted(tmp_path: Path) -> None:
    for name, numbers in (("a", (1, 2, 4)), ("b", (1, 2, 3))):
        (tmp_path / name).mkdir()
        for number in numbers:
            tifffile.imwrite(tmp_path / name / f"s{number}.tif", np.zeros((9, 9), np.uint8))
    with open_samples(tmp_path) as samples:
        assert samples.notes == (f"{tmp_path / 'a'}: its numbered slices lack 1 (3); the others are read on",)


def test_voxel_size_is_that_of_all_stacks_or_none(tmp_path: Path) -> None:
    def write(name: str, pixels_a_micrometre: float | None) -> None:
        resolution = {} if pixels_a_micrometre is None else {"resolution": (pixels_a_micrometre,) * 2}
        metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
        tifffile.imwrite(tmp_path / name, _volume(0), imagej=True, metadata=metadata, **resolution)

    write("a.tif", 0.5)
    write("b.tif", 0.5)
    with open_samples(tmp_path) as samples:
        assert samples.voxel_size == VoxelSize(2, 2, 2)
        assert samples.notes == ()
    for other, size, learned in (
        (0.25, "2×4×4 µm", "; the network may learn the magnification"),
        (None, "none", ""),
    ):
        write("b.tif", other)
        with open_samples(tmp_path) as samples:
            assert samples.voxel_size is None
            assert samples.notes == (
                f"the stacks state no common voxel size (2×2×2 µm: a; {size}: b): lengths are in pixels, "
                f"unless a voxel size is given{learned}",
            )


def test_missing_folder_and_too_few_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        open_samples(tmp_path / "nowhere")
    (tmp_path / "README.txt").write_text("no class")
    with pytest.raises(InputError, match="has no class, at least two are needed"):
        open_samples(tmp_path)
    _write_stack(tmp_path / "a.tif", _volume(0))
    with pytest.raises(InputError, match="has one class, at least two are needed"):
        open_samples(tmp_path)


def _empty_class(root: Path) -> None:
    (root / "b").mkdir()
    (root / "b" / "notes.txt").write_text("no TIFF")


def _same_name(root: Path) -> None:
    _write_slices(root / "b", _volume(1))
    _write_stack(root / "b.tif", _volume(1))


def _same_specimen_name(root: Path) -> None:
    _write_slices(root / "b" / "p", _volume(1))
    _write_stack(root / "b" / "p.tiff", _volume(1))


def _slices_and_stacks(root: Path) -> None:
    _write_slices(root / "b", _volume(1))
    _write_stack(root / "b" / "t.tif", _volume(1))


def _stacks_and_slices(root: Path) -> None:
    _write_stack(root / "b" / "p.tif", _volume(1))
    _write_stack(root / "b" / "s0.tif", _volume(1)[:1])


def _slices_and_folders(root: Path) -> None:
    _write_slices(root / "b", _volume(1))
    _write_slices(root / "b" / "deeper", _volume(1))


def _one_slice(root: Path) -> None:
    _write_stack(root / "b.tif", _volume(1)[:1])


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (_empty_class, "b: holds no TIFF"),
        (_same_name, "several entries are named 'b'"),
        (_same_specimen_name, "b: several specimens are named 'p'"),
        (_slices_and_stacks, r"t\.tif: holds 6 slices beside files of one"),
        (_stacks_and_slices, r"s0\.tif: holds one slice where a stack is needed"),
        (_slices_and_folders, "b: holds single slices beside the folder deeper"),
        (_one_slice, r"b\.tif: holds one slice where a stack is needed"),
    ],
)
def test_an_ambiguous_class_is_refused(tmp_path: Path, add: object, reason: str) -> None:
    _write_stack(tmp_path / "a.tif", _volume(0))
    add(tmp_path)
    with pytest.raises(InputError, match=reason):
        open_samples(tmp_path)


def test_real_samples(ct_data: Path) -> None:
    with open_samples(ct_data) as samples:
        assert samples.classes == ("cement", "fibres", "nerve", "polymer")
        assert samples.size == (128, 128)
        assert len(samples) == 128 + 150 + 128 + 128
        assert len(samples.files()) == 3 + 128
        assert samples.notes == (
            "ct: ignored LICENSE.qim3d, LICENSE.quanfima",
            "fibres: 150×150 slices are cropped at the centre to 128×128",
        )
        expected = [
            tifffile.imread(ct_data / "polymer" / "slice_0007.tif"),
            tifffile.imread(ct_data / "fibres.tif")[149, 11:139, 11:139],
            tifffile.imread(ct_data / "cement.tif")[5],
        ]
        np.testing.assert_array_equal(samples.read([128 + 150 + 128 + 7, 128 + 149, 5]), np.stack(expected))
