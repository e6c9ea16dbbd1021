"""The versions of this package and of the libraries that a result depends on."""

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
