"""What is measured of runs and pairs of runs equals a recomputation slice by slice."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import study_oracles as oracle

from eigenfeatures.eigen.study.chunks import KINDS, SCALES, chunks
from eigenfeatures.eigen.study.grids import grid_of, slice_grid
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measurement import all_pairs
from eigenfeatures.eigen.study.measures import pair_measures, run_measures
from eigenfeatures.eigen.study.similarity import MEASURES
from eigenfeatures.eigen.study.subspaces import SUBSPACE_RANKS

VIEW = View(rank=4)
SIZE = (96, 104)
PAIRS = all_pairs(3)  # small with small on a fine grid, small with alexnet on a coarse one
# Pixels of the fine and of the coarse grid that see no padding, by hand: a pixel i of 'small' is made of the
# slice's 2i - 5 to 2i + 6, one of 'alexnet' of 8i - 18 to 8i + 32 (and 'small', averaged, of less).
INSIDE = {2: np.s_[3:45, 3:49], 8: np.s_[3:8, 3:9]}
# Slices 7 and 17 have their neighbour in the next chunk, 9 and 18 end a stack, 18 is alone in its chunk.
LOOKED_AT = (0, 7, 8, 9, 17, 18, 21)
# The middle slices of both samples: slices of one are compared with that of the other.
MIDDLE, FIRST_OF_SECOND = (5, 16), 10


@pytest.fixture(scope="module")
def found(uneven, networks, cpu):
    """Every measure by its name, ``(rows, all slices)``."""
    of_pairs, of_runs = [], []
    for chunk in chunks(networks, uneven, VIEW, "prewitt", cpu):
        of_pairs.append(pair_measures(chunk, PAIRS))
        of_runs.append(run_measures(chunk))
    return tuple(
        {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
        for parts in (of_pairs, of_runs)
    )


@pytest.fixture(scope="module")
def expected(uneven, networks):
    """Maps of single slices by NumPy: ``[run][slice]`` to u₁, α, all vectors and singular values."""
    wanted = sorted({*MIDDLE, *LOOKED_AT, *(k + 1 for k in LOOKED_AT if k < 21)})
    images = dict(zip(wanted, uneven.read(wanted), strict=True))
    runs = []
    for entry in networks:
        of_slices = {}
        for k, image in images.items():
            responses = oracle.response_maps(entry, image)
            vectors, values = oracle.singular(responses)
            of_slices[k] = {
                "u1": vectors[0], "alpha": oracle.strongest(responses), "vectors": vectors, "s": values
            }  # fmt: skip
        runs.append(of_slices)
    return runs, {k: oracle.gradient_images(image) for k, image in images.items()}


def grids(networks):
    return [grid_of(entry.network, "relu2", SIZE) for entry in networks]


def close(measure, found, expected, pixels):
    # Two pixels that are equal but for rounding may change places at the edge of the top tenth.
    allowed = 3 / np.ceil(pixels / 10) if measure == "iou" else 2e-4
    assert found == pytest.approx(expected, abs=allowed), measure


def other_sample(runs, own, grid, kind, a, b, k):
    """Run a's map of slice k with run b's of the other sample."""
    middle = MIDDLE[0] if k >= FIRST_OF_SECOND else MIDDLE[1]
    here, there = (
        oracle.on_grid(runs[run][at][kind], own[run], grid).ravel() for run, at in ((a, k), (b, middle))
    )
    return np.corrcoef(here, there)[0, 1]


@pytest.mark.parametrize("row", range(3))
def test_pairs_are_compared_on_the_coarser_grid(found, expected, networks, row):
    of_pairs, (runs, gradients) = found[0], expected
    a, b = PAIRS[row]
    own = grids(networks)
    grid = max(own[a], own[b], key=lambda one: one.stride)
    for k in LOOKED_AT:
        images = [oracle.on_grid(image, slice_grid(SIZE), grid) for image in gradients[k]]
        for kind in KINDS:
            maps = [oracle.on_grid(runs[run][k][kind], own[run], grid) for run in (a, b)]
            for measure, value in oracle.alike(*maps).items():
                close(measure, of_pairs[f"{kind}/{measure}"][row, k], value, maps[0].size)
            part = INSIDE[grid.stride]
            inner = [image[part] for image in maps]
            inside = np.corrcoef(*(image.ravel() for image in inner))[0, 1]
            assert of_pairs[f"{kind}/inside"][row, k] == pytest.approx(inside, abs=2e-4)
            beyond = oracle.beyond(*inner, [image[part] for image in images])
            assert of_pairs[f"{kind}/beyond_image"][row, k] == pytest.approx(beyond, abs=1e-3)
            other = other_sample(runs, own, grid, kind, a, b, k)
            assert of_pairs[f"{kind}/other_sample"][row, k] == pytest.approx(other, abs=2e-4)
        for rank in (1, 2, 4):
            spans = [
                np.stack([oracle.on_grid(image, own[run], grid) for image in runs[run][k]["vectors"][:rank]])
                for run in (a, b)
            ]
            angles = oracle.angles(*spans)
            assert of_pairs[f"angle{rank}"][row, k] == pytest.approx(angles[-1], abs=0.2)
            overlap = np.mean(np.cos(np.radians(angles)) ** 2)
            assert of_pairs[f"overlap{rank}"][row, k] == pytest.approx(overlap, abs=2e-3)


def test_pairs_have_all_measures_and_ranks_beyond_the_view_are_missing(found):
    of_pairs, _ = found
    measures = (*MEASURES, "beyond_image", "inside", "other_sample")
    kinds = {f"{kind}/{measure}" for kind in KINDS for measure in measures}
    ranks = {f"{what}{rank}" for what in ("angle", "overlap") for rank in SUBSPACE_RANKS}
    assert set(of_pairs) == kinds | ranks
    for name, values in of_pairs.items():
        assert values.shape == (3, 22)
        assert np.isnan(values).all() if name.endswith("8") else np.isfinite(values).all(), name


def test_runs_are_measured_on_their_own_grid(found, expected, networks):
    of_runs, (runs, gradients) = found[1], expected
    own = grids(networks)
    for run, grid in enumerate(own):
        for k in LOOKED_AT:
            maps = runs[run][k]
            for measure, value in oracle.alike(maps["u1"], maps["alpha"]).items():
                close(measure, of_runs[f"agreement/{measure}"][run, k], value, maps["u1"].size)
            images = [oracle.on_grid(image, slice_grid(SIZE), grid) for image in gradients[k]]
            for scale, image in zip(SCALES, images, strict=True):
                for kind in KINDS:
                    value = np.corrcoef(maps[kind].ravel(), image.ravel())[0, 1]
                    assert of_runs[f"{kind}/image{scale}"][run, k] == pytest.approx(value, abs=2e-4)
            for kind in KINDS:
                value = oracle.explained(maps[kind], images)
                assert of_runs[f"{kind}/image"][run, k] == pytest.approx(value, abs=2e-4)
                other = other_sample(runs, own, grid, kind, run, run, k)
                assert of_runs[f"{kind}/other_sample"][run, k] == pytest.approx(other, abs=2e-4)
            positive = maps["alpha"][maps["alpha"] > 0]
            assert of_runs["activation"][run, k] == pytest.approx(positive.mean(), rel=1e-4)
            assert of_runs["gap"][run, k] == pytest.approx(maps["s"][1] / maps["s"][0], rel=1e-4)
            energy = maps["s"][0] ** 2 / (maps["s"] ** 2).sum()
            assert of_runs["energy"][run, k] == pytest.approx(energy, rel=1e-4)


def test_clarity_is_that_of_a_slice_and_the_next_of_its_stack(found, expected, networks):
    of_runs, (runs, gradients) = found[1], expected
    shown = (*KINDS, *(f"image{scale}" for scale in SCALES))
    for run, grid in enumerate(grids(networks)):
        for k in (0, 7, 8, 17):
            for number, name in enumerate(shown):
                if name in KINDS:
                    first, second = (runs[run][at][name] for at in (k, k + 1))
                else:
                    image = number - len(KINDS)
                    first, second = (
                        oracle.on_grid(gradients[at][image], slice_grid(SIZE), grid) for at in (k, k + 1)
                    )
                repeats = np.corrcoef(first.ravel(), second.ravel())[0, 1]
                assert of_runs[f"{name}/repeatability"][run, k] == pytest.approx(repeats, abs=2e-4)
                # A pixel that rounding lets into the zone of 14 moves the contrast by a percent or so.
                ratio = oracle.contrast_to_noise(first, second)
                assert of_runs[f"{name}/contrast_to_noise"][run, k] == pytest.approx(ratio, rel=0.02)
    for name in shown:
        for measure in ("repeatability", "contrast_to_noise"):
            missing = np.isnan(of_runs[f"{name}/{measure}"])
            assert [np.flatnonzero(row).tolist() for row in missing] == [[9, 18, 21]] * 3


def test_sparse_slices_are_no_neighbours(uneven, networks, cpu, found):
    """Slices that stand apart say nothing of what repeats from one slice to the next."""
    chunk = next(chunks(networks[:1], uneven, VIEW, "prewitt", cpu, every=2))
    sparse = run_measures(chunk)
    assert not [name for name in sparse if "repeatability" in name or "contrast_to_noise" in name]
    for name, values in sparse.items():
        of_all = found[1][name][:1, chunk.indices]
        np.testing.assert_allclose(values, of_all, rtol=2e-3, atol=2e-3, err_msg=name)


def test_a_run_is_like_itself(uneven, networks, cpu):
    chunk = next(chunks([networks[0], networks[0]], uneven, VIEW, "prewitt", cpu, every=9))
    of_pairs = pair_measures(chunk, all_pairs(2))
    for name, values in of_pairs.items():
        if name.endswith(("8", "other_sample")):
            continue
        expected = 0 if name.startswith("angle") else 1
        np.testing.assert_allclose(values, expected, atol=1e-4, err_msg=name)


def test_one_vector_has_no_gap_and_no_pairs_no_measures(uneven, networks, cpu):
    chunk = next(chunks(networks[:1], uneven, View(), "sobel", cpu, every=9))
    assert np.isnan(run_measures(chunk)["gap"]).all()
    assert pair_measures(chunk, all_pairs(1)) == {}
    assert all_pairs(1).shape == (0, 2)


def test_without_a_response_there_is_nothing_to_measure(uneven, networks, cpu):
    """A network that answers nothing gives NaN, and leaves those beside it alone."""
    network = deepcopy(networks[0].network)
    network.get_submodule("norm2").bias.data.fill_(-100)
    dead = replace(networks[0], name="dead", network=network)
    chunk = next(chunks([networks[0], dead], uneven, VIEW, "prewitt", cpu, every=9))
    of_pairs, of_runs = pair_measures(chunk, all_pairs(2)), run_measures(chunk)
    assert all(np.isnan(values).all() for values in of_pairs.values())
    assert np.isfinite(of_runs["agreement/pearson"][0]).all()
    for name in ("agreement/pearson", "u1/image0", "energy", "gap"):
        assert np.isnan(of_runs[name][1]).all()
    assert (of_runs["activation"][1] == 0).all()
