"""Gradients against loops, SciPy, scikit-image and OpenCV."""

from typing import Any

import cv2
import numpy as np
import pytest
import reference
import scipy.ndimage
import skimage.filters
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eigenfeatures.kernels import OPERATORS, gradient, gradient_magnitude, standardized_gradient

DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
# Of the slice's largest |∇Y|, as the project promises.
BOUND = 1e-5


def images(shape: tuple[int, ...], dtype: str, seed: int = 0, offset: float = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    scale = 255 if dtype == "uint8" else 3000
    return (rng.random(shape) * scale + offset).astype(dtype)


def assert_close(result: NDArray[Any], expected: NDArray[Any]) -> None:
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(result, expected, rtol=0, atol=BOUND * largest)


@st.composite
def odd_images(draw: st.DrawFn) -> NDArray[Any]:
    """Any dtype and byte order, one to thirteen pixels a side, any strides, perhaps read-only."""
    dtype = np.dtype(draw(st.sampled_from((*DTYPES, "int8", "int32", "float16"))))
    height, width = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    step_i, step_j = (draw(st.sampled_from((-2, -1, 1, 2))) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    image = (rng.random((2 * height, 2 * width)) * 120).astype(dtype)
    if draw(st.booleans()):
        image = image.astype(dtype.newbyteorder(">"))
    image = image[::step_i, ::step_j][:height, :width]
    if draw(st.booleans()):
        image = image.T
    image.flags.writeable = draw(st.booleans())
    return image


@given(odd_images(), st.sampled_from(OPERATORS))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_equals_loops_for_any_layout(image, operator):
    before = image.copy()
    for result, expected in zip(gradient(image, operator), reference.gradient(image, operator), strict=True):
        assert_close(result, expected)
    magnitude = reference.gradient_magnitude(image, operator)
    assert_close(gradient_magnitude(image, operator), magnitude)
    standardized = standardized_gradient(image, operator)
    np.testing.assert_allclose(standardized, reference.standardized(magnitude), atol=1e-4)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("offset", [0, 3e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_peers(dtype, offset):
    image = images((131, 97), dtype, offset=0 if dtype == "uint8" else offset)
    wide = image.astype(np.float64)
    peers = {
        "sobel": (skimage.filters.sobel, 4 * np.sqrt(2), scipy.ndimage.sobel),
        "prewitt": (skimage.filters.prewitt, 3 * np.sqrt(2), scipy.ndimage.prewitt),
        "scharr": (skimage.filters.scharr, 16 * np.sqrt(2), None),
    }
    for operator, (skimage_filter, factor, scipy_filter) in peers.items():
        assert_close(gradient_magnitude(image, operator), skimage_filter(wide) * factor)
        if scipy_filter is not None:
            gy, gx = gradient(image, operator)
            assert_close(gy, scipy_filter(wide, axis=0, mode="nearest"))
            assert_close(gx, scipy_filter(wide, axis=1, mode="nearest"))
    for operator, opencv_filter in {"sobel": cv2.Sobel, "scharr": cv2.Scharr}.items():
        gy, gx = gradient(image, operator)
        assert_close(gy, opencv_filter(wide, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REPLICATE))
        assert_close(gx, opencv_filter(wide, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REPLICATE))


def test_smoothing_before_the_difference_misses_the_bound():
    """The negative control of the comparison above, and why differences come first."""
    image = images((64, 64), "float32", offset=3e4) * np.float32(1e-3) + np.float32(3e4)
    smooth = image[:-2] + np.float32(2) * image[1:-1] + image[2:]
    late = smooth[:, 2:] - smooth[:, :-2]
    expected = scipy.ndimage.sobel(image.astype(np.float64), axis=1, mode="nearest")[1:-1, 1:-1]
    largest = np.abs(expected).max()
    assert np.abs(late - expected).max() > 100 * BOUND * largest
    assert_close(gradient(image)[1][1:-1, 1:-1], expected)


@pytest.mark.parametrize("operator", OPERATORS)
def test_mirrors(operator):
    image = images((40, 33), "uint16")
    gy, gx = gradient(image, operator)
    mirrored_gy, mirrored_gx = gradient(image[:, ::-1], operator)
    turned_gy, turned_gx = gradient(image[::-1], operator)
    transposed_gy, transposed_gx = gradient(image.T, operator)
    np.testing.assert_array_equal(transposed_gy, gx.T)
    np.testing.assert_array_equal(transposed_gx, gy.T)
    # Along the mirror every operator commutes with it; across it only the symmetric ones.
    np.testing.assert_array_equal(mirrored_gy, gy[:, ::-1])
    np.testing.assert_array_equal(turned_gx, gx[::-1])
    if operator == "forward":
        assert not np.array_equal(mirrored_gx, -gx[:, ::-1])
        np.testing.assert_array_equal(mirrored_gx[:, :-1], -gx[:, ::-1][:, 1:])
        return
    np.testing.assert_array_equal(mirrored_gx, -gx[:, ::-1])
    np.testing.assert_array_equal(turned_gy, -gy[::-1])
    size = gradient_magnitude(image, operator)
    np.testing.assert_array_equal(gradient_magnitude(image[::-1, ::-1], operator), size[::-1, ::-1])


@pytest.mark.parametrize(
    ("operator", "slope"), [("forward", 1), ("central", 1), ("prewitt", 6), ("sobel", 8), ("scharr", 32)]
)
def test_scale_on_a_ramp(operator, slope):
    ramp = np.tile(np.arange(9, dtype=np.float32), (7, 1))
    gy, gx = gradient(ramp, operator)
    np.testing.assert_array_equal(gx[:, 1:-1], slope)
    np.testing.assert_array_equal(gy, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_are_exact(dtype):
    extremes = np.array([0, 255, 0, 255]) if dtype == "uint8" else np.array([-32768, 32767, 0, 1])
    image = np.tile(extremes.astype(dtype), (5, 3))
    for operator in OPERATORS:
        gy, gx = gradient(image, operator)
        expected_gy, expected_gx = reference.gradient(image, operator)
        np.testing.assert_array_equal(gy, expected_gy)
        np.testing.assert_array_equal(gx, expected_gx)


def test_stack_is_its_slices_and_blocks_of_rows_join():
    stack = images((2, 3, 150, 21), "uint8")  # more rows than one block
    magnitude = gradient_magnitude(stack)
    standardized = standardized_gradient(stack)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(magnitude[place], gradient_magnitude(stack[place]))
        np.testing.assert_array_equal(standardized[place], standardized_gradient(stack[place]))
        assert_close(magnitude[place], reference.gradient_magnitude(stack[place], "sobel"))


@pytest.mark.parametrize(
    ("dtype", "expected"), [(d, "float64" if d == "float64" else "float32") for d in DTYPES]
)
def test_empty_batches_and_precision(dtype, expected):
    empty = np.empty((2, 0, 5, 4), dtype)
    for result in (*gradient(empty), gradient_magnitude(empty), standardized_gradient(empty)):
        assert result.shape == empty.shape
        assert result.dtype == expected


def test_standardized_slices_have_no_mean_and_unit_deviation():
    stack = images((4, 61, 50), "uint16", offset=3e4).astype(np.float32)
    result = standardized_gradient(stack).astype(np.float64)
    np.testing.assert_allclose(result.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=(1, 2)), 1, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 200, 1e30])
def test_constant_slice_gives_zeros_and_leaves_its_neighbours(value):
    stack = images((3, 20, 20), "float32")
    stack[1] = value
    result = standardized_gradient(stack)
    np.testing.assert_array_equal(result[1], 0)
    np.testing.assert_array_equal(result[[0, 2]], standardized_gradient(stack[[0, 2]]))


def test_not_a_number_stays_in_its_slice():
    stack = images((3, 20, 20), "float32")
    clean = standardized_gradient(stack)
    stack[1, 3, 4] = np.nan
    result = standardized_gradient(stack)
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[[0, 2]], clean[[0, 2]])
    assert np.count_nonzero(np.isnan(gradient_magnitude(stack[1], "forward"))) == 3


def test_data_set_normalisation():
    stack = images((3, 20, 20), "uint8")
    result = standardized_gradient(stack, mean=100.0, deviation=50.0)
    np.testing.assert_allclose(result, (gradient_magnitude(stack) - 100) / 50, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1e-39), (1e39, 1), (0, 1e39)])
