"""Reads from a pipe with a time limit; another thread can cancel."""

from __future__ import annotations

import io
import os
import select


class TimedPipe(io.RawIOBase):
    """The reading end of a pipe or of standard input; wrap it in ``io.BufferedReader``.

    A read raises ``TimeoutError`` where nothing comes within ``seconds``, and finds the end of the file once
    :meth:`cancel` was called.
    """

    def __init__(self, number: int, seconds: float) -> None:
        super().__init__()
        self._number, self._seconds = number, seconds
        self._woken, self._wake = os.pipe()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` with what is there, once something is."""
        ready, _, _ = select.select([self._number, self._woken], [], [], self._seconds)
        if self._woken in ready:
            return 0
        if not ready:
            raise TimeoutError(f"no picture for {self._seconds:g} s")
        return os.readv(self._number, [buffer])

    def cancel(self) -> None:
        """From another thread: end the read that waits, and all to come."""
        os.write(self._wake, b"\0")

    def close(self) -> None:
        """Close the pipe."""
        if not self.closed:
            for number in (self._number, self._woken, self._wake):
                os.close(number)
        super().close()
