"""Tensors in, the same numbers in tensors out; NumPy decides what they are."""

import numpy as np
import pytest
import torch

from eigenfeatures.kernels import (
    gradient,
    gradient_magnitude,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

RESPONSES = np.random.default_rng(0).normal(size=(2, 5, 9, 8)).astype(np.float32)


def parts(result):
    """The arrays of a result, by name or place."""
    if isinstance(result, np.ndarray | torch.Tensor):
        return {"": result}
    return vars(result) if not isinstance(result, tuple) else dict(enumerate(result))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    "function",
    [
        gradient,
        gradient_magnitude,
        slice_statistics,
        standardized_gradient,
        stretch_contrast,
        strongest_channel,
        truncated_svd,
    ],
)
def test_tensors_give_tensors_with_the_numbers_of_numpy(function, dtype):
    images = (100 * RESPONSES).astype(dtype)
    tensor = torch.from_numpy(images.copy())
    found, expected = parts(function(tensor)), parts(function(images))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind in "iuf":
            assert isinstance(found[name], torch.Tensor), name
            np.testing.assert_array_equal(found[name].numpy(), value)
        else:
            assert found[name].tolist() == value.tolist()
    assert torch.equal(tensor, torch.from_numpy(images))


def test_out_is_filled_and_returned():
    tensor = torch.from_numpy(RESPONSES[0, 0])
    for images in (tensor, RESPONSES[0, 0]):
        out = torch.empty(9, 8)
        assert gradient_magnitude(images, out=out) is out
        np.testing.assert_array_equal(out.numpy(), gradient_magnitude(RESPONSES[0, 0]))


def test_strides_and_keywords_of_tensors():
    tensor = torch.from_numpy(RESPONSES).permute(0, 1, 3, 2)[..., ::2]
    found = truncated_svd(responses=tensor, start=torch.ones(5))
    np.testing.assert_array_equal(found.s.numpy(), truncated_svd(tensor.numpy(), start=np.ones(5)).s)


class Producer:
    """An array of a library that has nothing but DLPack, on a device of choice."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.device, 0)


def test_a_producer_without_a_consumer_gets_numpy_arrays():
    found = gradient_magnitude(Producer(RESPONSES.copy()))
    np.testing.assert_array_equal(found, gradient_magnitude(RESPONSES))


def test_arrays_on_a_gpu_are_refused():
    with pytest.raises(TypeError, match="lies on a GPU, and this version computes on the CPU"):
        gradient_magnitude(Producer(RESPONSES, device=2))


def test_arrays_that_are_not_handed_out_or_mixed_are_refused():
    with pytest.raises(TypeError, match="the array of torch can't be read by DLPack"):
        gradient_magnitude(torch.ones(4, 4, requires_grad=True))
    with pytest.raises(TypeError, match="the array of torch can't be read by DLPack"):
        gradient_magnitude(torch.ones(4, 4, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="are mixed; give those of one library"):
        gradient_magnitude(torch.ones(4, 4), out=Producer(np.empty((4, 4), np.float32)))
