"""The current result, passed from the loop's thread to any number of viewers: one slot, no queue.

A viewer asks for what is newer than what it shows. Who is slow, or gone, misses pictures and holds up
nobody: the loop replaces the slot and goes on, and a picture is compressed only when someone asks for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.jpeg import encode_jpeg
from rmatk_runtime.sinks.whole import Gathering, Looked

LONGEST_SIDE = 960  # of the pictures sent: enough for a page; snapshots keep every pixel


@dataclass(frozen=True)
class Shown:
    """A picture with what was seen on it; ``number`` counts the pictures of all cameras from 1."""

    number: int
    looked: Looked

    @property
    def frame(self) -> Frame:
        """The frame of the picture."""
        return self.looked.frame

    def as_record(self) -> dict[str, Any]:
        """The record of its last result, and each region with its box as shares of the picture."""
        height, width = self.frame.image.shape[:2]
        regions = []
        for region, prediction in self.looked.results:
            if region is not None:
                left, top, wide, high = region.box
                box = left / width, top / height, wide / width, high / height
                record = prediction.as_record(self.frame)
                regions.append(
                    {"name": region.name, "box": [round(share, 5) for share in box]}
                    | {key: record[key] for key in ("label", "rejected", "top")}
                )
        result = self.looked.results[-1][1].as_record(self.frame)
        return {"number": self.number, **result, "regions": regions}


class Live:
    """The newest picture of each camera.

    :meth:`put` and :meth:`close` are for any thread, the rest for the server's.
    """

    def __init__(self) -> None:
        self.closed = False
        self._gathering = Gathering()
        self._newest: dict[str | None, Shown] = {}  # by camera; None: of all
        self._server: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._pictures: dict[str, tuple[int, asyncio.Task[bytes]]] = {}

    def newest(self, camera: str | None = None) -> Shown | None:
        """The newest picture of a camera, or of all."""
        return self._newest.get(camera)

    def put(self, frame: Frame, prediction: Prediction) -> None:
        """Take the place of the picture before, once its last result has come."""
        if (looked := self._gathering.add(frame, prediction)) is not None:
            last = self._newest.get(None)
            shown = Shown(1 if last is None else last.number + 1, looked)
            self._newest[frame.camera] = self._newest[None] = shown
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

    async def after(self, number: int, seconds: float, camera: str | None = None) -> Shown | None:
        """A camera's newest picture if it is not ``number``, or the first within so many seconds."""
        self._server = asyncio.get_running_loop()
        end = self._server.time() + seconds
        while not self.closed:
            future = self._server.create_future()
            self._waiting.add(future)  # before looking, or a result in between would not wake it
            try:
                if (newest := self.newest(camera)) is not None and newest.number != number:
                    return newest
                if (left := end - self._server.time()) <= 0:
                    return None
                await asyncio.wait((future,), timeout=left)
            finally:
                self._waiting.discard(future)
        return None

    async def jpeg(self, shown: Shown) -> bytes:
        """The picture as JPEG, compressed once for all who show it."""
        camera = shown.frame.camera
        if camera not in self._pictures or self._pictures[camera][0] != shown.number:
            work = asyncio.to_thread(encode_jpeg, shown.frame.image, quality=80, longest=LONGEST_SIDE)
            self._pictures[camera] = (shown.number, asyncio.create_task(work))
        # A viewer that leaves must not cancel the work that others wait for
        return await asyncio.shield(self._pictures[camera][1])
