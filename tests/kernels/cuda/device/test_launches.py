"""How many launches and calls of cuBLAS and cuSOLVER a call takes, and which of them grow with the batch."""

from collections import Counter
from functools import partial

import numpy as np
import pytest

from eigenfeatures.kernels import MASKS
from eigenfeatures.kernels.cuda import channels, gradient, gram, memory, statistics, svd, tile
from eigenfeatures.kernels.cuda.compile import SIMULATED

CHANNELS, PIXELS = (2, 9) if SIMULATED else (24, 899)
# Twice the same, so that what one half needs the other needs, too.
MAPS = np.tile(
    np.random.default_rng(0).random((20, CHANNELS, PIXELS), np.float32) + np.float32(0.5), (2, 1, 1)
)


@pytest.fixture
def counted(monkeypatch):
    """What a call queues, by name: each of them costs the calling thread some microseconds."""
    done, prepared, linalg = Counter(), memory.prepared, memory.xp().linalg

    def counting(name, function):
        def call(*arguments, **options):
            done[name] += 1
            return function(*arguments, **options)

        return call

    def noted(kernel, *arguments, **options):
        return counting(kernel.name, prepared(kernel, *arguments, **options))

    monkeypatch.setattr(memory, "prepared", noted)
    for name in ("_multiply", "_multiply_tiles"):
        monkeypatch.setattr(gram, name, counting("cuBLAS", getattr(gram, name)))
    for name in ("eigh", "svd"):
        monkeypatch.setattr(linalg, name, counting(name, getattr(linalg, name)))
    return done


def taken(counted, function, *arguments):
    counted.clear()
    function(*arguments)
    return dict(counted)


def decompose(rank, count, pixels=PIXELS):
    maps = memory.to_device(MAPS[:count, :, :pixels].copy())
    result = svd.decompose(maps, rank, None, 1e-5, 20, 0, False, False)
    assert len(set(result.method)) == 1
    return result.method[0]


@pytest.mark.parametrize(("rank", "method"), [(1, "lanczos"), (2, "gram")])
def test_decompositions_take_as_many_for_20_slices_as_for_40(rank, method, counted):
    few = taken(counted, lambda: decompose(rank, 20))
    assert "conclusion.conclude" in few
    assert taken(counted, lambda: decompose(rank, 40)) == few
    assert decompose(rank, 4) == method


def test_where_every_slice_has_a_decomposition_of_its_own(counted):
    """With no more pixels than maps a Gram matrix isn't worth its while."""
    for count in (20, 40):
        found = taken(counted, lambda count=count: decompose(1, count, pixels=CHANNELS))
        assert found["svd"] == count
    assert decompose(1, 4, pixels=CHANNELS) == "svd"


def test_where_few_gram_matrices_are_decomposed_one_by_one(counted, monkeypatch):
    monkeypatch.setattr(svd, "_WIDE", 0)
    for count in range(1, 7):
        found = taken(counted, lambda count=count: decompose(2, count))
        few = count <= svd._FEW
        assert found.get("eigh", 0) == (count if few else 0)
        assert ("jacobi.eigenvectors" in found) is not few


def test_where_slices_have_products_of_their_own(counted, monkeypatch):
    """Until there are as many slices as tiles of columns: then a tile of all slices takes one."""
    monkeypatch.setattr(gram, "ADDED", 2 if SIMULATED else 64)
    whole, rest = divmod(PIXELS, gram.ADDED)
    x = memory.to_device(MAPS)
    for count in (1, whole - 1, whole, whole + 1, 2 * whole):
        found = taken(counted, gram.cross_products, x[:count], x[:count, :2])
        assert found["cuBLAS"] <= whole + 1 + (rest > 0)
        if count <= min(whole, len(x)):
            assert found["cuBLAS"] == count + (rest > 0)


def gradients(images):
    working = memory.xp().empty(images.shape, np.float32)
    gradient.gradient(images, MASKS["sobel"], working, working)
    gradient.magnitude(images, MASKS["sobel"], 0.0, 1.0, working)
    statistics.standardized(images, MASKS["sobel"], working)
    statistics.moments(images, MASKS["sobel"], memory.xp().empty((len(images), 2, 3)))


def strongest(maps):
    index, values = memory.xp().empty(len(maps), np.int64), memory.xp().empty((3, len(maps)))
    channels.strongest(maps, index, *values)


@pytest.mark.parametrize("function", [gradients, strongest, partial(gram.correlations, dtype=np.dtype("f4"))])
def test_the_others_take_as_many_for_20_slices_as_for_40(function, counted):
    given = memory.to_device(MAPS[..., :5].copy())
    few = taken(counted, function, given[:20])
    assert set(few.values()) == {1}
    assert taken(counted, function, given) == few


def test_gradients_take_one_more_for_every_grid_that_is_full(counted, monkeypatch):
    monkeypatch.setattr(tile, "MOST_SLICES", 15)
    found = taken(counted, gradients, memory.to_device(MAPS[..., :5].copy()))
    assert found.pop("statistics.fill_own_slice") == 1  # its slices are on the first axis
    assert found == {
        "gradient.fill_gradient": 3,
        "gradient.fill_magnitude": 3,
        "statistics.fill_moments": 3,
    }
