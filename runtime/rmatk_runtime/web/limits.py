"""What requests may take together: memory for bodies, time, attempts at the token, one picture at a time.

The server runs beside an inference loop on a small device, and must not be what stops it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

MOST_BYTES = 16 << 20
"""The largest body that is read."""
BODIES = 64 << 20
"""Bytes of all bodies together; requests beyond are refused with 503."""
BODY_SECONDS = 20.0
"""Seconds in which a body must have arrived."""
MOST_PIXELS = 13_000_000
"""Pixels of a picture that is sent: those of most phones. Larger ones would take too much memory."""
QUEUE = 16
"""Pictures that wait for their turn; further ones are refused with 503."""
ATTEMPTS = 10
"""Wrong tokens per address and minute; then 429."""
_ADDRESSES = 1000
_AGAIN = {"Retry-After": "5"}

T = TypeVar("T")


class Bodies:
    """Counts the bytes of the bodies that are in memory."""

    def __init__(self) -> None:
        self.held = 0

    def limited(self, receive: Receive, declared: str = "") -> tuple[Receive, Callable[[], None]]:
        """``receive`` that fails beyond the limits, and what must be called when the request is done.

        ``declared``: the header ``Content-Length``; such a body is counted, and refused, before it arrives.
        """
        size, complete, deadline = 0, False, time.monotonic() + BODY_SECONDS
        expected = int(declared) if declared.isdecimal() else 0
        self.held += min(expected, MOST_BYTES)
        counted = min(expected, MOST_BYTES)

        async def limited() -> Message:
            nonlocal size, complete, counted
            if expected > MOST_BYTES:
                raise HTTPException(413, f"the body is larger than {MOST_BYTES >> 20} MB")
            if self.held > BODIES:
                raise HTTPException(503, "too many bodies at once; send it again later", _AGAIN)
            if complete:  # what is waited for now is that the client leaves
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except (TimeoutError, asyncio.TimeoutError):
                raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
            complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            self.held += max(0, size - counted)
            counted = max(counted, size)
            if size > MOST_BYTES:
                raise HTTPException(413, f"the body is larger than {MOST_BYTES >> 20} MB")
            if self.held > BODIES:
                raise HTTPException(503, "too many bodies at once; send it again later", _AGAIN)
            return message

        def done() -> None:
            nonlocal counted
            self.held -= counted
            counted = 0

        return limited, done


class Attempts:
    """Counts wrong tokens per address, for at most so many addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def exhausted(self, address: str) -> bool:
        """Whether an address has sent too many wrong tokens within a minute."""
        since = self._clock() - 60.0
        return sum(then > since for then in self._wrong.get(address, ())) >= ATTEMPTS

    def note(self, address: str) -> None:
        """Note a wrong token."""
        times = self._wrong.setdefault(address, [])
        times[:] = [*times[-ATTEMPTS + 1 :], self._clock()]
        self._wrong.move_to_end(address)
        while len(self._wrong) > _ADDRESSES:
            self._wrong.popitem(last=False)


class Turns:
    """One picture at a time, in a thread to which the inference loop's threads are preferred."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "rmatk web pictures", initializer=_step_back)
        self._waiting = 0
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``. Raises HTTPException where too many wait, or after :meth:`close`."""
        if self._closed:
            raise _ending()
        if self._waiting >= QUEUE:
            raise HTTPException(503, "too many pictures at once; send it again later", _AGAIN)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except asyncio.CancelledError:
            if self._closed:
                raise _ending() from None
            raise
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Drop what waits."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class FewLines(logging.Filter):
    """Lets at most 10 lines per minute pass; says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._start, self._passed, self._dropped = 0.0, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line passes."""
        now = self._clock()
        if now - self._start > 60.0:
            if self._dropped:
                record.msg = f"{record.getMessage()} ({self._dropped} more lines in the minute before)"
                record.args = ()
            self._start, self._passed, self._dropped = now, 0, 0
        self._passed += 1
        self._dropped += self._passed > 10
        return self._passed <= 10


def _ending() -> HTTPException:
    return HTTPException(503, "the server is ending", _AGAIN)


def _step_back() -> None:
    with suppress(OSError, AttributeError):  # Linux: the priority of this thread alone
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
