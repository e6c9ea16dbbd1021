"""A pass over all slices measures each by itself: chunks, neighbours and companions leave no trace."""

from dataclasses import replace

import numpy as np
import pytest
import study_oracles as oracle

from eigenfeatures.eigen.study import chunks
from eigenfeatures.eigen.study.grids import Grid, slice_grid
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measurement import Measured, all_pairs, measure

VIEW = View(rank=2)
PAIRS = all_pairs(3)
RELU2 = Grid(2, 0.5, (48, 52))  # of the preset 'small'


@pytest.fixture(scope="module")
def take(uneven, networks, cpu):
    def take(view=VIEW, of=networks, pairs=PAIRS, **options):
        return measure(of, pairs, uneven, view, "prewitt", device=cpu, **options)

    return take


@pytest.fixture(scope="module")
def measured(take):
    return take()


def rows(measured):
    return {**measured.of_pairs, **{f"run {name}": values for name, values in measured.of_runs.items()}}


def assert_equal_measures(first, second, names=None):
    """Equal but for rounding, which may let a pixel into a top tenth: that moves some IoU a little."""
    for name in names or rows(first):
        a, b = rows(first)[name], rows(second)[name]
        loose = {"iou": 0.2, "angle1": 0.1, "angle2": 0.1}.get(name.rpartition("/")[2], 1e-3)
        np.testing.assert_allclose(a, b, rtol=0.02, atol=loose, err_msg=name)
        np.testing.assert_allclose(np.nansum(a), np.nansum(b), rtol=5e-3, atol=1e-2, err_msg=name)


def only(measured, slices):
    """Of a pass over all slices, some."""
    return replace(
        measured,
        slices=slices,
        of_pairs={name: values[:, slices] for name, values in measured.of_pairs.items()},
        of_runs={name: values[:, slices] for name, values in measured.of_runs.items()},
    )


