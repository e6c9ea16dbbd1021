"""Chunks hold every slice once, each stack apart, with the next slice as a neighbour."""

from dataclasses import replace

import numpy as np
import pytest
import study_oracles as oracle
import torch

from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.study import chunks as module
from eigenfeatures.eigen.study.chunks import KINDS, SCALES, chunk_count, chunks, look_at, middle_slices
from eigenfeatures.eigen.study.grids import Grid, dense_grid, grid_of
from eigenfeatures.eigen.study.maps import View, slice_maps
from eigenfeatures.eigen.study.similarity import prepare, residual

VIEW = View(rank=2)


@pytest.fixture(scope="module")
def parts(uneven, networks, cpu):
    return list(chunks(networks, uneven, VIEW, "prewitt", cpu))


def test_every_slice_is_spoken_of_once_and_neighbours_are_of_the_same_stack(uneven, parts):
    spoken = [chunk.indices.tolist() for chunk in parts]
    assert spoken == [[*range(8)], [8, 9], [*range(10, 18)], [18], [19, 20, 21]]
    # One more where the stack goes on: slices 8 and 18. Slices 10 and 19 begin another stack.
    assert [len(chunk.slices) - len(chunk.indices) for chunk in parts] == [1, 0, 1, 0, 0]
    for chunk in parts:
        read = chunk.indices[0] + np.arange(len(chunk.slices))
        np.testing.assert_array_equal(chunk.slices, uneven.read(read))
        assert {len(maps.u) for maps in chunk.maps} == {len(read)} == {len(chunk.gradients)}
    assert chunk_count(uneven) == len(parts)


@pytest.mark.parametrize(
    ("every", "spoken"),
    [
        (2, [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18], [19, 21]]),
        (4, [[0, 4, 8], [10, 14, 18], [19]]),
        (99, [[0], [10], [19]]),
    ],
)
def test_each_so_manyth_slice_of_a_stack(uneven, cpu, every, spoken):
    found = list(chunks([], uneven, VIEW, "sobel", cpu, every))
    assert [chunk.indices.tolist() for chunk in found] == spoken
    assert all(len(chunk.slices) == len(chunk.indices) for chunk in found)
    assert chunk_count(uneven, every) == len(found)


def test_maps_do_not_depend_on_who_is_beside(networks, cpu, parts):
    """The decomposition starts from the slice before: within its tolerance that changes nothing."""
    for number, entry in enumerate(networks):
        for chunk in parts[1:4]:
            alone = [
                slice_maps(entry.network, entry.preprocessing, image[None], VIEW, cpu)
                for image in chunk.slices
            ]
            u = np.concatenate([maps.u for maps in alone])[:, 0]
            np.testing.assert_allclose(chunk.maps[number].u[:, 0], u, atol=1e-4 * u.max())
            alpha = np.concatenate([maps.alpha for maps in alone])
            np.testing.assert_allclose(chunk.maps[number].alpha, alpha, atol=1e-4 * alpha.max())


def test_gradient_images_are_smoothed_within_the_slice(parts):
    chunk = parts[1]
    assert chunk.gradients.shape == (2, len(SCALES), 96, 104)
    assert chunk.gradients.dtype == np.float32
    for image, found in zip(chunk.slices, chunk.gradients, strict=True):
        np.testing.assert_allclose(found, oracle.gradient_images(image), rtol=1e-4, atol=1e-3)


def test_maps_and_images_come_onto_a_grid(networks, parts):
    chunk = parts[1]
    fine, _, coarse = chunk.grids
    assert chunk.grids == [grid_of(entry.network, "relu2", (96, 104)) for entry in networks]
    assert (fine, coarse) == (Grid(2, 0.5, (48, 52)), Grid(8, 7, (11, 12)))
    own = {"u1": chunk.maps[0].u[:, 0], "alpha": chunk.maps[0].alpha}
    for kind in KINDS:
        assert np.shares_memory(chunk.map(0, kind, fine), own[kind])
        expected = [oracle.on_grid(image, fine, coarse) for image in own[kind]]
        np.testing.assert_allclose(chunk.map(0, kind, coarse), expected, rtol=1e-4)
    images = oracle.gradient_images(chunk.slices[1])
    expected = [oracle.on_grid(image, Grid(1, 0, (96, 104)), coarse) for image in images]
    np.testing.assert_allclose(chunk.gradients_on(coarse)[1], expected, rtol=1e-4)


