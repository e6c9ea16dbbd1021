"""What leaves the method: ONNX graphs, batch inference, reports and the command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eigenfeatures.export.batch.api import Block, infer
    from eigenfeatures.export.batch.source import Reading

__all__ = ["Block", "Reading", "infer"]


def __getattr__(name: str) -> Any:
    """Load what needs torch and ONNX Runtime only when it is used."""
    if name in __all__:
        from eigenfeatures.export.batch import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
