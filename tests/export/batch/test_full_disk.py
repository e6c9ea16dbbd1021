"""A disk that fills up while the chunks of a volume are written."""

import errno
import os
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
import zarr
from commands import random_stack
from fake_engine import run_job
from folders import content

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.grid import Grid
from eigenfeatures.export.batch.zarr_volume import ZarrVolume

FULL = ": no space is left; free some and go on with --resume, or use another --out"


@pytest.fixture
def stack(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", random_stack((24, 40, 40)), photometric="minisblack")
    return tmp_path / "scan.tif"


@contextmanager
def a_disk_that_is_full_at_chunk(number, monkeypatch, code=errno.ENOSPC):
    """Chunks of volumes are counted; half of the bytes of this one and the later are written."""
    local, written = zarr.storage._local, []
    put = local._put

    def fill_up(path, value, *arguments, **options):
        if path.name == "zarr.json":
            return put(path, value, *arguments, **options)
        written.append(path)
        if len(written) <= number:
            return put(path, value, *arguments, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        with local._atomic_write(path, "wb") as file:
            file.write(bytes(value.as_buffer_like())[: len(value) // 2])
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(local, "_put", fill_up)
        yield written


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EIO, " can't be written .*; check the folder$")],
)
def test_the_volume_is_named_and_no_half_chunk_is_left(code, reason, tmp_path, monkeypatch):
    volume = ZarrVolume(tmp_path / "v.ome.zarr", (2, 6, 30, 30), 3, Grid((1, 1, 1), (0, 0, 0), False))
    maps = np.random.default_rng(1).normal(size=(3, 2, 30, 30)).astype(np.float32)
    volume.write(0, maps)
    before = content(tmp_path)
    with (
        a_disk_that_is_full_at_chunk(1, monkeypatch, code),
        pytest.raises(InputError, match=rf"v\.ome\.zarr{reason}") as refusal,
    ):
        volume.write(3, maps)
    assert "\n" not in str(refusal.value)
    whole = {name: data for name, data in content(tmp_path).items() if name not in before}
    volume.write(3, maps)
    after = content(tmp_path)
    assert {name: after.get(name) for name in (*before, *whole)} == {**before, **whole}, "all that was there"
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "v.ome.zarr" / "0", mode="r")[:, 3:], np.moveaxis(maps, 1, 0)
    )


def test_a_job_goes_on_to_the_same_bytes_when_there_is_space_again(stack, tmp_path, monkeypatch):
    monkeypatch.setattr("eigenfeatures.export.batch.plan.MOST_BATCHES", 1)
    run_job(stack, tmp_path / "whole", batch=4)
    with (
        a_disk_that_is_full_at_chunk(3, monkeypatch) as written,
        pytest.raises(InputError, match=rf"eigenfeatures/scan\.ome\.zarr{FULL}$"),
    ):
        run_job(stack, tmp_path / "out", batch=4)
    assert len(written) > 3
    assert not (tmp_path / "out" / "slices.csv").exists()
    done = (tmp_path / "out" / "journal.txt").read_text().splitlines()
    assert 0 < len(done) <= 3, "as many blocks at most as chunks were written"
    said = []
    run_job(stack, tmp_path / "out", batch=4, resume=True, say=said.append)
    assert any(f"{len(done)} of 6 blocks are done already" in line for line in said)
    volumes = [content(tmp_path / name / "eigenfeatures") for name in ("out", "whole")]
    assert volumes[0] == volumes[1]
    tables = [(tmp_path / name / "slices.csv").read_bytes() for name in ("out", "whole")]
    assert tables[0] == tables[1]