def test_what_is_prepared_is_of_its_run_kind_and_grid_and_made_once(parts):
    chunk = replace(parts[1], _known={})
    fine, _, coarse = chunk.grids
    wanted = [(run, kind, grid) for run in (0, 1) for kind in KINDS for grid in (fine, coarse)]
    first = [chunk.prepared(*key) for key in wanted]
    inside = np.s_[3:8, 2:9]
    left = [chunk.beyond_image(*key, inside) for key in wanted]
    spans = [chunk.subspaces(run, grid) for run in (0, 1) for grid in (fine, coarse)]
    for key, found, rest in zip(wanted, first, left, strict=True):
        np.testing.assert_array_equal(found.unit, prepare(chunk.map(*key)).unit)
        images = chunk.gradients_on(key[2])
        expected = residual(chunk.map(*key)[:, *inside], images[:, :, *inside])
        np.testing.assert_array_equal(rest, expected)
        assert chunk.prepared(*key) is found
        assert chunk.beyond_image(*key, inside) is rest
        assert chunk.beyond_image(*key, np.s_[3:8, 2:8]).shape == (2, 5, 6)
    again = [chunk.subspaces(run, grid) for run in (0, 1) for grid in (fine, coarse)]
    assert all(a is b for a, b in zip(spans, again, strict=True))
    assert len({id(entry) for entry in (*first, *left, *spans)}) == 20


@pytest.mark.parametrize(
    "view", [replace(VIEW, center=True), View(layer="conv2", rank=2), View(layer="conv1", rank=2)], ids=str
)
def test_vectors_without_a_sign_are_turned_towards_the_gradient_image(uneven, networks, cpu, view):
    for chunk in chunks(networks, uneven, view, "prewitt", cpu, every=9):
        for number, entry in enumerate(networks):
            grid = chunk.grids[number]
            own = slice_maps(entry.network, entry.preprocessing, chunk.slices, view, cpu)
            images = [oracle.on_grid(image, Grid(1, 0, (96, 104)), grid) for image in chunk.gradients[:, 0]]
            for u, before, image in zip(chunk.maps[number].u, own.u, images, strict=True):
                likeness = np.corrcoef(before[0].ravel(), image.ravel())[0, 1]
                np.testing.assert_array_equal(u, before * np.sign(likeness))
            np.testing.assert_array_equal(chunk.maps[number].alpha, own.alpha)


def test_vectors_after_a_relu_keep_their_sign(networks, cpu, parts):
    for number, entry in enumerate(networks):
        for chunk in parts[1:4]:
            own = slice_maps(entry.network, entry.preprocessing, chunk.slices, VIEW, cpu)
            np.testing.assert_array_equal(chunk.maps[number].u, own.u)
            assert (own.u[:, 0].sum((1, 2)) > 0).all()


def test_no_map_sees_padding_within_the_interior_of_two_runs(parts):
    """By hand: the first pixel whose centre is as far from the border as the map sees, and the last."""
    chunk = parts[1]
    fine, _, coarse = chunk.grids
    assert chunk.reaches == [5.5, 5.5, 25]  # from 5 before to 6 after, from 18 to 32
    # Centres 2i + 0.5 from 6.5 to 88.5 of 0 to 95, and to 96.5 of 0 to 103.
    assert chunk.interior((0,), fine) == chunk.interior((0, 1), fine) == np.s_[3:45, 3:49]
    # Averaged, the fine map sees a stride of 8 further: centres 8i + 7 from 15 to 79, and to 87.
    assert chunk.interior((0, 1), coarse) == np.s_[1:10, 1:11]
    # The other map alone decides, which sees further still: from 31 to 63, and to 71.
    for runs in ((2,), (0, 2), (2, 1)):
        assert chunk.interior(runs, coarse) == np.s_[3:8, 3:9]


