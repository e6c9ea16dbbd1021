import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.phantom import EPOXY_LIKE, TEN_PERCENT_APART, Material, density_field, make_phantom
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.kernels.statistics import slice_statistics


def _autocorrelation(field: np.ndarray, axis: int, lags: range) -> np.ndarray:
    field = np.moveaxis(field, axis, 0).astype(np.float64)
    pairs = [np.mean(field[: len(field) - lag] * field[lag:]) for lag in lags]
    return np.array(pairs) / np.mean(field**2)


@pytest.mark.parametrize("length", [2.0, 3.5])
def test_the_field_has_the_stated_autocorrelation_along_every_axis(length: float) -> None:
    field = density_field((64, 72, 80), length, np.random.default_rng(2))
    assert field.dtype == np.float32
    assert abs(field.mean(dtype=np.float64)) < 1e-5
    assert field.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    lags = range(12)
    r = np.array(lags)
    expected = (1 - r**2 / (3 * length**2)) * np.exp(-(r**2) / (2 * length**2))
    for axis in range(3):
        np.testing.assert_allclose(_autocorrelation(field, axis, lags), expected, atol=0.05)


def test_opposite_faces_are_not_correlated() -> None:
    field = density_field((40, 96, 96), 3.0, np.random.default_rng(4))
    neighbours = np.corrcoef(field[0].ravel(), field[1].ravel())[0, 1]
    faces = np.corrcoef(field[0].ravel(), field[-1].ravel())[0, 1]
    assert neighbours > 0.8
    assert abs(faces) < 0.15


@pytest.fixture(scope="module")
def epoxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "epoxy", slices=24, size=64)


def test_samples_in_the_papers_form(epoxy: Path) -> None:
    with open_samples(epoxy) as samples:
        assert samples.classes == ("sample1", "sample2", "sample3", "sample4")
        assert samples.size == (64, 64)
        assert samples.dtype == np.uint8
        assert samples.voxel_size == VoxelSize(2, 2, 2)
        assert len(samples.files()) == len(samples) == 4 * 24
        # Neighbouring slices are alike, distant ones aren't: the natural order is the order of depth.
        images = samples.read(range(24)).astype(np.float64)
    likeness = np.corrcoef(images.reshape(24, -1))
    assert np.diagonal(likeness, 1).min() > 0.6
    assert abs(likeness[0, 23]) < 0.15


def test_sample_3_has_the_largest_gradient_in_every_slice(epoxy: Path) -> None:
    with open_samples(epoxy) as samples:
        statistics = slice_statistics(samples.read(range(len(samples))), "sobel")
        gradient = statistics.mean_gradient.reshape(4, 24)
        mean = statistics.mean.reshape(4, 24).mean(axis=1)
    assert gradient[2].min() > 1.2 * np.delete(gradient, 2, axis=0).max()
    np.testing.assert_allclose(mean, [material.mean for material in EPOXY_LIKE], atol=0.5)


def test_grey_values_are_neither_clipped_nor_noiseless(epoxy: Path) -> None:
    with open_samples(epoxy) as samples:
        images = samples.read(range(len(samples)))
        deviation = slice_statistics(images).deviation.reshape(4, 24).mean(axis=1)
    assert np.isin(images, (0, 255)).mean() < 1e-3
    contrast = np.array([material.contrast for material in EPOXY_LIKE])
    noise = np.sqrt(np.maximum(deviation**2 - contrast**2, 0))
    # Poisson noise of variance mean/photons and detector noise of 4, both weighted by the blur's (3/8)².
    expected = 0.375 * np.sqrt(np.array([material.mean for material in EPOXY_LIKE]) / 2 + 4**2)
    np.testing.assert_allclose(noise, expected, rtol=0.25)


