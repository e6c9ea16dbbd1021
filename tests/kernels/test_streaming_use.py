"""Streaming SVD in use: spoilt parts, several workers, wrong order, memory, tensors."""

import functools
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from spectra import HEIGHT, WIDTH, rectified
from streams import assert_refused_whole, streamed

from eigenfeatures.kernels.streaming import StreamingSVD

TOL = 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("center", [False, True])
def test_a_part_with_an_invalid_value_is_refused_whole(bad, center):
    assert_refused_whole(rectified(0), rectified(1), bad, center)


def test_second_pass_far_beyond_the_first_is_refused():
    stream = StreamingSVD()
    stream.add(np.ones((2, 3, 3), np.float32))
    with pytest.raises(ValueError, match="values far beyond those of the first pass"):
        stream.left(np.full((2, 3, 3), 3e38, np.float32))


@pytest.mark.parametrize("center", [False, True])
def test_workers_are_merged(center):
    """Each worker has its own parts in both passes, one of them none; objects travel by pickle."""
    slices = [rectified(seed) for seed in range(5)]
    shares = [slices[:2], slices[2:], []]
    workers = [StreamingSVD(2, center=center) for _ in shares]
    for worker, share in zip(workers, shares, strict=True):
        for maps in share:
            worker.add(maps)
    total = functools.reduce(merged, workers, StreamingSVD(2, center=center))
    svd = total.finish()
    u, whole, _ = streamed(StreamingSVD(2, center=center), [slices])
    np.testing.assert_allclose(svd.s, whole.s, rtol=1e-13)
    np.testing.assert_allclose(svd.energy, whole.energy, rtol=1e-13)
    copies = [sent(total) for _ in shares]
    pieces = [copy.left(maps) for copy, share in zip(copies, shares, strict=True) for maps in share]
    np.testing.assert_allclose(np.block(pieces), u, atol=1e-6)
    assert functools.reduce(merged, copies, total).residual <= TOL


def merged(one: StreamingSVD, other: StreamingSVD) -> StreamingSVD:
    one.merge(sent(other))
    return one


def sent(stream: StreamingSVD) -> StreamingSVD:
    copy: StreamingSVD = pickle.loads(pickle.dumps(stream))  # noqa: S301 - our own, made on this line
    return copy


# A cluster in small: processes start afresh, get pickled objects and give pickled objects back.
PROCESSES = """
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from eigenfeatures.kernels.streaming import StreamingSVD

def responses(seed):
    return np.random.default_rng(seed).random((6, 40, 50), np.float32)

def first_pass(stream, seed):
    stream.add(responses(seed))
    return stream

def second_pass(stream, seed):
    return stream.left(responses(seed)), stream

def merged(one, other):
    one.merge(other)
    return one

if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        streams = pool.map(functools.partial(first_pass, StreamingSVD(2)), range(4))
        total = functools.reduce(merged, streams)
        svd = total.finish()
        pieces, streams = zip(*pool.map(functools.partial(second_pass, total), range(4)))
    residual = functools.reduce(merged, streams).residual
    assert residual < 1e-5, residual
    rows = np.concatenate([responses(seed).reshape(6, -1) for seed in range(4)], axis=1)
    expected = np.linalg.svd(rows, full_matrices=False)[1]
    assert np.allclose(svd.s, expected[:2], rtol=1e-6)
    assert abs(np.linalg.norm(np.stack(pieces)[:, 0]) - 1) < 1e-6
"""


def test_processes(tmp_path):
    script = tmp_path / "cluster.py"
    script.write_text(PROCESSES, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, script], env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_streams_that_do_not_belong_together_are_refused():
    def added(maps, **options):
        stream = StreamingSVD(**options)
        stream.add(maps)
        return stream

    maps = rectified()
    with pytest.raises(ValueError, match="differ in rank or centring"):
        added(maps).merge(added(maps, rank=2))
    with pytest.raises(ValueError, match="differ in rank or centring"):
        added(maps).merge(added(maps, center=True))
    with pytest.raises(ValueError, match="responses have 3 channels, and those before 24"):
        added(maps).merge(added(maps[:3]))
    finished, other = added(maps), added(rectified(1))
    finished.finish()
    for one, two in ((finished, other), (other, finished)):
        with pytest.raises(ValueError, match="only one of the two streams has finished"):
            one.merge(two)
    other.finish()
    with pytest.raises(ValueError, match="were finished apart"):
        finished.merge(other)


