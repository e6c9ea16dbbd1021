"""XᵀX of response maps against sums without rounding."""

import math
from typing import Any

import numpy as np
import pytest
import reference
import torch
from numpy.typing import NDArray
from spectra import rectified

from eigenfeatures.kernels.cpu.gram import CHUNK, TILE
from eigenfeatures.kernels.gram import gram

# Unit roundoff of float32.
UNIT = 2.0**-24


def exact(maps: NDArray[Any]) -> NDArray[np.float64]:
    """XᵀX of maps (C, h, w), each entry a sum rounded once."""
    rows = [[float(value) for value in image.ravel()] for image in maps]
    return np.array([[math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows])


def relative_error(found: NDArray[np.float64], maps: NDArray[Any]) -> float:
    """The largest error of an entry (i, j), against ‖x_i‖ ‖x_j‖."""
    expected = exact(maps)
    sizes = np.sqrt(expected.diagonal())
    scale = np.outer(sizes, sizes)
    return float((np.abs(found - expected) / np.where(scale > 0, scale, 1)).max())


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int8", "int16", "int32", "int64", "float16", "float32", "float64", ">f4"]
)
def test_every_type(dtype):
    """Values near the largest of 8 and 16 bits, whose products overflow in their own type."""
    rng = np.random.default_rng(0)
    top = 100 if dtype in ("int8", "float16") else 250 if dtype == "uint8" else 30_000
    maps = rng.integers(top // 2, top, (5, 11, 13)).astype(dtype)
    maps[2] = 0
    before = maps.copy()
    found = gram(maps)
    np.testing.assert_array_equal(maps, before)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, found.T)
    wide = dtype in ("int32", "int64", "float64")
    assert relative_error(found, maps) <= (1e-15 if wide else 1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (7, 1, 1), (3, 50, 41), (33, 47, 89)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_shape(shape, dtype):
    """One pixel, fewer pixels than channels, one chunk less or more a few pixels."""
    maps = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    found = gram(maps)
    np.testing.assert_array_equal(found, found.T)
    assert relative_error(found, maps) <= (1e-6 if dtype == np.float32 else 1e-15)
    assert relative_error(found, maps) <= TILE * UNIT
    assert TILE <= 640  # as the function's docstring says


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("side", [3, 31, 33])
def test_a_batch_has_the_bits_of_its_slices(dtype, side, monkeypatch):
    """Also of slices so small that several are multiplied in one call, whatever their neighbours are."""
    monkeypatch.setattr("eigenfeatures.kernels.cpu.gram._TOGETHER", 4 * 5 * side**2)
    maps = (np.random.default_rng(2).random((11, 5, side, side)) * 200).astype(dtype)
    maps[3, 1] = 0
    if dtype != np.uint8:
        maps[4, 2, 1, 1], maps[5, 0, 0, 0] = np.nan, np.inf
        maps[6] *= dtype(1e30)
    found = gram(maps)
    for of_slice, alone in zip(found, maps, strict=True):
        np.testing.assert_array_equal(of_slice, gram(alone))
    assert np.isfinite(found[6]).all()
    assert relative_error(found[3], maps[3]) <= 1e-6


def test_a_wrong_product_is_seen():
    """The negative control: one pixel of one map off by a thousandth."""
    maps = rectified(shape=(5, 20, 20))
    off = maps.copy()
    off[2, 3, 4] += 1e-3 * np.linalg.norm(maps[2])
    assert relative_error(gram(off), maps) > 1e-5


def test_sums_are_float64():
    """One bright pixel, then many chunks that each add less than float32 resolves beside it."""
    chunks = 65
    row = np.zeros((1, 1, chunks * CHUNK), np.float32)
    row[..., ::CHUNK] = 1
    row[..., 0] = 2**12
    assert gram(row) == 2**24 + chunks - 1
    in_float32 = np.float32(0)
    for part in row.reshape(chunks, CHUNK):
        in_float32 += part @ part
    assert in_float32 == 2**24


@pytest.mark.parametrize(
    "view",
    [
        lambda maps: maps[:, ::2, ::3],
        lambda maps: maps[:, ::-1, ::-1],
        lambda maps: maps[::-1],
        lambda maps: np.asfortranarray(maps),
        lambda maps: maps.transpose(2, 0, 1),
        lambda maps: np.broadcast_to(maps[:1], (4, *maps.shape[1:])),
        lambda maps: maps[..., :1],
    ],
)
def test_layouts(view):
    maps = view(np.random.default_rng(2).standard_normal((6, 60, 50)).astype(np.float32))
    maps.flags.writeable = False
    found = gram(maps)
    np.testing.assert_array_equal(found, found.T)
    assert relative_error(found, maps) <= 1e-6


def test_stack_is_its_slices():
    stack = np.stack([rectified(seed) for seed in range(6)]).reshape(2, 3, *rectified().shape)
    found = gram(stack)
    assert found.shape == (2, 3, 24, 24)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[place], gram(stack[place]))
    assert gram(stack[:, :0]).shape == (2, 0, 24, 24)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_invalid_values_stay_in_their_row_and_column(bad, dtype):
    stack = np.stack([rectified(seed) for seed in range(3)]).astype(dtype)
    expected = gram(stack)
    stack[1, 3, 4, 5] = bad
    found = gram(stack)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert not np.isfinite(found[1, 3]).any()
    assert not np.isfinite(found[1, :, 3]).any()
    others = np.delete(np.arange(24), 3)
    np.testing.assert_allclose(
        found[1][np.ix_(others, others)], expected[1][np.ix_(others, others)], rtol=1e-5
    )


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 1e37])
def test_scales_beyond_the_squares_of_float32(scale):
    maps = rectified(shape=(5, 20, 20))
    maps[1] = 0
    scaled = (maps.astype(np.float64) * scale).astype(np.float32)
    assert relative_error(gram(scaled), scaled) <= 1e-6
    mixed = maps.copy()
    mixed[2] = scaled[2]
    assert relative_error(gram(mixed), mixed) <= 1e-6


def test_squares_beyond_float64_are_infinite():
    found = gram(np.array([[[1e200]], [[1e-200]]]))
    np.testing.assert_array_equal(found, [[np.inf, 1], [1, 0]])


def test_eigenvalues_are_squared_singular_values():
    maps = rectified()
    _, s, _ = reference.singular_triplets(maps)
    np.testing.assert_allclose(np.linalg.eigvalsh(gram(maps))[::-1], s**2, atol=1e-6 * s[0] ** 2)


def test_tensors_give_tensors():
    maps = rectified()
    found = gram(torch.from_numpy(maps))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), gram(maps))


@pytest.mark.parametrize(
    ("responses", "error", "message"),
    [
        (np.ones((3, 3)), ValueError, "responses has 2 axes and needs at least 3"),
        (np.ones((3, 0, 3)), ValueError, "has no pixels"),
        (np.ones((0, 3, 3)), ValueError, "has no pixels"),
        (np.ones((2, 3, 3), complex), TypeError, "responses holds complex128"),
        (np.ones((2, 3, 3), bool), TypeError, "responses holds bool"),
        ([[[1, 2], [3]]], TypeError, "responses can't be read"),
    ],
)
def test_bad_input_is_refused(responses, error, message):
    with pytest.raises(error, match=message):
        gram(responses)
