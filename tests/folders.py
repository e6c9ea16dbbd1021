"""What folders hold, compared byte by byte."""

from collections.abc import Iterable
from pathlib import Path


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by its name below a folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def assert_same_files(folder: Path, other: Path, names: Iterable[str]) -> None:
    """Compare these files of two folders."""
    for name in names:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
