"""Runs an iterator ahead of time in a thread, with one item in stock: a stage of the running loop.

``queue.Queue`` can be ended by neither side before Python 3.13; here the reader learns of the writer's error
in its turn, and the writer that the reader has gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over ``items`` in a thread; iterating over this gives the same items, in order.

    What the thread raises is raised here, after the items that came before. :meth:`close` ends both sides.

    Args:
        items: touched by the thread alone.
        name: of the thread.
        newest: an item not yet taken gives way to the next one, and counts in ``dropped``; otherwise the
            thread waits until it has been taken.
        on_drop: called with each item that gave way.
        changed: notified of every change; shared by several whose items somebody waits for.
    """

    def __init__(
        self,
        items: Iterable[T],
        name: str,
        *,
        newest: bool = False,
        on_drop: Callable[[T], None] = lambda item: None,
        changed: threading.Condition | None = None,
    ) -> None:
        self.dropped = 0
        self._items = items
        self._newest, self._on_drop = newest, on_drop
        self._stock: list[T] = []
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = changed or threading.Condition()
        # A daemon, since a camera's driver may hold it in a read for as long as it likes
        self._thread = threading.Thread(target=self._work, name=f"rmatk-{name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            items = iter(self._items)
            for item in items:
                if not self._put(item):
                    break
            if isinstance(items, Generator):
                items.close()  # what it holds is given back by the thread that used it
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes the items
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether the item was put into stock; false once closed."""
        with self._changed:
            if self._newest and self._stock:
                self._on_drop(self._stock.pop())
                self.dropped += 1
            self._changed.wait_for(lambda: self._closed or not self._stock)
            if not self._closed:
                self._stock.append(item)
                self._changed.notify_all()
            return not self._closed

    @property
    def ready(self) -> bool:
        """Whether an item, or the end, is there."""
        return bool(self._stock) or self._ended or self._closed

    def take_ready(self) -> list[T] | None:
        """The item that is there, as a list of one; an empty list: none yet; None: it has ended.

        Raises what ended the thread.
        """
        with self._changed:
            if self._stock:
                item = self._stock.pop()
                self._changed.notify_all()
                return [item]
            if self._error is not None and not self._closed:
                raise self._error
            return None if self.ready else []

    def wait(self, seconds: float) -> bool:
        """Wait for the next item or the end, at most so long; whether it has come."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ready, seconds)

    def __iter__(self) -> Iterator[T]:
        """Take items until the last one. Raises what ended the thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.ready)
                if not self._stock:
                    if self._error is not None and not self._closed:
                        raise self._error
                    return
                item = self._stock.pop()
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """End the thread at its next item, and the iteration at once; what is in stock is lost."""
        with self._changed:
            self._closed = True
            self._stock.clear()
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end, at most so long; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