def test_wrong_order_and_wrong_shapes_are_refused():
    maps = rectified()
    with pytest.raises(ValueError, match="rank 0 is out of range"):
        StreamingSVD(0)
    stream = StreamingSVD(3)
    for call in (stream.finish, lambda: stream.left(maps)):
        with pytest.raises(ValueError, match="nothing was added yet"):
            call()
    with pytest.raises(ValueError, match="the second pass went over 0 pixels of the 0"):
        _ = stream.residual
    with pytest.raises(ValueError, match="rank 3 is out of range; give 1 to 2, the channels"):
        stream.add(maps[:2])
    with pytest.raises(ValueError, match="responses has 2 axes"):
        stream.add(maps[0])
    with pytest.raises(TypeError, match="responses holds complex64"):
        stream.add(maps.astype(np.complex64))
    stream.add(maps)
    for call in (stream.add, stream.left):
        with pytest.raises(ValueError, match="responses have 23 channels, and those before 24"):
            call(maps[1:])
    stream.left(maps[:, :5])
    with pytest.raises(ValueError, match=f"went over {5 * WIDTH} pixels of the {HEIGHT * WIDTH}"):
        _ = stream.residual
    with pytest.raises(ValueError, match="the first pass is finished"):
        stream.add(maps)


def test_parts_on_a_gpu_are_not_moved_to_the_host():
    """Where nothing can compute there, that is said; tests/kernels/cuda has what is computed."""

    class OnGPU:
        def __dlpack__(self, **_options):
            raise AssertionError

        def __dlpack_device__(self):
            return 2, 99

    stream = StreamingSVD()
    stream.add(rectified())
    for call in (stream.add, stream.left):
        with pytest.raises(OSError, match=r"work on a GPU needs more packages|no CUDA device"):
            call(OnGPU())
    assert stream.finish().pixels == HEIGHT * WIDTH


def test_finish_gives_the_same_again():
    stream = StreamingSVD(2)
    stream.add(rectified())
    first = stream.finish()
    stream.left(rectified())
    again = stream.finish()
    np.testing.assert_array_equal(again.s, first.s)
    np.testing.assert_array_equal(again.v, first.v)
    first.s[:], first.v[:] = 5, 5  # the caller's own
    assert stream.finish().s[0] == again.s[0]


def test_memory_is_that_of_a_tile():
    """40 tiles of 2.5 MB, made when they are needed."""
    shape = (16, 100, 400)

    def tile(seed):
        return np.random.default_rng(seed).random(shape, np.float32)

    def both_passes(count):
        stream = StreamingSVD(2)
        for seed in range(count):
            stream.add(tile(seed))
        for seed in range(count):
            stream.left(tile(seed))
        return stream.residual

    both_passes(1)
    size = tile(0).nbytes
    tracemalloc.start()
    assert both_passes(40) <= TOL
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * size


def test_tensors_give_tensors():
    maps = rectified()
    expected, svd, _ = streamed(StreamingSVD(2), [[maps]])
    stream = StreamingSVD(2)
    stream.add(torch.from_numpy(maps))
    u = stream.left(torch.from_numpy(maps))
    assert isinstance(u, torch.Tensor)
    np.testing.assert_array_equal(u.numpy(), expected)
    np.testing.assert_array_equal(stream.finish().s, svd.s)


def test_streams_that_were_finished_apart_are_not_merged():
    """Of one channel, all have the same right vector."""
    streams = [StreamingSVD() for _ in range(2)]
    for factor, stream in enumerate(streams, 1):
        stream.add(factor * np.ones((1, 3, 4), np.float32))
        stream.finish()
    with pytest.raises(ValueError, match="finished apart"):
        streams[0].merge(streams[1])
    with pytest.raises(TypeError, match="give a StreamingSVD"):
        streams[0].merge(None)
    with pytest.raises(ValueError, match="the stream itself"):
        streams[0].merge(streams[0])


def test_a_part_that_is_refused_does_not_end_the_first_pass():
    stream = StreamingSVD()
    stream.add(rectified())
    with pytest.raises(ValueError, match="channels"):
        stream.left(rectified()[:-1])
    stream.add(rectified())
    assert stream.finish().pixels == 2 * HEIGHT * WIDTH
