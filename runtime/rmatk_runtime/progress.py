"""Progress callbacks for long operations; nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

OnStep = Callable[[str, int, int], None]  # what is being done, how much of it is, and of how much
_Item = TypeVar("_Item")


def unheard(what: str, done: int, total: int) -> None:
    """An ``OnStep`` for nobody."""


def counted(what: str, items: Collection[_Item], on_step: OnStep) -> Iterator[_Item]:
    """Yield the items; before the first, and after each is worked off, say how many are."""
    on_step(what, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        on_step(what, done, len(items))
