"""The one progress callback of long operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is in all."""
_Item = TypeVar("_Item")


def no_progress(what: str, done: int, total: int) -> None:
    """An ``OnProgress`` that does nothing."""


def counted(what: str, items: Collection[_Item], on_progress: OnProgress) -> Iterator[_Item]:
    """Yield the items; report before the first, and after each has been processed."""
    on_progress(what, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        on_progress(what, done, len(items))
