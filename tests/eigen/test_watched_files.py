"""Chunks that are rewritten while a Zarr is read."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from random_volumes import random_images
from zarr_files import SHAPE

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.volumes import open_volume
from eigenfeatures.eigen.watched_files import WatchedFiles

VOLUME = random_images(np.uint8, SHAPE)


def rewrite(file: Path) -> None:
    """Leave the bytes and their number: only the time tells."""
    status = file.stat()
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def cut(file: Path) -> None:
    """Leave the time."""
    status = file.stat()
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = [rewrite, cut, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_a_chunk_that_changes_during_its_reading_is_noticed(
    written: tuple[Path, Path], change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = written
    basic = zarr.Array.get_basic_selection

    def read_and_change(self: Any, *arguments: Any, **options: Any) -> Any:
        found = basic(self, *arguments, **options)
        change(file)
        return found

    with open_volume(path, missing="fill") as stack:
        monkeypatch.setattr(zarr.Array, "get_basic_selection", read_and_change)
        with pytest.raises(InputError, match=f"{file} changed while it was read; wait until it is complete"):
            stack.read(range(9))


def test_a_chunk_that_can_t_be_decoded_as_it_changes_is_told_as_changed(
    written: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = written
    basic = zarr.Array.get_basic_selection

    def change_and_read(self: Any, *arguments: Any, **options: Any) -> Any:
        file.write_bytes(b"half")
        return basic(self, *arguments, **options)

    with open_volume(path) as stack:
        monkeypatch.setattr(zarr.Array, "get_basic_selection", change_and_read)
        with pytest.raises(InputError, match=f"{file} changed while it was read"):
            stack.read(range(9))


@pytest.mark.parametrize("change", CHANGES)
def test_a_chunk_that_changes_between_two_readings_is_noticed(
    written: tuple[Path, Path], change: Callable[[Path], None]
) -> None:
    path, file = written
    with open_volume(path) as stack:
        stack.read([4, 5])
        change(file)
        np.testing.assert_array_equal(stack.read([0, 8]), VOLUME[[0, 8]])
        with pytest.raises(InputError, match=f"{file} changed while it was read"):
            stack.read([6])


@pytest.mark.parametrize("options", [{}, {"axis": 2}, {"every": 2}])
@pytest.mark.parametrize("change", CHANGES)
def test_a_chunk_that_changes_after_its_reading_is_noticed_at_the_end(
    written: tuple[Path, Path], change: Callable[[Path], None], options: dict[str, int]
) -> None:
    path, file = written
    with open_volume(path, **options) as stack:
        stack.read(range(stack.shape[0]))
        stack.check_files()
        change(file)
        stack.check_files(thoroughly=False)  # after each block, when there is no time for all
        with pytest.raises(InputError, match=f"{file} changed while it was read"):
            stack.check_files()


def test_a_chunk_that_comes_is_noticed(written: tuple[Path, Path]) -> None:
    """Its values would differ from those that were filled."""
    path, file = written
    stored = file.read_bytes()
    file.unlink()
    with open_volume(path, missing="fill") as stack:
        stack.read([4])
        file.write_bytes(stored)
        with pytest.raises(InputError, match=f"{file} changed while it was read"):
            stack.read([5])


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_the_clock_of_the_files_may_be_off(written: tuple[Path, Path], shift: int) -> None:
    """As that of a server; and what was written just now is accepted."""
    path, _ = written
    for file in path.rglob("*"):
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + shift * 10**9))
    with open_volume(path) as stack:
        for _ in range(2):
            np.testing.assert_array_equal(stack.read(range(9)), VOLUME)
        stack.check_files()


def test_chunks_that_are_not_read_may_change(written: tuple[Path, Path]) -> None:
    path, file = written
    with open_volume(path) as stack:
        stack.read([0, 8])
        stack.read([0], Region(0, 0, 6, 5))
        rewrite(file)
        stack.check_files()


def test_no_more_files_are_remembered_than_were_asked_for(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).write_text(name)
    watched = WatchedFiles(tmp_path, most=3)
    with watched.reading("ab"):
        pass
    with watched.reading("cd"):  # a is forgotten
        pass
    rewrite(tmp_path / "a")
    watched.check()
    rewrite(tmp_path / "b")
    with pytest.raises(InputError, match="b changed while it was read"):
        watched.check()
    with (
        pytest.raises(InputError, match="a changed"),
        WatchedFiles(tmp_path, most=3).reading("abcde"),  # of one reading all, however many
    ):
        rewrite(tmp_path / "a")


def test_the_files_that_were_read_last_are_remembered(tmp_path: Path) -> None:
    """A file that is read again counts as read last."""
    for name in "abcd":
        (tmp_path / name).write_text(name)
    watched = WatchedFiles(tmp_path, most=3)
    for names in ("abc", "a", "d"):  # b is forgotten
        with watched.reading(names):
            pass
    rewrite(tmp_path / "b")
    watched.check()
    rewrite(tmp_path / "a")
    with pytest.raises(InputError, match="a changed while it was read"):
        watched.check()


def test_reading_doesn_t_go_through_all_that_is_remembered(tmp_path: Path) -> None:
    class Counted(dict[str, Any]):
        steps = 0

        def __iter__(self) -> Iterator[str]:
            for name in super().__iter__():
                Counted.steps += 1
                yield name

    watched = WatchedFiles(tmp_path, most=300)
    watched._versions = Counted()
    with watched.reading([str(k) for k in range(300)]):
        pass
    for k in range(20):
        with watched.reading([str(k)]):
            pass
    assert Counted.steps == 0
    with watched.reading(["further"]):
        pass
    assert Counted.steps == 1


def test_a_file_that_can_t_be_looked_at_any_more_has_changed(tmp_path: Path) -> None:
    """As a link that leads to itself, or what a server has lost or keeps to itself."""
    (tmp_path / "a").write_text("a")
    watched = WatchedFiles(tmp_path)
    with watched.reading("a"):
        pass
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(InputError, match="a changed while it was read"):
        watched.check()


def test_threads_may_share_them(tmp_path: Path) -> None:
    names = [str(number) for number in range(40)]
    for name in names:
        (tmp_path / name).write_text(name)
    watched = WatchedFiles(tmp_path, most=7)

    def read(first: int) -> None:
        with watched.reading(names[first : first + 9]):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [k % 31 for k in range(400)]))
    watched.check()
