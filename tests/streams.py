"""Cutting responses into parts, and both passes of a streaming SVD over them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from spectra import HEIGHT, WIDTH, measured, sine, with_spectrum
from svd_oracles import honest

from eigenfeatures.kernels import StreamedSVD, StreamingSVD

TOL = 1e-5

# Cuts of maps (C, h, w) into parts, by rows and columns.
TILINGS = {
    "whole": ([], []),
    "bands": ([10, 20], []),
    "tiles": ([1, 16], [7, 8, 28]),
    "pixels": (range(1, HEIGHT, 3), range(1, WIDTH)),
}


def tiles(maps: NDArray[Any], rows: Sequence[int], columns: Sequence[int]) -> list[list[NDArray[Any]]]:
    """Parts of maps cut at these rows and columns."""
    return [np.split(band, columns, axis=-1) for band in np.split(maps, rows, axis=-2)]


def streamed(
    stream: StreamingSVD, parts: list[list[NDArray[Any]]]
) -> tuple[NDArray[Any], StreamedSVD, float]:
    """Both passes: u put together, the values and right vectors, and the residual."""
    for band in parts:
        for part in band:
            stream.add(part)
    svd = stream.finish()
    u = np.block([[stream.left(part) for part in band] for band in parts])
    return u, svd, stream.residual


def side_by_side(maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Maps (C, h, w) of several slices as one slice (C, 1, n)."""
    return np.concatenate([one.reshape(len(one), 1, -1) for one in maps], axis=-1)


def assert_accurate(maps: NDArray[Any], u: NDArray[Any], svd: StreamedSVD, residual: float) -> None:
    """Compare a decomposition with its definition."""
    by_definition, loss = measured(maps, u, svd.s, svd.v)
    assert by_definition <= TOL
    assert honest(residual, by_definition, maps.dtype)
    assert residual == pytest.approx(by_definition, abs=2e-7)
    assert loss <= 10 * TOL


def assert_contract(maps: NDArray[Any], u: NDArray[Any], svd: StreamedSVD, residual: float) -> None:
    """Compare a decomposition with its definition and with LAPACK's."""
    assert_accurate(maps, u, svd, residual)
    expected_u, s, expected_v = reference.singular_triplets(maps)
    rank = len(svd.s)
    assert u.dtype == maps.dtype
    np.testing.assert_allclose(svd.s, s[:rank], atol=TOL * s[0])
    np.testing.assert_array_equal(svd.s == 0, s[:rank] <= 5e-6 * s[0])
    assert not u[svd.s == 0].any()
    assert svd.energy == pytest.approx(np.sum(s**2), rel=1e-12)
    for i in range(rank):
        gap = min(abs(s[i] - s[k]) for k in (i - 1, i + 1) if 0 <= k < len(maps))
        if gap > 0.1 * s[0]:
            assert sine(u[i], expected_u[i]) <= 1e-4
            assert sine(svd.v[i], expected_v[i]) <= 1e-4


def assert_smallest_values_found(
    leading: int, dtype: str, shape: tuple[int, int, int], tiling: tuple[Sequence[int], Sequence[int]]
) -> None:
    """The hardest for a Gram matrix: values that are squared to its rounding, and all alike."""
    values = np.where(np.arange(shape[0]) < leading, 1, 5.5e-6)
    maps = with_spectrum(values, dtype, shape=shape)
    u, svd, residual = streamed(StreamingSVD(len(maps)), tiles(maps, *tiling))
    assert (svd.s > 0).all()
    assert_accurate(maps, u, svd, residual)


def assert_refused_whole(good: NDArray[Any], other: NDArray[Any], bad: float, center: bool) -> None:
    """Spoil one of two slices that come together: the stream goes on as if they had not come."""
    spoilt = np.stack([other, other])
    spoilt[1, 3, 4, 5] = bad
    stream = StreamingSVD(2, center=center)
    stream.add(good)
    message = rf"responses hold {bad} at \[1, 3, 4, 5\]; nothing of them was added"
    with pytest.raises(ValueError, match=message):
        stream.add(spoilt)
    stream.add(other)
    expected_u, expected, _ = streamed(StreamingSVD(2, center=center), [[good, other]])
    np.testing.assert_array_equal(stream.finish().s, expected.s)
    with pytest.raises(ValueError, match=r"at \[1, 3, 4, 5\]; nothing of them was counted"):
        stream.left(spoilt)
    np.testing.assert_array_equal(np.block([stream.left(good), stream.left(other)]), expected_u)
    assert stream.residual <= TOL


def assert_empty_stacks_add_nothing() -> None:
    """To neither pass."""
    stream = StreamingSVD()
    stream.add(np.ones((0, 3, 2, 2), np.float32))
    with pytest.raises(ValueError, match="nothing was added"):
        stream.finish()
    stream.add(np.ones((3, 2, 2), np.float32))
    assert stream.left(np.ones((0, 3, 2, 2), np.float32)).shape == (0, 1, 2, 2)
    assert stream.finish().pixels == 4


def assert_near_lapack(wide: NDArray[Any], u: NDArray[Any], svd: StreamedSVD, residual: float) -> None:
    """Compare with LAPACK's values where some may be lost, of maps (C, h, w) as they are decomposed."""
    rank = len(svd.s)
    values = np.zeros(rank)
    _, s, _ = reference.singular_triplets(wide)
    values[: len(s)] = s[:rank]
    if s[0] < 1e-12:
        assert svd.s[0] < 1e-12
        return
    by_definition, loss = measured(wide, u, svd.s, svd.v)
    assert max(residual, by_definition) <= TOL
    assert loss <= 10 * TOL
    np.testing.assert_allclose(svd.s, values, atol=TOL * s[0])
    assert svd.energy == pytest.approx(np.sum(s**2))
