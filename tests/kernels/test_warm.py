"""Compiling ahead: what `warm` has compiled, no later process compiles again."""

import os
import subprocess
import sys

import numpy as np
import pytest

from eigenfeatures.kernels.__main__ import main
from eigenfeatures.kernels.warm import warm

# Shapes, ranks and options other than those that were compiled with, by serial and parallel builds: small
# arrays have the serial one with all threads, too.
USE = """
import numba
import numpy as np
from eigenfeatures.kernels import *
from eigenfeatures.kernels.warm import _counts

rng = np.random.default_rng(0)
for threads in (1, numba.get_num_threads()):
    numba.set_num_threads(threads)
    for dtype in DTYPES:
        images = (rng.random((2, 2, 200, 100)) * 200).astype(dtype)
        for operator in ("sobel", "forward"):
            gradient(images[..., ::2], operator)
            gradient_magnitude(images, operator, out=np.empty(images.shape, gradient_magnitude(images).dtype))
            standardized_gradient(images.swapaxes(-1, -2), operator, mean=1.0, deviation=2.0)
            standardized_gradient(np.tile(images, (1, 1, 4, 4)), operator)
            slice_statistics(images, operator)
            slice_statistics(0 * images, operator)
        gradient_magnitude(images[..., :9, :9])
        stretch_contrast(images)
        responses = (rng.random((3, 9, 90, 90)) * 200).astype(dtype)
        strongest_channel(responses[:, ::-1])
        gram(responses)
        gram(responses[:, :, :20, :20])
        gram(np.tile(responses[:, :, :20, :20], (20, 1, 1, 1)))
        truncated_svd(responses, start=np.ones(9))
        for rank in (1, 2, 5, 9):
            for center in (False, True):
                for max_passes in (None, 0, 50):
                    truncated_svd(responses, rank, center=center, max_passes=max_passes)
        truncated_svd(responses[..., :2, :2], 3)
        if responses.dtype.kind == "f":
            large = responses * responses.dtype.type(1e30 if dtype == "float32" else 1e100)
            for rank in (1, 4):
                gram(large)
                truncated_svd(large, rank)
                truncated_svd(np.full_like(responses, np.nan), rank)
                truncated_svd(0 * responses, rank)
            decaying = responses * np.logspace(0, -4, 9, dtype=dtype)[:, np.newaxis, np.newaxis]
            truncated_svd(decaying, 8)
        for rank in (1, 4):
            for center in (False, True):
                stream = StreamingSVD(rank, center=center)
                stream.add(responses[..., :7])
                stream.add(responses[..., 7:])
                stream.left(responses)
compiled, from_cache = _counts("cpu")
assert compiled == 0, [(d.py_func.__qualname__, list(d.stats.cache_misses)) for d in _dispatchers("cpu")
                       if d.stats.cache_misses]
assert from_cache > 20, from_cache
"""


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )


@pytest.mark.parametrize(
    "dtypes",
    ["uint8", pytest.param("uint8,uint16,float32,float64", marks=pytest.mark.slow)],
)
def test_what_was_compiled_ahead_is_not_compiled_again(dtypes):
    first = python("-m", "eigenfeatures.kernels", "warm", "--dtypes", dtypes)
    assert first.returncode == 0, first.stderr
    again = python("-m", "eigenfeatures.kernels", "warm", "--dtypes", dtypes)
    *lines, total, where = again.stdout.splitlines()
    assert total.startswith(f"0 compiled for {dtypes.replace(',', ', ')} in ")
    assert where.startswith("The cache lies in ")
    assert len(lines) == 8
    script = USE.replace("DTYPES", repr(dtypes.split(",")))
    used = python("-c", f"from eigenfeatures.kernels.warm import _dispatchers\n{script}")
    assert used.returncode == 0, used.stderr


def test_an_empty_cache_is_seen(tmp_path):
    """The negative control: kernels that aren't in the cache count as compiled, and then are in it."""
    script = """
from eigenfeatures.kernels.warm import cache_folder, warm
print(*next(warm(["uint8"]))[:3])
print(cache_folder())
"""
    counts = [python("-c", script, NUMBA_CACHE_DIR=str(tmp_path)).stdout.splitlines() for _ in range(2)]
    (name, compiled, loaded), (_, compiled_again, loaded_again) = (lines[0].split() for lines in counts)
    assert name == "gradient"
    assert (int(compiled) > 2, int(loaded)) == (True, 0)  # two builds and their helpers
    assert (int(compiled_again), int(loaded_again)) == (0, 2)
    assert counts[0][1].startswith(str(tmp_path))


def test_bad_arguments_are_refused(capsys):
    for arguments, message in (
        ((), "required: command"),
        (("warm", "--dtypes", "int8"), "no type 'int8'; choose from uint8,uint16,float32,float64"),
    ):
        with pytest.raises(SystemExit) as refused:
            main(arguments)
        assert refused.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtypes", "error", "message"),
    [
        ("uint8", TypeError, r"dtypes is 'uint8'; give a sequence, such as \('uint8',\)"),
        (
            ["uint8", "int32"],
            ValueError,
            "no type 'int32' in dtypes; choose from uint8, uint16, float32, float64",
        ),
        ([np.uint8], ValueError, "no type <class 'numpy.uint8'> in dtypes; choose from uint8"),
    ],
)
def test_types_that_are_none_of_those_are_refused(dtypes, error, message):
    with pytest.raises(error, match=f"^{message}"):
        next(warm(dtypes))


def test_a_gpu_that_is_missing_is_one_line():
    result = python("-m", "eigenfeatures.kernels", "warm", "--cuda", CUDA_VISIBLE_DEVICES="")
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "GPU" in result.stderr or "CUDA" in result.stderr
