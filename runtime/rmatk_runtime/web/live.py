"""The current result, passed from the loop's thread to any number of viewers: one slot, no queue.

A viewer asks for what is newer than what it shows. Who is slow, or gone, misses pictures and holds up
nobody: the loop replaces the slot and goes on, and a picture is compressed only when someone asks for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.jpeg import encode_jpeg

LONGEST_SIDE = 960  # of the pictures sent: enough for a page; snapshots keep every pixel


@dataclass(frozen=True)
class Shown:
    """A result; ``number`` counts them from 1."""

    number: int
    frame: Frame
    prediction: Prediction


class Live:
    """The newest result. :meth:`put` and :meth:`close` are for any thread, the rest for the server's."""

    def __init__(self) -> None:
        self.newest: Shown | None = None
        self.closed = False
        self._server: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._picture: tuple[int, asyncio.Task[bytes]] | None = None

    def put(self, frame: Frame, prediction: Prediction) -> None:
        """Take the place of the result before."""
        self.newest = Shown(self.newest.number + 1 if self.newest else 1, frame, prediction)
        self._call()

    def close(self) -> None:
        """Let everyone who waits go."""
        self.closed = True
        self._call()

    def _call(self) -> None:
        server = self._server
        if self._waiting and server is not None and not server.is_closed():
            server.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def after(self, number: int, seconds: float) -> Shown | None:
        """The newest result if it is not ``number``, or the first that comes within so many seconds."""
        self._server = asyncio.get_running_loop()
        end = self._server.time() + seconds
        while not self.closed and self._server.time() < end:
            future = self._server.create_future()
            self._waiting.add(future)  # before looking, or a result in between would not wake it
            try:
                if (newest := self.newest) is not None and newest.number != number:
                    return newest
                await asyncio.wait((future,), timeout=end - self._server.time())
            finally:
                self._waiting.discard(future)
        return None

    async def jpeg(self, shown: Shown) -> bytes:
        """The picture as JPEG, compressed once for all who show it."""
        if self._picture is None or self._picture[0] != shown.number:
            work = asyncio.to_thread(encode_jpeg, shown.frame.image, quality=80, longest=LONGEST_SIDE)
            self._picture = (shown.number, asyncio.create_task(work))
        # A viewer that leaves must not cancel the work that others wait for
        return await asyncio.shield(self._picture[1])
