"""Where compiled kernels lie, and which files they are made of."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba

_PACKAGE = "eigenfeatures.kernels"
_ROOT = Path(__file__).parents[1]
_IMPORT = re.compile(rf"^from ({re.escape(_PACKAGE)}[\w.]*) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)


@contextmanager
def own_folder() -> Iterator[None]:
    """Let Numba cache what is decorated in the block in a folder of the user's, unless a variable names one.

    Not beside the source, where Numba would: what pip does not know of stays behind when it uninstalls,
    and such a folder hides an editable installation that follows.
    """
    config: Any = numba.config
    given = config.CACHE_DIR
    config.CACHE_DIR = given or _folder()
    try:
        yield
    finally:
        config.CACHE_DIR = given


def _folder() -> str:
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return ""
    return str(caches / "eigenfeatures" / "numba")


def notice_imports(compiled: Any, source: str) -> None:
    """Let Numba compile a cached function anew when any file has changed that its source imports from here.

    By itself Numba looks at the function's own file, so that it would go on with old helpers and constants.
    """
    file: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        file._source_stamp = (file._source_stamp, digest(source))


@cache
def digest(source: str) -> str:
    """Return a hash of a file and of all files of this package that it imports, and they import."""
    found, left = {}, [Path(source)]
    while left:
        file = left.pop()
        if file not in found and file.is_file():
            found[file] = _read(file)
            left += _imported(found[file])
    texts = [f"{file.name}\n{found[file]}" for file in sorted(found)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _imported(text: str) -> Iterator[Path]:
    """Yield the files that a text imports names from, and those that the names may stand for."""
    for module, several, one in _IMPORT.findall(text):
        place = _ROOT.joinpath(*module.removeprefix(_PACKAGE).split(".")[1:])
        yield place.with_suffix(".py")
        yield from (place / f"{name}.py" for name in re.findall(r"\w+", several or one))
