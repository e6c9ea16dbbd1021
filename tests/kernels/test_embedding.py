"""The examples of docs/embedding.md run; blocks of Dask give the bits of the whole."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from spectra import rectified, sine

from eigenfeatures.kernels import (
    OPERATORS,
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
SECTIONS = (section.partition("\n") for section in PAGE.split("\n## ")[1:])
EXAMPLES = {
    title: code
    for title, _, text in SECTIONS
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
}
NEEDED = {"torch": "torch", "dask": "dask.array", "scikit": "sklearn"}


def test_every_example_is_found():
    assert len(EXAMPLES) == PAGE.count("```python") == 6


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_run(title):
    for word, module in NEEDED.items():
        if word in title:
            pytest.importorskip(module)
    # The name of a module that pickling finds nowhere: workers of torch are forked.
    exec(compile(EXAMPLES[title], f"docs/embedding.md: {title}", "exec"), {"__name__": "example"})  # noqa: S102


def images(shape, dtype):
    return (np.random.default_rng(0).random(shape) * 255).astype(dtype)


def overlapped(da, function, array, chunks, boundary, result):
    blocks = da.from_array(array, chunks=chunks)
    meta = np.empty((0,) * array.ndim, result)
    return da.map_overlap(function, blocks, depth={1: 1, 2: 1}, boundary=boundary, meta=meta)


@pytest.mark.parametrize("boundary", ["nearest", "none"])
@pytest.mark.parametrize("chunks", [(2, 37, 29), (3, 64, 33), (1, 151, 13), (3, 5, 97)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_overlapping_blocks_have_the_bits_of_the_whole(dtype, chunks, boundary):
    da = pytest.importorskip("dask.array")
    array = images((3, 151, 97), dtype)
    for operator in OPERATORS:
        whole = gradient_magnitude(array, operator)
        parts = overlapped(
            da, lambda block, o=operator: gradient_magnitude(block, o), array, chunks, boundary, whole.dtype
        )
        np.testing.assert_array_equal(parts.compute(), whole)
        for component in (0, 1):
            parts = overlapped(
                da,
                lambda block, o=operator, c=component: gradient(block, o)[c],
                array,
                chunks,
                boundary,
                whole.dtype,
            )
            np.testing.assert_array_equal(parts.compute(), gradient(array, operator)[component])


def test_blocks_without_their_neighbours_differ():
    """The negative control: the borders of chunks are where the bits would differ."""
    da = pytest.importorskip("dask.array")
    array = images((1, 40, 40), "float32")
    blocks = da.from_array(array, chunks=(1, 20, 20))
    parts = blocks.map_blocks(gradient_magnitude, meta=np.empty((0, 0, 0), np.float32)).compute()
    different = parts != gradient_magnitude(array)
    assert different[0, 19:21].mean() > 0.9
    assert not different[0, :19, :19].any()


def test_blocks_of_slices_have_the_bits_of_the_whole():
    da = pytest.importorskip("dask.array")
    array = images((7, 70, 33), "uint8")
    blocks = da.from_array(array, chunks=(3, -1, -1))
    parts = blocks.map_blocks(standardized_gradient, meta=np.empty((0, 0, 0), np.float32))
    np.testing.assert_array_equal(parts.compute(), standardized_gradient(array))
    means = blocks.map_blocks(
        lambda block: slice_statistics(block).mean_gradient, drop_axis=(1, 2), dtype=float
    )
    np.testing.assert_array_equal(means.compute(), slice_statistics(array).mean_gradient)
    responses = images((5, 6, 20, 21), "float32")
    blocks = da.from_array(responses, chunks=(2, -1, -1, -1))
    parts = blocks.map_blocks(gram, drop_axis=3, chunks=((2, 2, 1), (6,), (6,)), dtype=float)
    np.testing.assert_array_equal(parts.compute(), gram(responses))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_blocks_of_contrast_have_the_bits_of_the_whole(dtype):
    da = pytest.importorskip("dask.array")
    array = images((7, 70, 33), dtype)
    blocks = da.from_array(array, chunks=(3, -1, -1))
    parts = blocks.map_blocks(stretch_contrast, meta=np.empty((0, 0, 0), np.float32))
    np.testing.assert_array_equal(parts.compute(), stretch_contrast(array))


def in_chunks(function, responses, *arguments, **options):
    """What a function gives of chunks of three slices, put together by Dask."""
    da, dask = pytest.importorskip("dask.array"), pytest.importorskip("dask")
    blocks = da.from_array(responses, chunks=(3, -1, -1, -1)).to_delayed().ravel()
    results = dask.compute(*(dask.delayed(function)(block, *arguments, **options) for block in blocks))
    assert len(results) == 3
    return {name: np.concatenate([vars(one)[name] for one in results]) for name in vars(results[0])}


# Slices whose searches go in two chains, both cut by the chunks.
STACK = np.stack([rectified(seed) for seed in range(9)])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_chunks_of_responses_have_the_bits_of_the_whole(dtype):
    """From rank 2 on: slices don't start from each other then."""
    responses = (50 * STACK).astype(dtype)
    cases = [(strongest_channel, (), {}), (truncated_svd, (2,), {}), (truncated_svd, (3,), {"center": True})]
    for function, arguments, options in cases:
        whole = vars(function(responses, *arguments, **options))
        for name, value in in_chunks(function, responses, *arguments, **options).items():
            np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_chunks_of_responses_have_the_same_eigenfeatures():
    """At rank 1 where a search starts depends on the chunks, and with it the last bits."""
    whole = truncated_svd(STACK, max_passes=20)
    found = in_chunks(truncated_svd, STACK, max_passes=20)
    assert set(found["method"]) == set(whole.method) == {"lanczos"}
    assert (found["residual"] <= 1e-5).all()
    np.testing.assert_allclose(found["s"], whole.s, rtol=1e-5)
    for u, expected in zip(found["u"], whole.u, strict=True):
        assert sine(u, expected) <= 4e-5


def test_a_pool_whose_threads_have_one_of_numbas():
    """The number of Numba's threads counts for the thread that sets it."""
    responses = images((4, 6, 30, 31), "float32")
    expected, threads = truncated_svd(responses), numba.get_num_threads()

    def alone(index):
        numba.set_num_threads(1)
        return truncated_svd(responses[index]).u

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(alone, [0] * 12))
    assert numba.get_num_threads() == threads
    for u in found:
        np.testing.assert_array_equal(u, expected.u[0])
