"""The versions of this package and of the libraries that a result depends on."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("numpy", "numba", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tifffile", "imagecodecs")


def versions() -> dict[str, str]:
    """Return version by name, without what is not installed."""
    found = {}
    for name in ("eigenfeatures", *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def difference(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return the first library whose versions differ, and both of them; None where all are the same."""
    for name in {**first, **second}:
        ours, theirs = (found.get(name, "not there") for found in (first, second))
        if ours != theirs:
            return name, ours, theirs
    return None
