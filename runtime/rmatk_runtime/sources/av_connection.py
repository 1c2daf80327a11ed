"""What cameras of this machine and streams from the network share: one connection that FFmpeg reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources.live import Connection, Picture
from rmatk_runtime.sources.pyav import (
    import_av,
    pixel_ratio,
    reason,
    report_damage,
    to_rgb_array,
    video_streams,
)
from rmatk_runtime.sources.upright import shown_size

if TYPE_CHECKING:
    from av.container import InputContainer

_LOST = "check cable, power and network"


class AvConnection(Connection):
    """What FFmpeg reads; ``seconds`` without a picture are a loss, ``hint`` is for what cannot be opened."""

    def __init__(self, name: str, opener: Callable[[], InputContainer], seconds: float, hint: str) -> None:
        self._av = import_av()
        self._name, self._seconds = name, seconds
        start = time.monotonic()
        try:
            self._container = opener()
        except (self._av.FFmpegError, OSError) as error:
            # From None: FFmpeg's error repeats the address with its password, and --debug prints the chain.
            words = self._words(error, time.monotonic() - start)
            raise SourceError(f"cannot open {name}: {words}", hint) from None
        streams = video_streams(self._container)
        if not streams:
            self._container.close()
            raise SourceError(f"{name} carries no video", "check the address of the stream")
        self._stream = streams[0]
        report_damage(self._stream)
        rate = self._stream.average_rate
        size = self._stream.width, self._stream.height
        self.size = shown_size(size, pixel_ratio(self._stream)) if self._stream.width else None
        self.rate = float(rate) if rate else None

    def _words(self, error: Exception, waited: float) -> str:
        """What went wrong. FFmpeg has other words for each protocol where nothing came in time."""
        if waited >= self._seconds or isinstance(error, self._av.error.ExitError):
            return f"no picture for {self._seconds:g} s: nothing is there, or it accepts and stays silent"
        if isinstance(error, self._av.error.EOFError):
            return "it ends the connection without a picture"
        if isinstance(error, self._av.error.InvalidDataError):
            return "it ends the connection, or what it sends is no video"
        return reason(error)

    def __iter__(self) -> Iterator[Picture | None]:
        """Yield pictures; a packet damaged on its way is passed over, a silence is a loss."""
        last = time.monotonic()
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except self._av.InvalidDataError:
                    pictures = []
                    yield None
                ratio = pixel_ratio(self._stream)
                for picture in pictures:
                    yield None if picture.is_corrupt else partial(to_rgb_array, picture, ratio)
                now = time.monotonic()
                last = now if pictures else last
                if now - last > self._seconds:
                    raise SourceError(f"lost {self._name}: no picture for {self._seconds:g} s", _LOST)
        except (self._av.FFmpegError, OSError) as error:
            silent = isinstance(error, self._av.error.ExitError)
            words = f"no picture for {self._seconds:g} s" if silent else reason(error)
            raise SourceError(f"lost {self._name}: {words}", _LOST) from None
        raise SourceError(f"lost {self._name}: it ended", _LOST)

    def close(self) -> None:
        """Release the camera."""
        self._container.close()
