"""Empty folders for compiled code, so that a full run shows what compiling takes."""

from collections.abc import MutableMapping
from pathlib import Path
from tempfile import mkdtemp

VARIABLES = {"NUMBA_CACHE_DIR": "numba", "TORCHINDUCTOR_CACHE_DIR": "torch"}


def name_empty_caches(environment: MutableMapping[str, str]) -> Path | None:
    """Name new folders in the environment, before Numba is imported.

    Returns
    -------
    Path or None
        The folder of both, to remove in the end; None, and nothing changed, where the
        environment already says where Numba's cache is.
    """
    if "NUMBA_CACHE_DIR" in environment:
        return None
    folder = Path(mkdtemp(prefix="eigenfeatures-compiled-"))
    for variable, name in VARIABLES.items():
        environment.setdefault(variable, str(folder / name))
    return folder
