"""How long work tells its caller how far it is, without knowing about terminals."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Pass the items of a loop through, one by one, and show them as they go."""

    def __call__(self, items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
        """Yield `items`, `total` in number, under a `description` for people."""
        ...


def silent(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:  # noqa: ARG001
    """Pass the items through and show nothing."""
    return items
