"""Sessions of ONNX Runtime that print nothing and never change to another device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime


def session_options() -> Any:
    """Return options for a session that warns of nothing: errors are raised, not logged."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def open_session(
    model: Path | bytes, options: Any = None, providers: Sequence[Any] = ("CPUExecutionProvider",)
) -> Any:
    """Open a file or the bytes of one, by default on the CPU.

    Where that fails, ONNX Runtime would print so to standard output, which is for results, and try the CPU.
    """
    options = session_options() if options is None else options
    session = onnxruntime.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    # Else it keeps the bytes, beside the weights that it made of them, for a change of providers.
    session._model_bytes = None
    return session
