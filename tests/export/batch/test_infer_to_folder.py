"""Jobs with a model of NumPy: what is written of which slices, and what is refused."""

import csv
import errno

import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import FakeEngine, results_of, run_job

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region, VoxelSize
from eigenfeatures.export.batch import folder, to_folder
from eigenfeatures.export.batch.source import Reading, Source


@pytest.mark.parametrize("form", ["zarr", "tiff"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_results_are_those_of_the_model(form, every, tmp_path):
    volume = random_stack((23, 40, 36))
    tifffile.imwrite(tmp_path / "scan.tif", volume, photometric="minisblack")
    facts = run_job(
        tmp_path / "scan.tif", tmp_path / "out", format=form, batch=4, reading=Reading(every=every)
    )
    slices = volume[::every]
    expected = results_of(slices)
    with (tmp_path / "out" / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["slice"]) for row in rows] == list(range(0, 23, every))
    assert [row["predicted"] for row in rows] == [
        ("dark", "bright")[k] for k in expected["probabilities"].argmax(1)
    ]
    np.testing.assert_allclose([float(row["mean"]) for row in rows], slices.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        [float(row["sigma1"]) for row in rows], expected["singular_values"][:, 0], rtol=1e-6
    )
    if form == "zarr":
        maps = np.moveaxis(zarr.open_array(tmp_path / "out/eigenfeatures/scan.ome.zarr/0")[:], 1, 0)
    else:
        with tifffile.TiffFile(tmp_path / "out/eigenfeatures/scan.ome.tif") as tiff:
            assert tiff.is_bigtiff
            assert tiff.is_ome
            maps = tiff.asarray()[:, None]
    np.testing.assert_array_equal(maps, expected["eigenfeatures"])
    assert facts["slices"] == len(slices)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "eigenfeatures",
        "infer.json",
        "slices.csv",
    ]


def test_several_stacks_share_a_table(tmp_path):
    (tmp_path / "samples").mkdir()
    for name, grey in (("dark", 20), ("bright", 220)):
        images = np.full((9, 16, 16), grey, np.uint8)
        tifffile.imwrite(tmp_path / "samples" / f"{name}.tif", images, photometric="minisblack")
    facts = run_job(tmp_path / "samples", tmp_path / "out", batch=2)
    assert facts["accuracy"] == 1
    assert facts["predicted"] == {"bright": 9, "dark": 9}
    assert facts["flagged_slices"] == 18, "constant ones"
    rows = (tmp_path / "out" / "slices.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["bright"] * 9 + ["dark"] * 9


@pytest.mark.parametrize(("form", "longest"), [("tiff", 255 - 8 - 10), ("zarr", 255 - 9)])
def test_a_stack_whose_volume_can_t_be_named_is_refused_before_it_is_computed(
    form, longest, tmp_path, monkeypatch
):
    for length in (longest, longest + 1):
        stack = tmp_path / f"{'n' * length}.tif"
        tifffile.imwrite(stack, random_stack((9, 16, 16)), photometric="minisblack")
        if length == longest:
            assert run_job(stack, tmp_path / "out", format=form)["slices"] == 9
    monkeypatch.setattr(to_folder, "run_blocks", None)
    with pytest.raises(InputError, match=rf"n\.tif: its name is too long, as \.ome\.{form[:3]}.*rename"):
        run_job(stack, tmp_path / "other", format=form)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("without", [1, 9])
def test_slices_that_got_no_class_are_not_counted_as_right_or_wrong(without, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "dark.tif", random_stack((9, 16, 16)) // 3, photometric="minisblack")
    call = FakeEngine.__call__

    def overflowing(self, slices):
        results = call(self, slices)
        results["probabilities"][:without] = np.nan
        return results

    monkeypatch.setattr(FakeEngine, "__call__", overflowing)
    facts = run_job(tmp_path / "dark.tif", tmp_path / "out", batch=9)
    assert (facts["slices"], facts["flagged_slices"]) == (9, without)
    assert facts.get("predicted") == ({"dark": 8} if without == 1 else None)
    assert facts.get("accuracy") == (1 if without == 1 else None)


def test_the_volume_of_a_voxel_size_keeps_it(tmp_path):
    path = tmp_path / "s.tif"
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    tifffile.imwrite(path, random_stack(), imagej=True, resolution=(0.5, 0.25), metadata=metadata)
    run_job(path, tmp_path / "zarr", reading=Reading(every=2))
    group = zarr.open_group(tmp_path / "zarr" / "eigenfeatures" / "s.ome.zarr", mode="r")
    transformations = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # relu2 of the small network has one pixel for 2×2.
    assert transformations[0]["scale"] == pytest.approx([1, 6, 8, 4])
    assert transformations[1]["translation"] == pytest.approx([0, 0, 2, 1])
    run_job(path, tmp_path / "tiff", reading=Reading(every=2), format="tiff")
    with tifffile.TiffFile(tmp_path / "tiff" / "eigenfeatures" / "s.ome.tif") as tiff:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == pytest.approx([6, 8, 4])
    assert pixels["PhysicalSizeXUnit"] == "µm"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ({}, [0, 100, 201, 305.25]),
        ({"every": 4}, [0, 100, 201, 305.25]),
        ({"axis": 1}, [0, 200, 101.5, 305.25]),
        ({"voxel_size": VoxelSize(3.0, 2.0, 1.5)}, [0, 0, 1, 5.25]),
    ],
)
def test_maps_lie_where_the_scan_lies(reading, expected, tmp_path):
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    placed = [
        {"type": "scale", "scale": [3, 2, 1.5]},
        {"type": "translation", "translation": [100, 200, 300]},
    ]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": placed}]}
    group = zarr.create_group(tmp_path / "s.zarr", attributes={"ome": {"multiscales": [image]}})
    group.create_array("0", data=random_stack())
    run_job(tmp_path / "s.zarr", tmp_path / "out", reading=Reading(region=Region(0, 3, 8, 8), **reading))
    group = zarr.open_group(tmp_path / "out" / "eigenfeatures" / "s.ome.zarr", mode="r")
    transformations = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # relu2 of the small network begins half a pixel within.
    assert transformations[1]["translation"] == pytest.approx(expected)


