"""Cameras of the machine and streams from the network, through PyAV."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.pyav import import_av, reason, to_rgb_array

if TYPE_CHECKING:
    from av.container import InputContainer

OPEN_SECONDS = 10.0
READ_SECONDS = 10.0

_SECRET = re.compile(r"(?i)((?:user|usr|login|pass|pwd|token|key|auth|secret)\w*=)[^&;/]*")
# UDP loses packets behind routers. No "nobuffer": it throws away what was read while probing, and with it
# the first key frame, or the whole of a short stream.
_RTSP = {"rtsp_transport": "tcp"}


class CameraSource(Source):
    """``0``, ``/dev/video0``, ``v4l2://dev/video0``, ``rtsp://...`` or ``http://...``.

    ``time`` is the capture clock: seconds from the first frame to this one's arrival.
    """

    def __init__(self, uri: str) -> None:
        self._av = import_av()
        self._name = without_credentials(uri)
        try:
            if "://" in uri and not uri.lower().startswith("v4l2://"):
                self._container = self._open_stream(uri)
            else:
                self._container = self._open_device(_device(uri))
        except (self._av.FFmpegError, OSError) as error:
            # From None: FFmpeg's error repeats the address with its password, and --debug prints the chain.
            raise SourceError(
                f"cannot open {self._name}: {reason(error)}",
                "check cable, address and permission: rmatk doctor lists the cameras found",
            ) from None
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise SourceError(f"{self._name} carries no video", "check the address of the stream")
        self._stream = streams[0]
        rate = self._stream.average_rate
        size = (self._stream.width, self._stream.height)
        self.info = SourceInfo(
            name=self._name, size=size, rate=float(rate) if rate else None, frames=None, live=True
        )

    def _open_device(self, device: Path) -> InputContainer:
        if not device.exists():
            found = ", ".join(map(str, sorted(Path("/dev").glob("video*")))) or "none"
            raise SourceError(
                f"no camera at {device}; found: {found}", "plug one in, or try --camera test://"
            )
        container: InputContainer = self._av.open(str(device), format="v4l2")
        return container

    def _open_stream(self, uri: str) -> InputContainer:
        options = _RTSP if uri.lower().startswith("rtsp") else {}
        timeout = (OPEN_SECONDS, READ_SECONDS)
        container: InputContainer = self._av.open(uri, options=options, timeout=timeout)
        return container

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames as they arrive.

        Raises:
            SourceError: the camera or stream was lost.
        """
        start: float | None = None
        index = 0
        try:
            for picture in self._container.decode(self._stream):
                now = time.monotonic()
                start = now if start is None else start
                yield Frame(to_rgb_array(picture), index, now - start, self._name)
                index += 1
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(
                f"lost {self._name} after {index} frames: {reason(error)}", "check cable and network"
            ) from None
        if index == 0:
            raise SourceError(f"{self._name} ended without a picture", "check that the camera is sending")

    def close(self) -> None:
        """Release the camera."""
        self._container.close()


def without_credentials(uri: str) -> str:
    """``uri`` fit for logs: no user, password, token or query.

    Everything up to the last ``@`` goes, since passwords with unescaped ``@`` or ``/`` are common; losing a
    host's name in a rare path with ``@`` is the smaller harm.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    rest = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://" + _SECRET.sub(r"\1...", rest)


def _device(uri: str) -> Path:
    """``0`` -> /dev/video0, ``v4l2://dev/video0`` -> /dev/video0."""
    if uri.isdecimal():
        return Path(f"/dev/video{uri}")
    return Path("/" + uri.partition("://")[2].lstrip("/")) if "://" in uri else Path(uri)