def test_the_hard_case_differs_in_correlation_length_alone(tmp_path: Path) -> None:
    lengths = [material.correlation_length for material in TEN_PERCENT_APART]
    np.testing.assert_allclose(np.divide(lengths[1:], lengths[:-1]), 1.1)
    with open_samples(make_phantom(tmp_path / "hard", TEN_PERCENT_APART, slices=32, size=128)) as samples:
        images = samples.read(range(len(samples)))
    statistics = slice_statistics(images)
    for values, spread in ((statistics.mean, 0.2), (statistics.deviation, 0.15)):
        by_sample = values.reshape(4, 32)
        assert np.ptp(by_sample.mean(axis=1)) < spread
        assert np.ptp(by_sample.mean(axis=1)) < by_sample.std(axis=1).mean()
    # The noise adds nothing at a lag of 3: its blur reaches 2. There C(r) depends on the length alone.
    centred = images.reshape(4, 32, 128, 128) - images.mean(dtype=np.float64)
    measured = [
        _autocorrelation(sample, 2, range(3, 4))[0] * np.mean(sample**2) / 16**2 for sample in centred
    ]
    r, ell = 3, np.array(lengths)
    np.testing.assert_allclose(
        measured, (1 - r**2 / (3 * ell**2)) * np.exp(-(r**2) / (2 * ell**2)), atol=0.03
    )


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        make_phantom(tmp_path / name, slices=3, size=16, seed=seed)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    files = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
    assert len(files) == 4 * 3 + 1
    for file in files:
        assert (first / file).read_bytes() == (again / file).read_bytes()
        assert (first / file).read_bytes() != (other / file).read_bytes()


def test_both_layouts_hold_the_same_voxels(tmp_path: Path) -> None:
    materials = [Material(2.0, 10.0, 100.0), Material(3.0, 12.0, 120.0)]
    folders = make_phantom(tmp_path / "folders", materials, slices=11, size=20)
    stacks = make_phantom(tmp_path / "stacks", materials, slices=11, size=20, layout="stacks")
    assert sorted(path.name for path in stacks.iterdir()) == ["README.txt", "sample1.tif", "sample2.tif"]
    with open_samples(folders) as a, open_samples(stacks) as b:
        assert b.voxel_size == VoxelSize(2, 2, 2)
        np.testing.assert_array_equal(a.read(range(22)), b.read(range(22)))
    with tifffile.TiffFile(stacks / "sample2.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"


def test_the_readme_says_that_nothing_was_measured(epoxy: Path) -> None:
    text = (epoxy / "README.txt").read_text(encoding="utf-8")
    assert text.startswith("Synthetic data, not measured")
    parameters = json.loads(text[text.index("{") :])
    assert parameters["seed"] == 0
    assert [Material(**material) for material in parameters["materials"]] == list(EPOXY_LIKE)


def test_progress_is_told(tmp_path: Path) -> None:
    told = []

    def track(items, description, total):
        told.append((description, total))
        return items

    make_phantom(tmp_path / "p", slices=2, size=8, track=track)
    assert told == [("making the phantom", 4)]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("used", "file"):
        with pytest.raises(InputError, match=f"{name}: exists and isn't empty"):
            make_phantom(tmp_path / name, slices=2, size=8)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine.txt", "used"]
    with pytest.raises(InputError, match="at least"):
        make_phantom(tmp_path / "new", slices=2, size=7)
    (tmp_path / "empty").mkdir()
    assert (make_phantom(tmp_path / "empty", slices=2, size=8) / "sample1" / "slice_1.tif").is_file()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layout": "foo"}, "layout 'foo': must be 'folders' or 'stacks'"),
        ({"slices": 1.5}, "slices 1.5: must be a whole number"),
        ({"size": "8"}, "size '8': must be a whole number"),
        ({"seed": None}, "seed None: must be a whole number"),
        ({"seed": -1}, "seed -1: must be at least 0"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        make_phantom(tmp_path / "p", **{"slices": 2, "size": 8} | options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_phantom_that_failed(tmp_path: Path) -> None:
    def interrupted(items, *_):
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "p", slices=2, size=8, track=interrupted)
    assert list(tmp_path.iterdir()) == []
