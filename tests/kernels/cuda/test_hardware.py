"""What only real hardware shows: the order of work on streams."""

import numpy as np
import pytest

from eigenfeatures.kernels import StreamingSVD, gradient_magnitude, standardized_gradient

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


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_streaming_svd_of_parts_on_the_callers_stream(library):
    """The parts are written late on a stream, and what is made of them stays on the device."""
    import cupy

    module = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("a torch without CUDA")
    host = np.random.default_rng(0).random((3, 16, 120, 110)).astype(np.float32)
    values, parts = cupy.asarray(host), cupy.zeros(host.shape, np.float32)
    slow = cupy.ones((4096, 4096), np.float32)
    cupy.cuda.Device().synchronize()
    late = cupy.cuda.Stream(non_blocking=True)
    with late, module.cuda.stream(module.cuda.ExternalStream(late.ptr)) if library == "torch" else late:
        for _ in range(20):
            slow = slow @ slow * 0
        parts[...] = values + slow[0, 0]
        given = parts if library == "cupy" else module.from_dlpack(parts)
        stream = StreamingSVD(2)
        for part in given:
            stream.add(part)
        pieces = [stream.left(part) for part in given]
    late.synchronize()
    assert all(type(piece) is type(given) for piece in pieces)
    expected = StreamingSVD(2)
    expected.add(host)
    np.testing.assert_allclose(stream.finish().s, expected.finish().s, rtol=1e-12)
    found = np.stack([cupy.asnumpy(cupy.from_dlpack(piece)) for piece in pieces])
    np.testing.assert_allclose(found, expected.left(host), atol=1e-6)
    assert stream.residual <= 1e-5
