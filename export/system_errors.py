"""What the operating system says of files, in words that tell what to do."""

import errno
import re
from pathlib import Path

from eigenfeatures.eigen.files import is_temporary

# Rust and NumPy, by which tifffile writes, say it without an error number.
_FULL = re.compile(r"No space left|quota exceeded|\d+ requested and \d+ written", re.IGNORECASE)


def is_full_disk(error: Exception) -> bool:
    """Tell whether an error says that a disk or a quota is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or bool(_FULL.search(str(error)))


def in_words(error: Exception) -> str:
    """Return the message of an error; that of the operating system with the file and a remedy."""
    place = _place(error)
    if is_full_disk(error):
        return f"{place or 'the disk of --out'}: no space is left; free some, or use another --out"
    if isinstance(error, OSError) and place and error.strerror:
        return f"{place}: {error.strerror}; check the path and its permissions, or use another"
    return str(error)


def _place(error: Exception) -> Path | None:
    """Return what the error is about: a folder in place of the file that takes another's place when whole."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    return path.parent if is_temporary(path) else path
