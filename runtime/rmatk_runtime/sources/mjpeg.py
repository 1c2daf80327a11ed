"""Motion JPEG on standard input: pictures one after another, as camera programs write them.

FFmpeg's reader of such a stream knows that a picture has ended when the next one begins, so each would come a
frame late. Here the end is found in the picture itself, and only those that are taken are decoded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial

import msgspec
import numpy as np

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import SourceError
from rmatk_runtime.pictures.decode import decode_image
from rmatk_runtime.pictures.jpeg_stream import JpegSplitter
from rmatk_runtime.sources.base import Source
from rmatk_runtime.sources.live import Connection, LiveSource, Picture
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.pipe import TimedPipe

NAME = "stdin"

_HINT = "pipe JPEGs into it: gst-launch-1.0 -q v4l2src ! jpegenc ! fdsink | rmatk infer BUNDLE -"
_LONGEST = 64 << 20  # bytes without a whole picture among them, after which it is something else
_CHUNK = 1 << 16


def open_stdin(uri: str, options: SourceOptions) -> Source:
    """``-``: the newest JPEG that came; bytes between them, as of a multipart stream, are passed over.

    Raises:
        SourceError: a terminal, or an option that a pipe does not have.
    """
    options.check("pipe", NAME)
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError(f"{uri} reads JPEGs from standard input, which is a terminal", _HINT)
    once = msgspec.structs.replace(options, reconnect=0)  # a pipe cannot be opened a second time
    # Duplicated, since it is closed with the source, and sys.stdin is not ours to close
    return LiveSource(NAME, partial(PipeConnection, os.dup(sys.stdin.fileno()), options.timeout), once)


class PipeConnection(Connection):
    """JPEGs from the pipe with this file number, until it ends."""

    def __init__(self, number: int, seconds: float) -> None:
        self._pipe = TimedPipe(number, seconds)

    def __iter__(self) -> Iterator[Picture | None]:
        """Yield pictures, None for one that another begins within."""
        empty = True
        try:
            for picture in split_jpegs(iter(partial(self._pipe.read, _CHUNK), b"")):
                empty = False
                yield None if picture is None else partial(_decode, picture)
        except TimeoutError as error:
            raise SourceError(f"lost {NAME}: {error}", _HINT) from None
        if empty:
            raise SourceError(f"{NAME} ended without a JPEG", _HINT)

    def cancel(self) -> None:
        """End the read that waits."""
        self._pipe.cancel()

    def close(self) -> None:
        """Close the pipe."""
        self._pipe.close()


def split_jpegs(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Cut a stream into JPEGs, each as soon as its last byte is there; None for one that is cut short.

    Raises:
        SourceError: megabytes without a JPEG.
    """
    splitter = JpegSplitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)
        if splitter.passed > _LONGEST:
            raise SourceError(f"{NAME} holds no JPEG in {_LONGEST >> 20} MiB", _HINT)
    yield from splitter.end()


def _decode(jpeg: bytes) -> UInt8:
    return np.asarray(decode_image(jpeg, f"a picture from {NAME}"))