def test_all_slices_in_order_and_all_names(measured, networks):
    assert measured.runs == ("small 0", "small 1", "alexnet 0") == tuple(entry.name for entry in networks)
    assert measured.slices.tolist() == list(range(22))
    assert measured.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert {values.shape for values in rows(measured).values()} == {(3, 22)}
    assert {values.dtype for values in rows(measured).values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("slices", [1, 3, 9, 64])
def test_measures_do_not_depend_on_how_slices_are_cut_into_chunks(take, measured, monkeypatch, slices):
    monkeypatch.setattr(chunks, "_SLICES", slices)
    assert_equal_measures(take(), measured)


def test_measures_do_not_depend_on_the_other_runs_and_pairs(take, measured, networks):
    few = take(of=[networks[2], networks[0]], pairs=np.array([[1, 0]]))
    for name, values in few.of_pairs.items():
        np.testing.assert_allclose(values[0], measured.of_pairs[name][1], atol=1e-6, err_msg=name)
    for name, values in few.of_runs.items():
        np.testing.assert_array_equal(values[1], measured.of_runs[name][0], err_msg=name)


def test_the_same_pass_twice_gives_the_same_bits(take, measured):
    for name, values in rows(take()).items():
        np.testing.assert_array_equal(values, rows(measured)[name], err_msg=name)


def test_each_so_manyth_slice_has_the_numbers_that_it_has_among_all(take, measured):
    sparse = take(every=4)
    assert sparse.slices.tolist() == [0, 4, 8, 10, 14, 18, 19]
    missing = set(rows(measured)) - set(rows(sparse))
    assert missing == {name for name in rows(measured) if "repeatability" in name or "contrast" in name}
    assert_equal_measures(sparse, only(measured, sparse.slices))


def test_dense_maps_are_compared_pixel_by_pixel(take, networks, uneven):
    """Runs of one preset have one dense grid; nothing is averaged."""
    dense = take(View(resolution="dense"), of=networks[:2], pairs=all_pairs(2), every=9)
    for position, k in enumerate(dense.slices):
        image = uneven.read([k])[0]
        u1, alpha, gradient = [], [], oracle.gradient_images(image)
        for entry in networks[:2]:
            responses = oracle.response_maps(entry, image, resolution="dense")
            u1.append(oracle.singular(responses)[0][0])
            alpha.append(oracle.strongest(responses))
        for name, maps in (("u1", u1), ("alpha", alpha)):
            found = {key: dense.of_pairs[f"{name}/{key}"][0, position] for key in ("pearson", "ssim")}
            expected = oracle.alike(*maps)
            assert found == pytest.approx({key: expected[key] for key in found}, abs=2e-4)
        # The grid of dense maps lies half a pixel beside the slice's.
        shifted = oracle.on_grid(gradient[2], slice_grid((96, 104)), Grid(1, 0.5, (96, 104)))
        value = np.corrcoef(u1[0].ravel(), shifted.ravel())[0, 1]
        assert dense.of_runs["u1/image2"][0, position] == pytest.approx(value, abs=2e-4)


def test_dense_maps_of_two_presets_meet_on_one_grid(take, networks):
    dense = take(View(resolution="dense"), of=networks[1:], pairs=all_pairs(2), every=99)
    pooled = take(View(), of=networks[1:], pairs=all_pairs(2), every=99)
    for name in ("u1/pearson", "alpha/pearson", "u1/ssim", "u1/beyond_image"):
        assert np.isfinite(dense.of_pairs[name]).all()
        assert not np.allclose(dense.of_pairs[name], pooled.of_pairs[name], atol=1e-3)


def test_centring_is_of_the_maps_and_leaves_alpha_alone(take, measured, networks, uneven):
    centred = take(replace(VIEW, center=True), every=9)
    for position, k in enumerate(centred.slices):
        image = uneven.read([k])[0]
        gradient = oracle.on_grid(oracle.gradient_images(image)[0], slice_grid((96, 104)), RELU2)
        maps = []
        for run, entry in enumerate(networks[:2]):
            vectors, values = oracle.singular(oracle.response_maps(entry, image), center=True)
            # The sign is that of the likeness to the gradient image.
            maps.append(vectors[0] * np.sign(np.corrcoef(vectors[0].ravel(), gradient.ravel())[0, 1]))
            energy = values[0] ** 2 / (values**2).sum()
            assert centred.of_runs["energy"][run, position] == pytest.approx(energy, rel=1e-3)
        expected = np.vdot(*maps)  # unit length and zero mean: Pearson's
        assert centred.of_pairs["u1/pearson"][0, position] == pytest.approx(expected, abs=2e-3)
    alike = [name for name in rows(centred) if name.startswith(("alpha/", "run alpha/", "run activation"))]
    of_all = only(measured, centred.slices)
    assert_equal_measures(centred, of_all, alike)
    assert not np.allclose(centred.of_runs["energy"], of_all.of_runs["energy"], atol=0.01)


def test_arrays_go_and_come_back(measured):
    found = Measured.from_arrays(measured.arrays())
    assert found.runs == measured.runs
    np.testing.assert_array_equal(found.pairs, measured.pairs)
    np.testing.assert_array_equal(found.slices, measured.slices)
    for part in ("of_pairs", "of_runs"):
        before, after = getattr(measured, part), getattr(found, part)
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])


def test_one_run_has_no_pairs(take, networks):
    alone = Measured.from_arrays(take(of=networks[:1], pairs=all_pairs(1), every=9).arrays())
    assert alone.of_pairs == {}
    assert alone.pairs.shape == (0, 2)
    assert alone.of_runs["agreement/pearson"].shape == (1, 4)


def test_progress_is_shown_by_chunks(take, networks):
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        return items

    take(of=networks[:1], pairs=all_pairs(1), every=2, description="looking", track=track)
    assert seen == [("looking", 3)]


def test_all_pairs():
    assert all_pairs(4).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert all_pairs(0).shape == (0, 2)