def test_constants_that_float32_can_t_compute_with_are_refused(mean, deviation):
    stack = images((3, 20, 20), "float32")
    with pytest.raises(ValueError, match="are beyond what float32 computes with"):
        standardized_gradient(stack, mean=mean, deviation=deviation)
    exact = standardized_gradient(stack.astype(np.float64), mean=mean, deviation=deviation)
    assert np.isfinite(exact).all()


def test_out_is_filled_and_returned():
    image = images((20, 21), "uint8")
    out = np.full(image.shape, np.nan, np.float32)
    assert gradient_magnitude(image, out=out) is out
    np.testing.assert_array_equal(out, gradient_magnitude(image))
    assert standardized_gradient(image, out=out) is out
    np.testing.assert_array_equal(out, standardized_gradient(image))


def test_bad_arguments_are_refused():
    image = images((6, 5), "float32")
    with pytest.raises(ValueError, match="no operator 'canny'; choose from forward"):
        gradient(image, "canny")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no operator \[\]; choose from forward"):
        gradient(image, [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="both mean and deviation"):
        standardized_gradient(image, mean=1.0)
    with pytest.raises(ValueError, match="deviation positive"):
        standardized_gradient(image, mean=1.0, deviation=0.0)
    with pytest.raises(ValueError, match="overlaps"):
        gradient_magnitude(image, out=image)
    with pytest.raises(ValueError, match="shape"):
        gradient_magnitude(image, out=np.empty((5, 6), np.float32))
    with pytest.raises(TypeError, match="float32"):
        gradient_magnitude(image, out=np.empty((6, 5)))
    closed = np.empty((6, 5), np.float32)
    closed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gradient_magnitude(image, out=closed)
    with pytest.raises(ValueError, match="no backend 'gpu'; choose from auto, cpu, cuda"):
        gradient_magnitude(image, backend="gpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stream is for work on a GPU"):
        gradient_magnitude(image, stream=0)


@pytest.mark.parametrize("function", [gradient_magnitude, standardized_gradient])
def test_out_of_any_layout(function):
    image = images((6, 5), "float32")
    wide = np.full((12, 10), -1, np.float32)
    for out in (np.empty((5, 6), np.float32).T, wide[::2, ::2], wide[-2::-2, -2::-2]):
        assert function(image, out=out) is out
        np.testing.assert_array_equal(out, function(image))
    assert (wide[:, 1::2][1::2] == -1).all()


def test_real_ct_equals_scipy(ct_data):
    image = cv2.imread(str(sorted((ct_data / "polymer").iterdir())[60]), cv2.IMREAD_UNCHANGED)
    wide = image.astype(np.float64)
    expected = np.hypot(*(scipy.ndimage.sobel(wide, axis, mode="nearest") for axis in (0, 1)))
    assert_close(gradient_magnitude(image), expected)


@pytest.mark.parametrize("operator", OPERATORS)
def test_bytes_give_the_bits_of_float32(operator):
    """Their components are of 16 bits, the largest of them where 0 and 255 meet."""
    rng = np.random.default_rng(0)
    image = np.where(rng.random((2, 70, 67)) < 0.5, 0, 255).astype(np.uint8)
    wide = image.astype(np.float32)
    for compute in (gradient_magnitude, standardized_gradient):
        np.testing.assert_array_equal(compute(image, operator), compute(wide, operator))