def test_each_slice_has_its_sample_and_slices_of_all_samples_beside_it(uneven, networks, cpu, parts):
    assert middle_slices(uneven).tolist() == [5, 16]  # of 0 to 9, and of 10 to 21
    for chunk in parts:
        np.testing.assert_array_equal(chunk.samples, uneven.label[chunk.indices])
        assert chunk.others is parts[0].others
    others = parts[0].others
    assert others.indices.tolist() == [5, 16]
    assert others.samples.tolist() == [0, 1]
    assert others.grids == parts[0].grids
    assert others.others is None
    for found, entry in zip(others.maps, networks, strict=True):
        own = slice_maps(entry.network, entry.preprocessing, uneven.read([5, 16]), VIEW, cpu)
        np.testing.assert_array_equal(found.u, own.u)


def test_any_slices_can_be_looked_at_in_any_order(uneven, networks, cpu, parts):
    """For pictures: those of no stack in particular, none of them the next one of another."""
    chosen = np.array([20, 3, 9])
    chunk = look_at(networks, uneven, chosen, VIEW, "prewitt", cpu)
    np.testing.assert_array_equal(chunk.slices, uneven.read(chosen))
    assert chunk.samples.tolist() == [1, 0, 0]
    assert not chunk.consecutive
    assert chunk.others is None
    assert parts[0].consecutive
    of_chunk = parts[0]
    for kind in KINDS:
        for run, grid in enumerate(chunk.grids):
            found, among_others = chunk.map(run, kind, grid)[1], of_chunk.map(run, kind, grid)[3]
            np.testing.assert_allclose(found, among_others, atol=1e-4 * among_others.max())
    np.testing.assert_array_equal(chunk.gradients[1], of_chunk.gradients[3])
    behind = look_at(networks[:1], uneven, chosen[:2], VIEW, "prewitt", cpu, np.array([4]))
    assert behind.indices.tolist() == [20, 3]
    assert len(behind.samples) == 2
    np.testing.assert_array_equal(behind.slices, uneven.read([20, 3, 4]))
    assert len(behind.maps[0].u) == len(behind.gradients) == 3


@torch.inference_mode()
@pytest.mark.parametrize("number", [0, 2], ids=["small", "alexnet"])
def test_dense_maps_lie_where_their_receptive_fields_do(uneven, networks, cpu, number):
    """What a bright pixel of the slice can reach in a dense map is centred on it."""
    entry = networks[number]
    chunk = next(chunks([entry], uneven, replace(VIEW, resolution="dense", rank=1), "sobel", cpu, every=99))
    (grid,) = chunk.grids
    pooled = grid_of(entry.network, "relu2", (96, 104))
    assert grid == dense_grid(pooled, chunk.maps[0].alpha.shape[1:])
    images = torch.zeros(2, 1, 96, 104)
    images[1, 0, 50, 55] = 1e3
    dark, bright = responses(entry.network, images, ["conv2"], "dense")["conv2"]
    rows, columns = np.nonzero((dark != bright).any(0).numpy())
    assert (rows.min() + rows.max()) / 2 + grid.offset == 50
    assert (columns.min() + columns.max()) / 2 + grid.offset == 55


def test_memory_holds_one_chunk_of_maps(uneven, networks, cpu, monkeypatch):
    """Slices are read when their chunk is asked for, not before."""
    read = []
    original = type(uneven).read
    monkeypatch.setattr(type(uneven), "read", lambda self, k: read.append(len(k)) or original(self, k))
    monkeypatch.setattr(module, "_SLICES", 4)
    going = chunks(networks[:1], uneven, VIEW, "sobel", cpu)
    assert read == []
    next(going)
    assert read == [2, 5]  # a slice of each sample, kept beside all chunks
    next(going)
    assert read == [2, 5, 5]
