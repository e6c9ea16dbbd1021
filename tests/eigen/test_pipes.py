"""Pipes and devices in place of files: one may never open, the other never end."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.volumes import open_volume

RAW = {"shape": (2, 3, 4), "dtype": "uint8"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("name", ["v.tif", "v.npy", "v.raw", "v.h5", "v.unknown"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str, linked: bool) -> None:
    pipe = tmp_path / ("pipe" if linked else name)
    os.mkfifo(pipe)
    if linked:
        (tmp_path / name).symlink_to(pipe)
    release = threading.Timer(5, lambda: os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK)))
    release.start()  # who waits for the pipe gets an empty file, and the test fails in place of hanging
    try:
        with pytest.raises(
            InputError, match=rf"{name}: is no regular file; copy the data into one"
        ) as refusal:
            open_volume(tmp_path / name, **(RAW if name == "v.raw" else {}))
    finally:
        release.cancel()
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such device")
@pytest.mark.parametrize("name", ["v.tif", "v.npy"])
def test_a_device_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is no regular file"):
        open_volume(tmp_path / name)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "v.npy", volume)
    (tmp_path / "link.npy").symlink_to(tmp_path / "v.npy")
    with open_volume(tmp_path / "link.npy") as stack:
        np.testing.assert_array_equal(stack.read([0, 1]), volume)
