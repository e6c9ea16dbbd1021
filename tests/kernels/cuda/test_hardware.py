"""What only real hardware shows: the order of work on streams."""

import numpy as np
import pytest

from eigenfeatures.kernels import gradient_magnitude, standardized_gradient

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("function", [gradient_magnitude, standardized_gradient])
@pytest.mark.parametrize("given", ["current", "argument"])
def test_work_goes_to_the_callers_stream(function, given):
    """The slices are written late on a stream; computed elsewhere, the result would be of zeros."""
    import cupy

    host = (np.random.default_rng(0).random((8, 200, 200)) * 255).astype(np.uint8)
    values, images = cupy.asarray(host), cupy.zeros(host.shape, np.uint8)
    slow = cupy.ones((4096, 4096), np.float32)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(20):
            slow = slow @ slow * 0
        images[...] = values + slow[0, 0].astype(np.uint8)
        if given == "current":
            result = function(images)
    if given == "argument":
        result = function(images, stream=stream)
    stream.synchronize()
    np.testing.assert_allclose(cupy.asnumpy(result), function(host), rtol=1e-5, atol=1e-5)
