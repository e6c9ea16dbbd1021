"""Truncated SVD of stacks: slices start from each other, and share no fault."""

import numba
import numpy as np
import pytest
from spectra import CHANNELS, HEIGHT, WIDTH, rectified

from eigenfeatures.kernels import truncated_svd
from eigenfeatures.kernels.cpu import svd as cpu_svd

TOL = 1e-5


def test_stack_is_its_slices():
    stack = np.stack([rectified(seed) for seed in range(6)]).reshape(2, 3, CHANNELS, HEIGHT, WIDTH)
    svd = truncated_svd(stack, 2)
    for place in np.ndindex(2, 3):
        alone = truncated_svd(stack[place], 2)
        for name in ("u", "s", "v", "residual", "passes", "method", "energy"):
            np.testing.assert_array_equal(getattr(svd, name)[place], getattr(alone, name))


def test_slices_side_by_side_are_those_of_a_loop_and_share_no_fault():
    """Enough slices for each thread to take its own."""
    threads = numba.get_num_threads()
    count = 4 * threads
    maps = np.stack([rectified(seed) for seed in range(count)])
    maps[1], maps[2, 3, 4, 5] = 0, np.nan
    svd = truncated_svd(maps, 3)
    assert svd.method[:3].tolist() == ["gram", "zero", "invalid"]
    for k in range(count):
        one = truncated_svd(maps[k], 3)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(svd, name)[k], value, err_msg=name)
    assert numba.get_num_threads() == threads  # the caller's own is left alone


@pytest.mark.parametrize(
    ("count", "shape"),
    [(count, (16, 20, 20)) for count in (1, 8, 9, 16, 2 * 8 * numba.config.NUMBA_NUM_THREADS)]
    + [(17, (4, 100, 95))],
)
def test_chains_are_those_of_stacks_by_themselves(count, shape):
    """Slices of up to eight start from each other, whether threads take the chains side by side or not."""
    maps = np.stack([rectified(seed, shape=shape) for seed in range(count)])
    svd = truncated_svd(maps)
    chains = -(-count // 8)
    for k in range(chains):
        part = slice(k * count // chains, (k + 1) * count // chains)
        for name, value in vars(truncated_svd(maps[part])).items():
            np.testing.assert_array_equal(getattr(svd, name)[part], value, err_msg=name)


@pytest.mark.parametrize(
    ("channels", "pixels", "rank", "threads", "side_by_side"),
    [
        (128, 133 * 133, 1, 2, False),
        (128, 133 * 133, 1, 4, False),
        (128, 133 * 133, 1, 8, True),
        (128, 133 * 133, 8, 2, True),
        (128, 266 * 266, 1, 2, True),
        (128, 60 * 60, 1, 2, True),
    ],
)
def test_who_works_on_a_slice(channels, pixels, rank, threads, side_by_side, monkeypatch):
    """All threads, where one slice lies in the cache and has enough tiles for them; else each has its own."""

    def stop(text):
        raise RuntimeError(text)

    monkeypatch.setattr(cpu_svd, "thread_count", lambda: threads)
    monkeypatch.setattr(cpu_svd, "_side_by_side", lambda *_: stop("each its own"))
    monkeypatch.setattr(cpu_svd, "triplets", lambda *_: stop("together"))
    maps = np.empty((16, channels, pixels), np.float32)
    with pytest.raises(RuntimeError, match="each its own" if side_by_side else "together"):
        cpu_svd.decompose(maps, rank, None, TOL, 14, 0, False, False)


def test_empty_stack():
    svd = truncated_svd(np.empty((0, 5, 4, 3), np.float32), 2)
    assert (svd.u.shape, svd.s.shape, svd.v.shape) == ((0, 2, 4, 3), (0, 2), (0, 2, 5))
    assert svd.method.shape == svd.residual.shape == (0,)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("rank", [1, 2])
def test_zero_and_invalid_slices_harm_no_others(bad, rank):
    stack = np.stack([rectified(0), rectified(1), rectified(2)])
    if bad == 0:
        stack[1] = 0
    else:
        stack[1, 3, 4, 5] = bad
    svd = truncated_svd(stack, rank)
    expected = truncated_svd(stack[[0, 2]], rank)
    for name in ("u", "s", "v", "residual", "energy"):
        values = getattr(svd, name)
        np.testing.assert_array_equal(values[1], np.full_like(values[1], 0 if bad == 0 else np.nan))
        np.testing.assert_array_equal(values[[0, 2]], getattr(expected, name))
    assert svd.method[1] == ("zero" if bad == 0 else "invalid")
