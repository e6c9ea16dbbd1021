"""How long work is told of."""

from collections.abc import Callable
from dataclasses import dataclass

from eigenfeatures.eigen.progress import Track


@dataclass(frozen=True)
class Talk:
    """How a step tells what it does: a loop's progress, and single lines."""

    track: Track
    say: Callable[[str], None]