def test_what_is_to_know_of_a_stack_is_said(tmp_path):
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [3, 2, 1]}]}
    attributes = {"ome": {"multiscales": [{"axes": axes, "datasets": [level]}]}}
    zarr.create_group(tmp_path / "s.zarr", attributes=attributes).create_array("0", data=random_stack())
    said = []
    run_job(tmp_path / "s.zarr", tmp_path / "out", say=said.append)
    assert sum("its scale has no known unit of length" in line for line in said) == 1


def test_slices_that_hold_nan_end_a_job_or_are_filled_and_flagged(tmp_path):
    stack = random_stack((12, 16, 16)).astype(np.float32)
    stack[5, 2, 3] = np.nan
    zeroed = np.nan_to_num(stack)
    np.save(tmp_path / "s.npy", stack)
    with pytest.raises(InputError, match=r"slice 5 .* holds NaN .* \(--missing fill\)"):
        run_job(tmp_path / "s.npy", tmp_path / "refused")
    facts = run_job(tmp_path / "s.npy", tmp_path / "filled", reading=Reading(missing="fill"))
    np.save(tmp_path / "s.npy", zeroed)
    run_job(tmp_path / "s.npy", tmp_path / "zeroed")
    rows = [list(csv.DictReader((tmp_path / out / "slices.csv").open())) for out in ("filled", "zeroed")]
    assert facts["filled_slices"] == 1
    assert rows[0].pop(5) == {**rows[1].pop(5), "flag": "filled"}
    assert rows[0] == rows[1]


def test_a_stack_that_changes_meanwhile_is_refused(tmp_path):
    """Also one of many files, at the end at the latest."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for number, image in enumerate(random_stack((12, 16, 16))):
        tifffile.imwrite(folder / f"s{number:02d}.tif", image)
    read = Source.read

    def read_and_change(self, first, count):
        if first == 8:
            tifffile.imwrite(folder / "s00.tif", random_stack((16, 16)))
        return read(self, first, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "read", read_and_change)
        patch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
        with pytest.raises(InputError, match="scan changed while it was read"):
            run_job(folder, tmp_path / "out", batch=4)
    assert not (tmp_path / "out" / "slices.csv").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_can_t_be_made_is_refused_before_anything_is_opened(resume, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(folder.Path, "touch", refuse)
    with pytest.raises(InputError, match=f"^{tmp_path} can't be written; choose another folder for --out$"):
        run_job(tmp_path / "no stack at all", tmp_path / "deep" / "out", resume=resume)
